// SPDX-License-Identifier: Apache-2.0
//
// Decoding with AVX-512.
//
// The operations of a step depend on each other, so the length of that chain decides. A
// chunk's 32 states are kept as two registers of 16-bit halves, in lane order:
//
//   H = x >> 16, L = x mod 2^16          32 lanes each
//   A = lanes 0, 2, 4 ..., B = lanes 1, 3, 5 ... as 32 bits, made from H and L by shifts
//
// "x < 2^16" is then H == 0 for all lanes in one instruction, the lanes' words come with
// one expansion, and "x = x * 2^16 + word" only moves: H = L, L = word. With fewer lanes
// the upper ones are idle: masked out of all reads and writes.

#include "avx512.h"

#if RANS_X86

namespace rans {
namespace {

// (a & mask) | b
INLINE V merge(V a, V mask, V b) { return _mm512_ternarylogic_epi32(a, mask, b, 0xEA); }

INLINE V join(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// 32 numbers of 32 bits to 16, in order.
INLINE V narrow(V first, V second) {
    return join(_mm512_cvtepi32_epi16(first), _mm512_cvtepi32_epi16(second));
}

INLINE u32 lowest_bits(i64 count) {
    return count >= 32 ? 0xFFFFFFFFu : (1u << count) - 1;
}

struct Reader {
    V high, low;  // halves of the states
    const u16 *at, *end;
    i64 i, last;  // next symbol; the last place where a whole step begins
    i64 chunk;
};

INLINE Reader open_reader(const RansLanes &l, const Run &run) {
    const u32 *states = l.states + run.chunk * l.lanes;
    const u32 on = lowest_bits(l.lanes);
    const V first = _mm512_maskz_loadu_epi32((__mmask16)on, states);
    const V second = _mm512_maskz_loadu_epi32((__mmask16)(on >> 16), states + 16);
    Reader r;
    r.high = narrow(_mm512_srli_epi32(first, 16), _mm512_srli_epi32(second, 16));
    r.low = narrow(first, second);
    r.at = l.words + l.word[run.chunk];
    r.end = l.words + l.word_end[run.chunk];
    r.i = run.begin;
    r.last = run.end - l.lanes;
    r.chunk = run.chunk;
    return r;
}

INLINE void close_reader(const RansLanes &l, const Reader &r, Run &run) {
    u32 *states = l.states + run.chunk * l.lanes;
    const u32 on = lowest_bits(l.lanes);
    const V even = merge(r.low, all(0xFFFF), _mm512_slli_epi32(r.high, 16));
    const V odd = merge(r.high, all(0xFFFF0000), _mm512_srli_epi32(r.low, 16));
    const V order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const V first = _mm512_permutex2var_epi32(even, order, odd);
    const V second =
        _mm512_permutex2var_epi32(even, _mm512_add_epi32(order, all(8)), odd);
    _mm512_mask_storeu_epi32(states, (__mmask16)on, first);
    _mm512_mask_storeu_epi32(states + 16, (__mmask16)(on >> 16), second);
    l.word[run.chunk] = r.at - l.words;
    run.begin = r.i;
}

// Indexes of 32 lanes, 16 bits each; `wrong` is not 0 if one has no table.
INLINE V load_indexes(const u8 *indexes, u32 on, u32 count, u32 &wrong) {
    const __m256i bytes = _mm256_maskz_loadu_epi8(on, indexes);
    const u32 largest = count > 256 ? 255 : count - 1;
    wrong = _mm256_cmpgt_epu8_mask(bytes, _mm256_set1_epi8((char)largest));
    return _mm512_cvtepu8_epi16(bytes);
}

INLINE V load_indexes(const i32 *indexes, u32 on, u32 count, u32 &wrong) {
    const V first = _mm512_maskz_loadu_epi32((__mmask16)on, indexes);
    const V second = _mm512_maskz_loadu_epi32((__mmask16)(on >> 16), indexes + 16);
    wrong = _mm512_cmpge_epu32_mask(first, all(count)) |
            _mm512_cmpge_epu32_mask(second, all(count));
    return narrow(first, second);
}

// host.h's `packed`; `wide` and `numbers`; `folded` and `splits`, which is SMALL.
enum Layout { PACKED, WIDE, FOLDED };

// What a pass needs at each step. SMALL: 64 tables at most, `below` in two registers.
// Members copy what tables and lanes say: the compiler must assume that storing symbols
// changes those, and would read them again at each step.
template <Layout LAYOUT, bool SMALL, class Index>
struct Decoder {
    const RansLanes &l;
    const u32 *entries;
    const u16 *numbers;
    const i32 *minimum;
    const Index *indexes;
    i32 *symbols;
    u32 count, on;  // tables, lanes as bits
    i64 lanes;
    __m128i precision;
    V mask, below0, below1, split0, split1;

    // Freq - 1, bias and slot number of 16 lanes, each in 32 bits.
    INLINE void find(V slot, __mmask16 lanes, V &more, V &bias, V &number) const {
        const V zero = _mm512_setzero_si512();
        if (LAYOUT == WIDE) {
            const V e = _mm512_mask_i32gather_epi32(zero, lanes, slot, entries, 4);
            more = _mm512_and_si512(e, all(0xFFFF));
            bias = _mm512_srli_epi32(e, 16);
            number = _mm512_mask_i32gather_epi32(zero, lanes, slot, numbers, 2);
        } else {
            const V e = _mm512_mask_i32gather_epi32(zero, lanes, slot, entries, 4);
            more = _mm512_and_si512(_mm512_srli_epi32(e, 8), all(0xFFF));
            bias = _mm512_srli_epi32(e, 20);
            number = _mm512_and_si512(e, all(0xFF));
        }
    }

    INLINE void store(i64 i, V number, V index) const {
        V first, second;
        if (SMALL) {
            const V sum = _mm512_add_epi16(
                number, _mm512_permutex2var_epi16(below0, index, below1));
            first = _mm512_cvtepi16_epi32(low_half(sum));
            second = _mm512_cvtepi16_epi32(high_half(sum));
        } else {
            const V zero = _mm512_setzero_si512();
            const V table0 = _mm512_cvtepu16_epi32(low_half(index));
            const V table1 = _mm512_cvtepu16_epi32(high_half(index));
            first = _mm512_mask_i32gather_epi32(zero, (__mmask16)on, table0, minimum, 4);
            second = _mm512_mask_i32gather_epi32(zero, (__mmask16)(on >> 16), table1,
                                                 minimum, 4);
            first = _mm512_add_epi32(first, _mm512_cvtepu16_epi32(low_half(number)));
            second = _mm512_add_epi32(second, _mm512_cvtepu16_epi32(high_half(number)));
            first = _mm512_sub_epi32(first, all(1));
            second = _mm512_sub_epi32(second, all(1));
        }
        _mm512_mask_storeu_epi32(symbols + i, (__mmask16)on, first);
        _mm512_mask_storeu_epi32(symbols + i + 16, (__mmask16)(on >> 16), second);
    }

    // Code one step; or change nothing and return false.
    INLINE bool step(Reader &r) const {
        const V low16 = all(0xFFFF), high16 = all(0xFFFF0000);
        u32 wrong;
        const V index = load_indexes(indexes + r.i, on, count, wrong);
        if (__builtin_expect(wrong != 0, 0)) return false;
        // r = x mod 2^P; its slot in the tables: index * 2^P + r
        const V table_a = _mm512_sll_epi32(_mm512_and_si512(index, low16), precision);
        const V table_b = _mm512_sll_epi32(_mm512_srli_epi32(index, 16), precision);
        const V low_b = _mm512_srli_epi32(r.low, 16);
        const V slot_a = merge(r.low, mask, table_a), slot_b = merge(low_b, mask, table_b);
        // Lanes in pairs: half as many in A and in B.
        const __mmask16 pairs = (__mmask16)_pext_u32(on, 0x55555555u);
        V more_a, more_b, bias_a, bias_b, number_a, number_b;
        find(slot_a, pairs, more_a, bias_a, number_a);
        find(slot_b, pairs, more_b, bias_b, number_b);
        // x = f * (x / 2^P) + r - b = (f - 1) * q + (q + bias)
        const V q_a = _mm512_srl_epi32(
            merge(r.low, low16, _mm512_slli_epi32(r.high, 16)), precision);
        const V q_b = _mm512_srl_epi32(merge(r.high, high16, low_b), precision);
        const V a = _mm512_add_epi32(_mm512_mullo_epi32(more_a, q_a),
                                     _mm512_add_epi32(q_a, bias_a));
        const V b = _mm512_add_epi32(_mm512_mullo_epi32(more_b, q_b),
                                     _mm512_add_epi32(q_b, bias_b));
        const V high = merge(b, high16, _mm512_srli_epi32(a, 16));
        const V low = merge(a, low16, _mm512_slli_epi32(b, 16));
        // x < 2^16: x = x * 2^16 + word
        const __mmask32 need = _mm512_testn_epi16_mask(high, high) & on;
        const i64 taken = __builtin_popcount(need), left = r.end - r.at;
        if (__builtin_expect(taken > left, 0)) return false;
        V number = merge(number_a, low16, _mm512_slli_epi32(number_b, 16));
        if (LAYOUT == FOLDED) {
            const V split = _mm512_permutex2var_epi16(split0, index, split1);
            const V r16 =
                _mm512_and_si512(r.low, _mm512_or_si512(mask, _mm512_slli_epi32(mask, 16)));
            number = _mm512_mask_add_epi16(number, _mm512_cmpge_epu16_mask(r16, split),
                                           number, _mm512_set1_epi16(256));
        }
        store(r.i, number, index);
        const u32 escaped = _mm512_testn_epi16_mask(number, number) & on;
        if (__builtin_expect(escaped != 0, 0) &&
            !take_escapes(l, r.chunk, escaped, symbols + r.i))
            return false;
        const V words = _mm512_maskz_loadu_epi16(lowest_bits(left), r.at);
        r.high = _mm512_mask_mov_epi16(high, need, low);
        r.low = _mm512_mask_expand_epi16(low, need, words);
        r.at += taken;
        r.i += lanes;
        return true;
    }

    TARGET void one(Run &run) const {
        Reader r = open_reader(l, run);
        while (r.i <= r.last && step(r)) {
        }
        close_reader(l, r, run);
    }

    // Two chunks: one computes while the other waits for its tables.
    TARGET void two(Run *runs) const {
        Reader r = open_reader(l, runs[0]), s = open_reader(l, runs[1]);
        while (r.i <= r.last && s.i <= s.last && step(r) && step(s)) {
        }
        close_reader(l, r, runs[0]);
        close_reader(l, s, runs[1]);
    }
};

// The high halves of 64 numbers of 32 bits, 32 of them from `from`.
INLINE V high_halves(const u32 *from) {
    return narrow(_mm512_srli_epi32(_mm512_loadu_si512(from), 16),
                  _mm512_srli_epi32(_mm512_loadu_si512(from + 16), 16));
}

template <Layout LAYOUT, bool SMALL, class Index>
TARGET void decode_with(const DecodeJob &job, Run *runs, i32 count) {
    const RansTables &t = *job.t;
    const V zero = _mm512_setzero_si512();
    const Decoder<LAYOUT, SMALL, Index> decoder = {
        *job.l,
        LAYOUT == WIDE ? t.wide : LAYOUT == FOLDED ? t.folded : t.packed,
        t.numbers,
        t.minimum,
        (const Index *)job.indexes,
        job.symbols,
        (u32)t.count,
        lowest_bits(job.l->lanes),
        job.l->lanes,
        _mm_cvtsi32_si128(t.precision),
        all((1u << t.precision) - 1),
        SMALL ? _mm512_loadu_si512(t.below) : zero,
        SMALL ? _mm512_loadu_si512(t.below + 32) : zero,
        LAYOUT == FOLDED ? high_halves(t.splits) : zero,
        LAYOUT == FOLDED ? high_halves(t.splits + 32) : zero};
    if (count == 2)
        decoder.two(runs);
    else
        decoder.one(runs[0]);
}

template <Layout LAYOUT, class Index>
void decode_indexes(const DecodeJob &job, Run *runs, i32 count) {
    if (job.t->below)
        decode_with<LAYOUT, true, Index>(job, runs, count);
    else
        decode_with<LAYOUT, false, Index>(job, runs, count);
}

}  // namespace

void decode_avx512(const DecodeJob &job, Run *runs, i32 count) {
    const bool bytes = job.index_bytes == 1;
    if (job.t->packed)
        bytes ? decode_indexes<PACKED, u8>(job, runs, count)
              : decode_indexes<PACKED, i32>(job, runs, count);
    else if (job.t->folded)
        bytes ? decode_with<FOLDED, true, u8>(job, runs, count)
              : decode_with<FOLDED, true, i32>(job, runs, count);
    else if (job.t->wide)
        bytes ? decode_indexes<WIDE, u8>(job, runs, count)
              : decode_indexes<WIDE, i32>(job, runs, count);
}

}  // namespace rans

#endif
