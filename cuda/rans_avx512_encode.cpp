// SPDX-License-Identifier: Apache-2.0
//
// Encoding with AVX-512: first the table row of every symbol, then the states.
//
// The chains are short here and there is much to do: what counts is the number of table
// reads. A row is 8 bytes and read at once; the tables' own few numbers stay in
// registers while there are 64 tables at most. States are 32 bits in lane order.

#include "rans_avx512.h"

#if RANS_X86

namespace rans {
namespace {

// A step's 16 lanes on their way.
struct Sixteen {
    V x, start, freq, reciprocal;
    __mmask16 full;
};

struct Writer {
    V x[2];  // states; the second half is idle with 16 lanes and less
    u16 *at, *end;
    i64 i, first;  // end of the next step; the lowest place where a whole step ends
};

template <u32 N>
struct Encoder {
    static const u32 PARTS = (N + 15) / 16;
    const RansTables &t;
    const RansLanes &l;
    const u32 *rows;
    __m128i precision, rest;  // P, 32 - P
    V whole;                  // 2^P

    static INLINE __mmask16 on() { return N < 16 ? (1u << (N & 15)) - 1 : 0xFFFF; }

    INLINE Writer open(const Run &run) const {
        const u32 *states = l.states + run.chunk * N;
        Writer w;
        w.x[0] = _mm512_maskz_loadu_epi32(on(), states);
        w.x[1] = PARTS == 2 ? _mm512_loadu_si512(states + 16) : w.x[0];
        w.at = l.words + l.word[run.chunk];
        w.end = l.words + l.word_end[run.chunk];
        w.i = run.end;
        w.first = run.begin + N;
        return w;
    }

    INLINE void close(const Writer &w, Run &run) const {
        u32 *states = l.states + run.chunk * N;
        _mm512_mask_storeu_epi32(states, on(), w.x[0]);
        if (PARTS == 2) _mm512_storeu_si512(states + 16, w.x[1]);
        l.word[run.chunk] = w.at - l.words;
        run.end = w.i;
    }

    // The 8-byte rows of 16 lanes: one read for each. `wrong`: one does not exist.
    INLINE Sixteen read(const u32 *row, V x, u32 &wrong) const {
        const V zero = _mm512_setzero_si512();
        const V number = _mm512_maskz_loadu_epi32(on(), row);
        wrong |= _mm512_cmpge_epu32_mask(number, all(t.first[t.count]));
        if (__builtin_expect(wrong != 0, 0)) return Sixteen();
        const V e0 = _mm512_i32gather_epi64(low_half(number), t.rows, 8);
        const V e1 = N < 16 ? zero : _mm512_i32gather_epi64(high_half(number), t.rows, 8);
        const V even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        const V sf = _mm512_permutex2var_epi32(e0, even, e1);
        Sixteen s;
        s.x = x;
        s.reciprocal =
            _mm512_permutex2var_epi32(e0, _mm512_or_si512(even, all(1)), e1);
        s.start = _mm512_and_si512(sf, all(0xFFFF));
        s.freq = _mm512_srli_epi32(sf, 16);
        // x' < 2^32 asks for x < f * 2^(32 - P)
        s.full = _mm512_mask_cmpge_epu32_mask(on(), _mm512_srl_epi32(x, rest), s.freq);
        return s;
    }

    // Full lanes write their low words, the highest lane at the highest address.
    INLINE void spill(Sixteen &s, u16 *&at) const {
        const u32 count = (u32)__builtin_popcount(s.full);
        const __m256i words =
            _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(s.full, s.x));
        at -= count;
        _mm256_mask_storeu_epi16(at, (__mmask16)((1u << count) - 1), words);
        s.x = _mm512_mask_srli_epi32(s.x, s.full, s.x, 16);
    }

    // x = (x / f) * 2^P + x % f + b
    INLINE V code(const Sixteen &s) const {
        const V odd_x = _mm512_srli_epi64(s.x, 32);
        const V odd_r = _mm512_srli_epi64(s.reciprocal, 32);
        const V even = _mm512_srli_epi64(_mm512_mul_epu32(s.x, s.reciprocal), 32);
        const V q = _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_mul_epu32(odd_x, odd_r));
        // The reciprocal is rounded down: the quotient is right or one too small.
        const V left = _mm512_sub_epi32(s.x, _mm512_mullo_epi32(q, s.freq));
        const V sum = _mm512_add_epi32(_mm512_add_epi32(left, s.start),
                                       _mm512_sll_epi32(q, precision));
        const __mmask16 more = _mm512_cmpge_epu32_mask(left, s.freq);
        return _mm512_mask_add_epi32(sum, more, sum, _mm512_sub_epi32(whole, s.freq));
    }

    // One step, downwards; false: not done, and nothing changed.
    INLINE bool step(Writer &w) const {
        const u32 *row = rows + w.i - N;
        u32 wrong = 0;
        Sixteen low = read(row, w.x[0], wrong), high = low;
        if (PARTS == 2) high = read(row + 16, w.x[1], wrong);
        if (__builtin_expect(wrong != 0, 0)) return false;
        const i64 count = __builtin_popcount(low.full) +
                          (PARTS == 2 ? __builtin_popcount(high.full) : 0);
        if (__builtin_expect(count > w.at - w.end, 0)) return false;
        if (PARTS == 2) {
            spill(high, w.at);
            w.x[1] = code(high);
        }
        spill(low, w.at);
        w.x[0] = code(low);
        w.i -= N;
        return true;
    }

    TARGET void one(Run &run) const {
        Writer w = open(run);
        while (w.i >= w.first && step(w)) {
        }
        close(w, run);
    }

    TARGET void two(Run *runs) const {
        Writer w = open(runs[0]), v = open(runs[1]);
        while (w.i >= w.first && v.i >= v.first && step(w) && step(v)) {
        }
        close(w, runs[0]);
        close(v, runs[1]);
    }
};

template <u32 N>
TARGET void encode_lanes(const EncodeJob &job, Run *runs, i32 count) {
    const i32 precision = job.t->precision;
    const Encoder<N> encoder = {*job.t,
                                *job.l,
                                job.rows,
                                _mm_cvtsi32_si128(precision),
                                _mm_cvtsi32_si128(32 - precision),
                                all(1u << precision)};
    if (count == 2)
        encoder.two(runs);
    else
        encoder.one(runs[0]);
}

// ---- rows

// One 32-bit number of each table, for any index.
template <bool SMALL>
struct Lookup {
    const u32 *values;
    V v0, v1, v2, v3;

    INLINE void open(const u32 *from) {
        values = from;
        if (!SMALL) return;
        v0 = _mm512_loadu_si512(from);
        v1 = _mm512_loadu_si512(from + 16);
        v2 = _mm512_loadu_si512(from + 32);
        v3 = _mm512_loadu_si512(from + 48);
    }

    INLINE V at(V index) const {
        if (!SMALL) return _mm512_i32gather_epi32(index, values, 4);
        const V low = _mm512_permutex2var_epi32(v0, index, v1);
        const V high = _mm512_permutex2var_epi32(v2, index, v3);
        return _mm512_mask_mov_epi32(low, _mm512_test_epi32_mask(index, all(32)), high);
    }
};

INLINE V load_sixteen(const u8 *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE V load_sixteen(const i32 *p) { return _mm512_loadu_si512(p); }

// row = first + symbol - minimum + 1 = base + symbol, if minimum <= symbol <= maximum
template <bool SMALL, class Index>
TARGET i64 find_rows(RowsJob &job, i64 i, i64 end) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
    Lookup<SMALL> base, range;
    base.open(t.base);
    range.open(t.range);
    V cost = _mm512_setzero_si512();  // 8 sums of 64 bits
    for (; i + 16 <= end; i += 16) {
        const V index = load_sixteen(indexes + i);
        if (_mm512_cmpge_epu32_mask(index, all((u32)t.count))) break;
        const V symbol = _mm512_loadu_si512(job.symbols + i);
        const V r = range.at(index);
        const V minimum = _mm512_srai_epi32(_mm512_slli_epi32(r, 16), 16);
        const V above = _mm512_sub_epi32(symbol, minimum);
        if (_mm512_cmpge_epu32_mask(above, _mm512_srli_epi32(r, 16))) break;
        const V row = _mm512_add_epi32(base.at(index), symbol);
        _mm512_storeu_si512(job.rows + i, row);
        // Costs are 16 bits; what is read of the next one is masked out.
        const V c = _mm512_and_si512(_mm512_i32gather_epi32(row, t.costs, 2), all(0xFFFF));
        cost = _mm512_add_epi64(cost, _mm512_add_epi64(_mm512_srli_epi64(c, 32),
                                                       _mm512_maskz_mov_epi32(0x5555, c)));
    }
    job.cost += (u64)_mm512_reduce_add_epi64(cost);
    return i;
}

}  // namespace

void encode_avx512(const EncodeJob &job, Run *runs, i32 count) {
    if (job.l->lanes == 32) return encode_lanes<32>(job, runs, count);
    if (job.l->lanes == 16) return encode_lanes<16>(job, runs, count);
    return encode_lanes<8>(job, runs, count);
}

i64 rows_avx512(RowsJob &job, i64 begin, i64 end) {
    const bool small = job.t->count <= 64;
    if (job.index_bytes == 1)
        return small ? find_rows<true, u8>(job, begin, end)
                     : find_rows<false, u8>(job, begin, end);
    return small ? find_rows<true, i32>(job, begin, end)
                 : find_rows<false, i32>(job, begin, end);
}

const Kernels AVX512 = {8,
                        decode_avx512,
                        encode_avx512,
                        rows_avx512,
                        decode_mixture_avx512,
                        mixture_rows_avx512,
                        find_value_avx512,
                        entry_of_value_avx512};

}  // namespace rans

#endif
