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
//
// Instructions per symbol at 32 lanes, counted in an emulator: 11 to decode and 10 to
// encode; the portable coder takes 34 and 28. Time has not been measured yet.

#include "host.h"

#if RANS_NEON

#include <arm_neon.h>

namespace rans {
namespace {

typedef uint32x4_t V;

// A set of lanes as one number, found by adding up the weights of its members:
// 512 * size + 16 * sum of 2^k, which is the set's place in the tables below.
const u32 WEIGHTS[4] = {528, 544, 576, 640};
const u32 SETS = 4 * 32 + 16;
RANS_FN u64 bytes_of(u64 set) { return set >> 8; }  // of the words that it moves

// spread: bytes of (4 states, 4 words) that make the states after a refill.
// gather: bytes of 4 states: the set's low words, closed up at the top of eight.
struct Permutations {
    u8 spread[16 * SETS];
    u8 gather[16 * SETS];

    constexpr Permutations() : spread(), gather() {
        for (u32 members = 0; members < 16; ++members) {
            u32 set = 0;
            for (u32 k = 0; k < 4; ++k) set += members >> k & 1 ? WEIGHTS[k] : 0;
            u32 next = 16, place = 8 - (set >> 8);
            for (u32 k = 0; k < 4; ++k) {
                const bool in = members >> k & 1;
                for (u32 b = 0; b < 4; ++b) {
                    u32 from = 4 * k + b;
                    if (in) from = b < 2 ? next++ : from - 2;
                    spread[set + 4 * k + b] = (u8)from;
                }
                if (!in) continue;
                gather[set + place++] = (u8)(4 * k);
                gather[set + place++] = (u8)(4 * k + 1);
            }
        }
    }
};

constexpr Permutations PERMUTATIONS;

// 32-bit numbers of eight lanes, in two registers.
struct Eight {
    V low, high;
};

RANS_FN V all(u32 value) { return vdupq_n_u32(value); }

RANS_FN Eight widen(uint16x8_t v) {
    return {vmovl_u16(vget_low_u16(v)), vmovl_high_u16(v)};
}

RANS_FN Eight load_indexes(const u8 *p) { return widen(vmovl_u8(vld1_u8(p))); }
RANS_FN Eight load_indexes(const i32 *p) {
    const int32x4_t low = vld1q_s32(p), high = vld1q_s32(p + 4);
    return {vreinterpretq_u32_s32(low), vreinterpretq_u32_s32(high)};
}

RANS_FN Eight load_indexes(const u16 *p) { return widen(vld1q_u16(p)); }
RANS_FN Eight load_indexes(const u32 *p) { return {vld1q_u32(p), vld1q_u32(p + 4)}; }

RANS_FN uint8x8_t load_bytes(const u8 *p) { return vld1_u8(p); }
RANS_FN uint8x8_t load_bytes(const i32 *p) {
    const Eight index = load_indexes(p);
    return vmovn_u16(vcombine_u16(vmovn_u32(index.low), vmovn_u32(index.high)));
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

// Four loads into registers of their own, joined afterwards: loads into the lanes of one
// register would wait for each other.
template <class Word>
RANS_FN V gather(const Word *base, u32 a, u32 b, u32 c, u32 d) {
    const uint32x2_t ab = vzip1_u32(vcreate_u32(base[a]), vcreate_u32(base[b]));
    const uint32x2_t cd = vzip1_u32(vcreate_u32(base[c]), vcreate_u32(base[d]));
    return vcombine_u32(ab, cd);
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

// Copies of tables and job in a local object: the compiler knows that storing symbols and
// states does not change them, and keeps them in registers.
template <u32 N, bool WIDE, class Index>
struct Decoder {
    const RansTables t;
    const RansLanes &l;
    const Index *indexes;
    i32 *symbols;
    V mask, weights;
    int32x4_t up, down;  // shifts by P
    bool near;
    uint8x16x4_t below, below_8;  // low and high bytes of t.below, if near

    RANS_FN Decoder(const DecodeJob &job, const Index *from)
        : t(*job.t), l(*job.l), indexes(from),
          symbols(job.symbols), mask(all((1u << job.t->precision) - 1)),
          weights(vld1q_u32(WEIGHTS)), up(vdupq_n_s32(job.t->precision)),
          down(vdupq_n_s32(-job.t->precision)), near(job.t->below), below(), below_8() {
        for (u32 k = 0; k < 4 && near; ++k) {
            const uint8x16x2_t bytes = vld2q_u8((const u8 *)(t.below + 16 * k));
            below.val[k] = bytes.val[0], below_8.val[k] = bytes.val[1];
        }
    }

    RANS_FN V slot_of(V x, V index) const {
        return vbslq_u32(mask, x, vshlq_u32(index, up));
    }

    // The tables' entries of four lanes. Numbers are the low 16 bits, or 8 of `packed`.
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
    RANS_FN V refill(V x, const u8 *&at) const {
        const V need = vcltq_u32(x, all(LOWER));
        const u64 set = vaddvq_u32(vandq_u32(need, weights));
        const uint8x16_t words = vcombine_u8(vld1_u8(at), vdup_n_u8(0));
        const uint8x16x2_t both = {{vreinterpretq_u8_u32(x), words}};
        at += bytes_of(set);
        const uint8x16_t places = vld1q_u8(PERMUTATIONS.spread + set);
        return vreinterpretq_u32_u8(vqtbl2q_u8(both, places));
    }

    // Symbols of eight lanes: minimum - 1 + number.
    RANS_FN void write(const Index *index, uint16x8_t number, i32 *out) const {
        if (near) {
            const uint8x16_t bytes = vcombine_u8(load_bytes(index), vdup_n_u8(0));
            const int16x8_t minimum = vreinterpretq_s16_u8(
                vzip1q_u8(vqtbl4q_u8(below, bytes), vqtbl4q_u8(below_8, bytes)));
            const int16x8_t s = vaddq_s16(minimum, vreinterpretq_s16_u16(number));
            vst1q_s32(out, vmovl_s16(vget_low_s16(s)));
            vst1q_s32(out + 4, vmovl_high_s16(s));
            return;
        }
        const u32 *minimum = (const u32 *)t.minimum;
        const Eight lanes = load_indexes(index), n = widen(number);
        const V low = vaddq_u32(gather(minimum, lanes.low), n.low);
        const V high = vaddq_u32(gather(minimum, lanes.high), n.high);
        vst1q_s32(out, vreinterpretq_s32_u32(vsubq_u32(low, all(1))));
        vst1q_s32(out + 4, vreinterpretq_s32_u32(vsubq_u32(high, all(1))));
    }

    RANS_FN bool take(i64 chunk, const uint16x8_t *number, i32 *out) const {
        const u16 bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
        u32 which = 0;
#pragma GCC unroll 8
        for (u32 v = 0; v < N / 8; ++v) {
            const uint16x8_t zero = vceqzq_u16(number[v]);
            which |= (u32)vaddvq_u16(vandq_u16(zero, vld1q_u16(bits))) << 8 * v;
        }
        return take_escapes(l, chunk, which, out);
    }

    RANS_FN void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        const u8 *at = (const u8 *)(l.words + l.word[run.chunk]);
        const u8 *end = (const u8 *)(l.words + l.word_end[run.chunk]);
        V x[N / 4], entry[N / 4], n[N / 4];
        uint16x8_t number[N / 8];
#pragma GCC unroll 8
        for (u32 v = 0; v < N / 4; ++v) x[v] = vld1q_u32(states + 4 * v);
        i64 i = run.begin;
        // A word for every lane is there, so four can be read for each four lanes.
        for (; i + N <= run.end && end - at >= (i64)(2 * N); i += N) {
            if (__builtin_expect(!indexes_fit(indexes + i, N, (u32)t.count), 0)) break;
#pragma GCC unroll 8
            for (u32 v = 0; v < N / 4; v += 2) {
                const Eight index = load_indexes(indexes + i + 4 * v);
                entry[v] = find(slot_of(x[v], index.low), n[v]);
                entry[v + 1] = find(slot_of(x[v + 1], index.high), n[v + 1]);
            }
            uint16x8_t least = vdupq_n_u16(0xFFFF);
#pragma GCC unroll 8
            for (u32 v = 0; v < N / 8; ++v) {
                number[v] = vuzp1q_u16(vreinterpretq_u16_u32(n[2 * v]),
                                       vreinterpretq_u16_u32(n[2 * v + 1]));
                if (!WIDE) number[v] = vandq_u16(number[v], vdupq_n_u16(0xFF));
                least = vminq_u16(least, number[v]);
                write(indexes + i + 8 * v, number[v], symbols + i + 8 * v);
            }
            if (__builtin_expect(vminvq_u16(least) == 0, 0) &&
                !take(run.chunk, number, symbols + i))
                break;
#pragma GCC unroll 8
            for (u32 v = 0; v < N / 4; ++v) x[v] = step(x[v], entry[v]);
#pragma GCC unroll 8
            for (u32 v = 0; v < N / 4; ++v) x[v] = refill(x[v], at);
        }
#pragma GCC unroll 8
        for (u32 v = 0; v < N / 4; ++v) vst1q_u32(states + 4 * v, x[v]);
        l.word[run.chunk] = (const u16 *)at - l.words;
        run.begin = i;
    }
};

template <u32 N, bool WIDE, class Index>
void decode_with(const DecodeJob &job, const Index *indexes, Run &run) {
    Decoder<N, WIDE, Index>(job, indexes).run(run);
}

void decode(const DecodeJob &job, Run *runs, i32 count) {
    if (count == 2) return;  // 32 registers hold one chunk's lanes and tables
    with_types<u8, i32>(
        job.l->lanes, job.index_bytes, job.indexes, [&](auto n, auto *indexes) {
            if (job.t->packed)
                decode_with<n.value, false>(job, indexes, *runs);
            else
                decode_with<n.value, true>(job, indexes, *runs);
        });
}

// ---- encoding

template <u32 N, class Row>
struct Encoder {
    const EncodeRow *table;
    u32 end;  // of the table
    const RansLanes &l;
    const Row *rows;
    V whole, weights;  // 2^P
    int32x4_t rest;  // shift down by 32 - P

    RANS_FN Encoder(const EncodeJob &job, const Row *from)
        : table(job.t->rows), end(job.t->first[job.t->count]), l(*job.l),
          rows(from), whole(all(1u << job.t->precision)),
          weights(vld1q_u32(WEIGHTS)), rest(vdupq_n_s32(job.t->precision - 32)) {}

    RANS_FN V two_rows(const Row *row) const {
        return vreinterpretq_u32_u8(vcombine_u8(vld1_u8((const u8 *)(table + row[0])),
                                                vld1_u8((const u8 *)(table + row[1]))));
    }

    // Four lanes of a step; their rows are checked.
    RANS_FN V four(V x, const Row *row, u8 *&at) const {
        const V low = two_rows(row), high = two_rows(row + 2);
        const V sf = vuzp1q_u32(low, high), reciprocal = vuzp2q_u32(low, high);
        const V start = vandq_u32(sf, all(0xFFFF)), freq = vshrq_n_u32(sf, 16);
        // x' < 2^32 asks for x < f * 2^(32 - P); a full lane writes its low word
        const V full = vcgeq_u32(vshlq_u32(x, rest), freq);
        const u64 set = vaddvq_u32(vandq_u32(full, weights));
        // Closed up at the top; what else stands in the four is written over later.
        vst1_u8(at - 8, vqtbl1_u8(vreinterpretq_u8_u32(x),
                                  vld1_u8(PERMUTATIONS.gather + set)));
        at -= bytes_of(set);
        x = vbslq_u32(full, vshrq_n_u32(x, 16), x);
        const uint64x2_t even = vmull_u32(vget_low_u32(x), vget_low_u32(reciprocal));
        const uint64x2_t odd = vmull_high_u32(x, reciprocal);
        V q = vuzp2q_u32(vreinterpretq_u32_u64(even), vreinterpretq_u32_u64(odd));
        // The reciprocal is rounded down: the quotient is right or one too small.
        q = vsubq_u32(q, vcgeq_u32(vmlsq_u32(x, q, freq), freq));
        // (x / f) * 2^P + x % f + b, with one multiplication
        return vmlaq_u32(vaddq_u32(x, start), q, vsubq_u32(whole, freq));
    }

    RANS_FN void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        u8 *at = (u8 *)(l.words + l.word[run.chunk]);
        const u8 *last = (const u8 *)(l.words + l.word_end[run.chunk]);
        V x[N / 4];
#pragma GCC unroll 8
        for (u32 v = 0; v < N / 4; ++v) x[v] = vld1q_u32(states + 4 * v);
        i64 i = run.end;
        for (; i - (i64)N >= run.begin && at - last >= (i64)(2 * N); i -= N) {
            if (__builtin_expect(!indexes_fit(rows + i - N, N, end), 0)) break;
#pragma GCC unroll 8
            for (u32 v = 1; v <= N / 4; ++v)
                x[N / 4 - v] = four(x[N / 4 - v], rows + i - 4 * v, at);
        }
#pragma GCC unroll 8
        for (u32 v = 0; v < N / 4; ++v) vst1q_u32(states + 4 * v, x[v]);
        l.word[run.chunk] = (const u16 *)at - l.words;
        run.end = i;
    }
};

template <u32 N, class Row>
void encode_with(const EncodeJob &job, const Row *rows, Run &run) {
    Encoder<N, Row>(job, rows).run(run);
}

void encode(const EncodeJob &job, Run *runs, i32 count) {
    if (count == 2) return;
    with_types<u16, u32>(
        job.l->lanes, job.row_bytes, job.rows,
        [&](auto n, auto *rows) { encode_with<n.value>(job, rows, *runs); });
}

// row = first + symbol - minimum + 1 = base + symbol, if minimum <= symbol <= maximum
template <class Index>
i64 find_rows(RowsJob &job, i64 i, i64 end) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
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
        if (job.row_bytes == 2)
            vst1_u16((u16 *)job.rows + i, vmovn_u32(row));
        else
            vst1q_u32((u32 *)job.rows + i, row);
    }
    return i;
}

i64 rows(RowsJob &job, i64 begin, i64 end) {
    return job.index_bytes == 1 ? find_rows<u8>(job, begin, end)
                                : find_rows<i32>(job, begin, end);
}

}  // namespace

// The portable coder does priors, folded tables and costs.
const Kernels NEON = {8, decode, encode, rows, 0, 0, 0, 0, 0, false};

}  // namespace rans

#endif
