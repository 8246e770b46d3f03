// SPDX-License-Identifier: Apache-2.0
//
// The coder for AArch64, whose processors all have NEON: four lanes a register.
//
//   slot   x[32 .. P) | index << P    vector
//   entry  table[slot]                four loads: NEON cannot gather
//   state  freq * (x >> P) + bias     vector
//   refill                            one permutation of bytes of (state, next words),
//                                     chosen by the set of lanes that take a word
//
// All lanes of a step pass one stage before the next stage begins: each stage then has
// many chains side by side, which processors with short windows need to hide loads.

#include "rans_host.h"

#if RANS_NEON

#include <arm_neon.h>

namespace rans {
namespace {

typedef uint32x4_t V;

// A set of lanes as one number, found by adding up the weights of its members:
// 32 * size + sum of 2^k. It is a set's place in the tables below.
const u32 SETS = 4 * 32 + 16;
const u32 WEIGHTS[4] = {33, 34, 36, 40};
RANS_FN u32 size_of(u32 set) { return set >> 5; }

// spread[set]: bytes of (4 states, 4 words) that make the states after a refill.
// gather[set]: bytes of 4 states: the set's low words, closed up at the top.
struct Permutations {
    u8 spread[SETS][16];
    u8 gather[SETS][8];

    constexpr Permutations() : spread(), gather() {
        for (u32 members = 0; members < 16; ++members) {
            u32 set = 0;
            for (u32 k = 0; k < 4; ++k) set += members >> k & 1 ? WEIGHTS[k] : 0;
            u32 rank = 0, place = 4 - (set >> 5);
            for (u32 k = 0; k < 4; ++k) {
                const bool in = members >> k & 1;
                for (u32 b = 0; b < 4; ++b) {
                    u32 from = 4 * k + b;
                    if (in) from = b < 2 ? 16 + 2 * rank + b : from - 2;
                    spread[set][4 * k + b] = (u8)from;
                }
                if (!in) continue;
                gather[set][2 * place] = (u8)(4 * k);
                gather[set][2 * place + 1] = (u8)(4 * k + 1);
                ++rank, ++place;
            }
        }
    }
};

constexpr Permutations PERMUTATIONS;

// What of eight lanes takes two registers.
struct Eight {
    V low, high;
};

RANS_FN V all(u32 value) { return vdupq_n_u32(value); }

RANS_FN Eight widen(uint16x8_t v) {
    return {vmovl_u16(vget_low_u16(v)), vmovl_high_u16(v)};
}

RANS_FN Eight load_indexes(const u8 *p) { return widen(vmovl_u8(vld1_u8(p))); }
RANS_FN Eight load_indexes(const i32 *p) {
    return {vreinterpretq_u32_s32(vld1q_s32(p)), vreinterpretq_u32_s32(vld1q_s32(p + 4))};
}

template <class Index>
RANS_FN bool indexes_fit(const Index *p, u32 n, u32 count) {
    V largest = all(0);
    for (u32 k = 0; k < n; k += 8) {
        const Eight index = load_indexes(p + k);
        largest = vmaxq_u32(largest, vmaxq_u32(index.low, index.high));
    }
    return vmaxvq_u32(largest) < count;
}

RANS_FN bool indexes_fit(const u8 *p, u32 n, u32 count) {
    uint8x8_t largest = vdup_n_u8(0);
    for (u32 k = 0; k < n; k += 8) largest = vmax_u8(largest, vld1_u8(p + k));
    return vmaxv_u8(largest) < count;
}

// Four loads, each into a register of its own, and joined there: loads into a lane
// would wait for each other.
RANS_FN V join(V a, V b, V c, V d) {
    const V ab = vzip1q_u32(a, b), cd = vzip1q_u32(c, d);
    return vreinterpretq_u32_u64(
        vzip1q_u64(vreinterpretq_u64_u32(ab), vreinterpretq_u64_u32(cd)));
}

template <class Word>
RANS_FN V gather(const Word *base, u32 a, u32 b, u32 c, u32 d) {
    const V first = {base[a], 0, 0, 0}, second = {base[b], 0, 0, 0};
    const V third = {base[c], 0, 0, 0}, fourth = {base[d], 0, 0, 0};
    return join(first, second, third, fourth);
}

// Two moves out of a vector are cheaper than four.
struct Four {
    u32 a, b, c, d;
};

RANS_FN Four numbers_of(V v) {
    const uint64x2_t pairs = vreinterpretq_u64_u32(v);
    const u64 ab = vgetq_lane_u64(pairs, 0), cd = vgetq_lane_u64(pairs, 1);
    return {(u32)ab, (u32)(ab >> 32), (u32)cd, (u32)(cd >> 32)};
}

template <class Word>
RANS_FN V gather(const Word *base, V index) {
    const Four at = numbers_of(index);
    return gather(base, at.a, at.b, at.c, at.d);
}

// ---- decoding

template <bool WIDE, class Index>
struct Decoder {
    const RansTables &t;
    const RansLanes &l;
    const Index *indexes;
    i32 *symbols;
    V mask, weights;
    int32x4_t up, down;           // shifts by P
    uint8x16x4_t below, below_8;  // low and high bytes of t.below, if it is there

    Decoder(const DecodeJob &job)
        : t(*job.t), l(*job.l), indexes((const Index *)job.indexes),
          symbols(job.symbols), mask(all((1u << job.t->precision) - 1)),
          weights(vld1q_u32(WEIGHTS)), up(vdupq_n_s32(job.t->precision)),
          down(vdupq_n_s32(-job.t->precision)), below(), below_8() {
        for (u32 k = 0; k < 4 && t.below; ++k) {
            const uint8x16x2_t bytes = vld2q_u8((const u8 *)(t.below + 16 * k));
            below.val[k] = bytes.val[0], below_8.val[k] = bytes.val[1];
        }
    }

    RANS_FN V slot_of(V x, V index) const {
        return vbslq_u32(mask, x, vshlq_u32(index, up));
    }

    // What the tables say of four lanes; number: in the low 16 bits, `packed` has
    // more above them.
    RANS_FN V find(V slot, V &number) const {
        if (!WIDE) return number = gather(t.packed, slot);
        const Four at = numbers_of(slot);
        number = gather(t.numbers, at.a, at.b, at.c, at.d);
        return gather(t.wide, at.a, at.b, at.c, at.d);
    }

    // x = f * (x / 2^P) + r - b = (f - 1) * q + (q + bias)
    RANS_FN V step(V x, V entry) const {
        const V more = WIDE ? vandq_u32(entry, all(0xFFFF))
                            : vshrq_n_u32(vshlq_n_u32(entry, 12), 20);
        const V bias = WIDE ? vshrq_n_u32(entry, 16) : vshrq_n_u32(entry, 20);
        const V q = vshlq_u32(x, down);
        return vmlaq_u32(vaddq_u32(q, bias), more, q);
    }

    // x < 2^16: x = x * 2^16 + word
    RANS_FN V refill(V x, const u16 *&at) const {
        const V need = vcltq_u32(x, all(LOWER));
        const u32 set = vaddvq_u32(vandq_u32(need, weights));
        const uint8x16_t words = vcombine_u8(vld1_u8((const u8 *)at), vdup_n_u8(0));
        const uint8x16x2_t both = {{vreinterpretq_u8_u32(x), words}};
        at += size_of(set);
        return vreinterpretq_u32_u8(vqtbl2q_u8(both, vld1q_u8(PERMUTATIONS.spread[set])));
    }

    RANS_FN void write(const Index *index, uint16x8_t number, i32 *out) const {
        const Eight lanes = load_indexes(index);
        if (t.below) {
            const uint8x8_t bytes = vmovn_u16(vmovn_high_u32(vmovn_u32(lanes.low), lanes.high));
            const uint8x8_t low = vqtbl4_u8(below, bytes), high = vqtbl4_u8(below_8, bytes);
            const int16x8_t minimum = vreinterpretq_s16_u8(
                vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high)));
            const int16x8_t s = vaddq_s16(minimum, vreinterpretq_s16_u16(number));
            vst1q_s32(out, vmovl_s16(vget_low_s16(s)));
            vst1q_s32(out + 4, vmovl_high_s16(s));
            return;
        }
        const u32 *minimum = (const u32 *)t.minimum;
        const Eight n = widen(number);
        const V low = vaddq_u32(gather(minimum, lanes.low), vsubq_u32(n.low, all(1)));
        const V high = vaddq_u32(gather(minimum, lanes.high), vsubq_u32(n.high, all(1)));
        vst1q_s32(out, vreinterpretq_s32_u32(low));
        vst1q_s32(out + 4, vreinterpretq_s32_u32(high));
    }

    template <u32 N>
    RANS_FN bool take(i64 chunk, const uint16x8_t *number, i32 *out) const {
        const u16 bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
        u32 which = 0;
        for (u32 v = 0; v < N / 8; ++v) {
            const uint16x8_t zero = vceqzq_u16(number[v]);
            which |= (u32)vaddvq_u16(vandq_u16(zero, vld1q_u16(bits))) << 8 * v;
        }
        return take_escapes(l, chunk, which, out);
    }

    template <u32 N>
    void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        const u16 *at = l.words + l.word[run.chunk];
        const u16 *end = l.words + l.word_end[run.chunk];
        V x[N / 4], entry[N / 4], n[N / 4];
        uint16x8_t number[N / 8];
        for (u32 v = 0; v < N / 4; ++v) x[v] = vld1q_u32(states + 4 * v);
        i64 i = run.begin;
        // A word for every lane is there, so four can be read for each four lanes.
        for (; i + N <= run.end && end - at >= (i64)N; i += N) {
            if (__builtin_expect(!indexes_fit(indexes + i, N, (u32)t.count), 0)) break;
            for (u32 v = 0; v < N / 4; v += 2) {
                const Eight index = load_indexes(indexes + i + 4 * v);
                entry[v] = find(slot_of(x[v], index.low), n[v]);
                entry[v + 1] = find(slot_of(x[v + 1], index.high), n[v + 1]);
            }
            uint16x8_t least = vdupq_n_u16(0xFFFF);
            for (u32 v = 0; v < N / 8; ++v) {
                number[v] = vuzp1q_u16(vreinterpretq_u16_u32(n[2 * v]),
                                       vreinterpretq_u16_u32(n[2 * v + 1]));
                if (!WIDE) number[v] = vandq_u16(number[v], vdupq_n_u16(0xFF));
                least = vminq_u16(least, number[v]);
                write(indexes + i + 8 * v, number[v], symbols + i + 8 * v);
            }
            if (__builtin_expect(vminvq_u16(least) == 0, 0) &&
                !take<N>(run.chunk, number, symbols + i))
                break;
            for (u32 v = 0; v < N / 4; ++v) x[v] = step(x[v], entry[v]);
            for (u32 v = 0; v < N / 4; ++v) x[v] = refill(x[v], at);
        }
        for (u32 v = 0; v < N / 4; ++v) vst1q_u32(states + 4 * v, x[v]);
        l.word[run.chunk] = at - l.words;
        run.begin = i;
    }
};

template <bool WIDE, class Index>
void decode_with(const DecodeJob &job, Run &run) {
    const Decoder<WIDE, Index> decoder(job);
    if (job.l->lanes == 32) return decoder.template run<32>(run);
    if (job.l->lanes == 16) return decoder.template run<16>(run);
    decoder.template run<8>(run);
}

template <class Index>
void decode_tables(const DecodeJob &job, Run &run) {
    if (job.t->packed)
        decode_with<false, Index>(job, run);
    else
        decode_with<true, Index>(job, run);
}

void decode(const DecodeJob &job, Run *runs, i32 count) {
    if (count == 2) return;  // 32 registers hold one chunk's lanes and tables
    if (job.index_bytes == 1)
        decode_tables<u8>(job, *runs);
    else
        decode_tables<i32>(job, *runs);
}

// ---- encoding

struct Encoder {
    const RansTables &t;
    const RansLanes &l;
    const u32 *rows;
    V whole, weights;    // 2^P
    int32x4_t rest;  // shift down by 32 - P

    Encoder(const EncodeJob &job)
        : t(*job.t), l(*job.l), rows(job.rows), whole(all(1u << job.t->precision)),
          weights(vld1q_u32(WEIGHTS)), rest(vdupq_n_s32(job.t->precision - 32)) {}

    RANS_FN V two_rows(const u32 *row) const {
        return vreinterpretq_u32_u8(vcombine_u8(vld1_u8((const u8 *)(t.rows + row[0])),
                                                vld1_u8((const u8 *)(t.rows + row[1]))));
    }

    // Four lanes of a step; their rows are checked.
    RANS_FN V four(V x, const u32 *row, u16 *&at) const {
        const V low = two_rows(row), high = two_rows(row + 2);
        const V sf = vuzp1q_u32(low, high), reciprocal = vuzp2q_u32(low, high);
        const V start = vandq_u32(sf, all(0xFFFF)), freq = vshrq_n_u32(sf, 16);
        // x' < 2^32 asks for x < f * 2^(32 - P); a full lane writes its low word
        const V full = vcgeq_u32(vshlq_u32(x, rest), freq);
        const u32 set = vaddvq_u32(vandq_u32(full, weights));
        // Closed up at the top; what else stands in the four is written over later.
        vst1_u8((u8 *)(at - 4), vqtbl1_u8(vreinterpretq_u8_u32(x),
                                          vld1_u8(PERMUTATIONS.gather[set])));
        at -= size_of(set);
        x = vbslq_u32(full, vshrq_n_u32(x, 16), x);
        const uint64x2_t even = vmull_u32(vget_low_u32(x), vget_low_u32(reciprocal));
        const uint64x2_t odd = vmull_high_u32(x, reciprocal);
        V q = vuzp2q_u32(vreinterpretq_u32_u64(even), vreinterpretq_u32_u64(odd));
        // The reciprocal is rounded down: the quotient is right or one too small.
        q = vsubq_u32(q, vcgeq_u32(vmlsq_u32(x, q, freq), freq));
        // (x / f) * 2^P + x % f + b, with one multiplication
        return vmlaq_u32(vaddq_u32(x, start), q, vsubq_u32(whole, freq));
    }

    template <u32 N>
    void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        u16 *at = l.words + l.word[run.chunk];
        const u16 *end = l.words + l.word_end[run.chunk];
        V x[N / 4];
        for (u32 v = 0; v < N / 4; ++v) x[v] = vld1q_u32(states + 4 * v);
        i64 i = run.end;
        for (; i - (i64)N >= run.begin && at - end >= (i64)N; i -= N) {
            const i32 *step = (const i32 *)(rows + i - N);
            if (__builtin_expect(!indexes_fit(step, N, t.first[t.count]), 0)) break;
            for (u32 v = N / 4; v-- > 0;) x[v] = four(x[v], rows + i - N + 4 * v, at);
        }
        for (u32 v = 0; v < N / 4; ++v) vst1q_u32(states + 4 * v, x[v]);
        l.word[run.chunk] = at - l.words;
        run.end = i;
    }
};

void encode(const EncodeJob &job, Run *runs, i32 count) {
    if (count == 2) return;
    const Encoder encoder(job);
    if (job.l->lanes == 32) return encoder.run<32>(*runs);
    if (job.l->lanes == 16) return encoder.run<16>(*runs);
    encoder.run<8>(*runs);
}

// row = first + symbol - minimum + 1 = base + symbol, if minimum <= symbol <= maximum
template <class Index>
i64 find_rows(RowsJob &job, i64 i, i64 end) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
    u64 cost = 0;
    for (; i + 4 <= end; i += 4) {
        const Index *at = indexes + i;
        const u32 a = (u32)at[0], b = (u32)at[1], c = (u32)at[2], d = (u32)at[3];
        const u32 count = (u32)t.count;
        if (a >= count || b >= count || c >= count || d >= count) break;
        const V symbol = vreinterpretq_u32_s32(vld1q_s32(job.symbols + i));
        const V range = gather(t.range, a, b, c, d);
        const V minimum = vreinterpretq_u32_s32(
            vshrq_n_s32(vreinterpretq_s32_u32(vshlq_n_u32(range, 16)), 16));
        const V above = vsubq_u32(symbol, minimum);
        if (vmaxvq_u32(vcgeq_u32(above, vshrq_n_u32(range, 16)))) break;
        const V row = vaddq_u32(gather(t.base, a, b, c, d), symbol);
        vst1q_u32(job.rows + i, row);
        const Four r = numbers_of(row);
        cost += (u32)t.costs[r.a] + t.costs[r.b] + t.costs[r.c] + t.costs[r.d];
    }
    job.cost += cost;
    return i;
}

i64 rows(RowsJob &job, i64 begin, i64 end) {
    return job.index_bytes == 1 ? find_rows<u8>(job, begin, end)
                                : find_rows<i32>(job, begin, end);
}

}  // namespace

// Priors are left to the portable coder.
const Kernels NEON = {8, decode, encode, rows, 0, 0, 0, 0};

}  // namespace rans

#endif
