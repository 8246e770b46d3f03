// SPDX-License-Identifier: Apache-2.0
//
// Encoding with AVX-512: first the table row of every symbol, then the states.
//
// Operations depend little on each other here, so the number of table reads decides. A
// row is 8 bytes and read at once; up to 64 tables, the numbers that belong to a table
// stay in registers. States are 32 bits in lane order.

#include "avx512.h"

#if RANS_X86

namespace rans {
namespace {

// 16 lanes of a step.
struct Sixteen {
    V x, start, freq, reciprocal;  // start: in the low 16 bits, freq is above it
    __mmask16 full;
};

struct Writer {
    V x[2];  // states: even lanes, odd lanes; with 16 lanes and less all are in x[0]
    u16 *at, *end;
    i64 i, first;  // end of the next step; the lowest place where a whole step ends
};

// 32 lanes are kept as even and odd ones: so their low words become neighbours of 16 bits,
// and 16-bit rows become 32 bits, without a shuffle.
template <u32 N, class Row>
struct Encoder {
    const EncodeRow *table;
    const RansLanes &l;
    const Row *rows;
    V end, rest, precision, whole;  // rows, 32 - P, P, 2^P

    static INLINE __mmask16 on() { return N < 16 ? (1u << (N & 15)) - 1 : 0xFFFF; }

    static INLINE V evens() {
        return _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    }
    static INLINE V odds() { return _mm512_or_si512(evens(), all(1)); }

    INLINE Writer open(const Run &run) const {
        const u32 *states = l.states + run.chunk * N;
        Writer w;
        w.x[0] = w.x[1] = _mm512_maskz_loadu_epi32(on(), states);
        if (N == 32) {
            const V low = w.x[0], high = _mm512_loadu_si512(states + 16);
            w.x[0] = _mm512_permutex2var_epi32(low, evens(), high);
            w.x[1] = _mm512_permutex2var_epi32(low, odds(), high);
        }
        w.at = l.words + l.word[run.chunk];
        w.end = l.words + l.word_end[run.chunk];
        w.i = run.end;
        w.first = run.begin + N;
        return w;
    }

    INLINE void close(const Writer &w, Run &run) const {
        u32 *states = l.states + run.chunk * N;
        if (N == 32) {
            const V order =
                _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
            _mm512_storeu_si512(states, _mm512_permutex2var_epi32(w.x[0], order, w.x[1]));
            _mm512_storeu_si512(states + 16,
                                _mm512_permutex2var_epi32(
                                    w.x[0], _mm512_add_epi32(order, all(8)), w.x[1]));
        } else {
            _mm512_mask_storeu_epi32(states, on(), w.x[0]);
        }
        l.word[run.chunk] = w.at - l.words;
        run.end = w.i;
    }

    // A step's rows as 32 bits, in the order of the states. `wrong` is not 0 if one does
    // not exist.
    INLINE void load(const u32 *row, V &first, V &second, u32 &wrong) const {
        first = _mm512_maskz_loadu_epi32(on(), row);
        wrong = _mm512_cmpge_epu32_mask(first, end);
        if (N < 32) return;
        const V low = first, high = _mm512_loadu_si512(row + 16);
        wrong |= _mm512_cmpge_epu32_mask(high, end);
        first = _mm512_permutex2var_epi32(low, evens(), high);
        second = _mm512_permutex2var_epi32(low, odds(), high);
    }

    INLINE void load(const u16 *row, V &first, V &second, u32 &wrong) const {
        if (N < 32) {
            first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(on(), row));
            wrong = _mm512_cmpge_epu32_mask(first, end);
            return;
        }
        const V both = _mm512_loadu_si512(row);
        first = _mm512_and_si512(both, all(0xFFFF));
        second = _mm512_srli_epi32(both, 16);
        wrong = _mm512_cmpge_epu32_mask(_mm512_max_epu32(first, second), end);
    }

    // The 8-byte rows of 16 lanes: one read for each.
    INLINE Sixteen read(V number, V x) const {
        const V e0 = _mm512_i32gather_epi64(low_half(number), table, 8);
        const V e1 = N < 16 ? e0 : _mm512_i32gather_epi64(high_half(number), table, 8);
        Sixteen s;
        s.x = x;
        s.start = _mm512_permutex2var_epi32(e0, evens(), e1);
        s.reciprocal = _mm512_permutex2var_epi32(e0, odds(), e1);
        s.freq = _mm512_srli_epi32(s.start, 16);
        // x' < 2^32 asks for x < f * 2^(32 - P)
        s.full = _mm512_mask_cmpge_epu32_mask(on(), _mm512_srlv_epi32(x, rest), s.freq);
        return s;
    }

    // x = (x / f) * 2^P + x % f + b
    INLINE V code(const Sixteen &s) const {
        // Full lanes wrote their low words.
        const V x = _mm512_mask_srli_epi32(s.x, s.full, s.x, 16);
        const V odd_x = _mm512_srli_epi64(x, 32);
        const V odd_r = _mm512_srli_epi64(s.reciprocal, 32);
        const V even = _mm512_srli_epi64(_mm512_mul_epu32(x, s.reciprocal), 32);
        const V q = _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_mul_epu32(odd_x, odd_r));
        // The reciprocal is rounded down: the quotient is right or one too small, so
        // that what is left is less than 2 f and has 16 bits.
        const V left =
            _mm512_maskz_sub_epi16(0x55555555, x, _mm512_mullo_epi16(q, s.freq));
        const V up = _mm512_ternarylogic_epi32(s.start, all(0xFFFF),
                                               _mm512_sllv_epi32(q, precision), 0xEA);
        const V sum = _mm512_add_epi32(left, up);
        const __mmask16 more = _mm512_cmpge_epu32_mask(left, s.freq);
        return _mm512_mask_add_epi32(sum, more, sum, _mm512_sub_epi32(whole, s.freq));
    }

    // One step, downwards; false: not done, and nothing changed.
    INLINE bool step(Writer &w) const {
        V first, second;
        u32 wrong;
        load(rows + w.i - N, first, second, wrong);
        if (__builtin_expect(wrong != 0, 0)) return false;
        const Sixteen a = read(first, w.x[0]);
        if (N < 32) {
            const u32 count = (u32)__builtin_popcount(a.full);
            if (__builtin_expect(count > w.at - w.end, 0)) return false;
            w.at -= count;
            _mm256_mask_storeu_epi16(
                w.at, (__mmask16)((1u << count) - 1),
                _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(a.full, a.x)));
            w.x[0] = code(a);
        } else {
            const Sixteen b = read(second, w.x[1]);
            const u32 full =
                _pdep_u32(a.full, 0x55555555u) | _pdep_u32(b.full, 0xAAAAAAAAu);
            const u32 count = (u32)__builtin_popcount(full);
            if (__builtin_expect(count > w.at - w.end, 0)) return false;
            const V words = _mm512_ternarylogic_epi32(a.x, all(0xFFFF),
                                                      _mm512_slli_epi32(b.x, 16), 0xEA);
            w.at -= count;
            _mm512_mask_storeu_epi16(w.at, _bzhi_u32(0xFFFFFFFFu, count),
                                     _mm512_maskz_compress_epi16(full, words));
            w.x[0] = code(a);
            w.x[1] = code(b);
        }
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

template <u32 N, class Row>
TARGET void encode_with(const EncodeJob &job, const Row *rows, Run *runs, i32 count) {
    const u32 precision = (u32)job.t->precision;
    const Encoder<N, Row> encoder = {job.t->rows,
                                     *job.l,
                                     rows,
                                     all(job.t->first[job.t->count]),
                                     all(32 - precision),
                                     all(precision),
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
    for (; i + 16 <= end; i += 16) {
        const V index = load_sixteen(indexes + i);
        if (_mm512_cmpge_epu32_mask(index, all((u32)t.count))) break;
        const V symbol = _mm512_loadu_si512(job.symbols + i);
        const V r = range.at(index);
        const V minimum = _mm512_srai_epi32(_mm512_slli_epi32(r, 16), 16);
        const V above = _mm512_sub_epi32(symbol, minimum);
        if (_mm512_cmpge_epu32_mask(above, _mm512_srli_epi32(r, 16))) break;
        const V row = _mm512_add_epi32(base.at(index), symbol);
        if (job.row_bytes == 4)
            _mm512_storeu_si512((u32 *)job.rows + i, row);
        else
            _mm256_storeu_si256((__m256i *)((u16 *)job.rows + i), _mm512_cvtepi32_epi16(row));
    }
    return i;
}

INLINE V load_sixteen(const u16 *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}

INLINE V load_sixteen(const u32 *p) { return _mm512_loadu_si512(p); }

template <class Row>
TARGET i64 add_costs(const EncodeJob &job, u64 &cost) {
    const V end = all(job.t->first[job.t->count]), zero = _mm512_setzero_si512();
    V sums = zero;  // 8 of 64 bits
    i64 i = 0;
    for (; i + 16 <= job.n; i += 16) {
        const V row = load_sixteen((const Row *)job.rows + i);
        const __mmask16 known = _mm512_cmplt_epu32_mask(row, end);
        // Costs are 16 bits; what is read of the next one is masked out.
        const V c = _mm512_and_si512(
            _mm512_mask_i32gather_epi32(zero, known, row, job.t->costs, 2), all(0xFFFF));
        sums = _mm512_add_epi64(sums, _mm512_add_epi64(_mm512_srli_epi64(c, 32),
                                                       _mm512_maskz_mov_epi32(0x5555, c)));
    }
    cost += (u64)_mm512_reduce_add_epi64(sums);
    return i;
}

i64 cost(const EncodeJob &job, u64 &sum) {
    return job.row_bytes == 2 ? add_costs<u16>(job, sum) : add_costs<u32>(job, sum);
}

// 32 numbers of 32 bits to 16, in order; what does not fit becomes the nearest that does.
INLINE V pack(V first, V second) {
    return _mm512_permutexvar_epi64(_mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0),
                                    _mm512_packs_epi32(first, second));
}

INLINE V load_pairs(const u8 *p, u32 count, bool &wrong) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)p);
    wrong = _mm256_cmpge_epu8_mask(bytes, _mm256_set1_epi8((char)count)) != 0;
    return _mm512_cvtepu8_epi16(bytes);
}

INLINE V load_pairs(const i32 *p, u32 count, bool &wrong) {
    const V first = _mm512_loadu_si512(p), second = _mm512_loadu_si512(p + 16);
    wrong = _mm512_cmpge_epu32_mask(_mm512_max_epu32(first, second), all(count)) != 0;
    return pack(first, second);
}

// 16-bit numbers of 64 tables at most, for any index.
struct NarrowLookup {
    V low, high;

    INLINE void open(const u32 *from, u32 shift) {
        const __m128i by = _mm_cvtsi32_si128((i32)shift);
        __m256i part[4];
        for (u32 k = 0; k < 4; ++k)
            part[k] = _mm512_cvtepi32_epi16(
                _mm512_srl_epi32(_mm512_loadu_si512(from + 16 * k), by));
        low = _mm512_inserti64x4(_mm512_castsi256_si512(part[0]), part[1], 1);
        high = _mm512_inserti64x4(_mm512_castsi256_si512(part[2]), part[3], 1);
    }

    INLINE V at(V index) const { return _mm512_permutex2var_epi16(low, index, high); }
};

// The same for at most 64 tables of 2^16 rows in 16 bits, 32 symbols at a time.
template <class Index>
TARGET i64 find_short_rows(RowsJob &job, i64 i, i64 end) {
    const i32 *symbols = job.symbols;
    const Index *indexes = (const Index *)job.indexes;
    u16 *rows = (u16 *)job.rows;
    const u32 count = (u32)job.t->count;
    NarrowLookup base, minimum, size;
    base.open(job.t->base, 0);
    minimum.open(job.t->range, 0);
    size.open(job.t->range, 16);
    for (; i + 32 <= end; i += 32) {
        bool wrong;
        const V index = load_pairs(indexes + i, count, wrong);
        if (wrong) break;
        const V symbol = pack(_mm512_loadu_si512(symbols + i),
                              _mm512_loadu_si512(symbols + i + 16));
        const V above = _mm512_sub_epi16(symbol, minimum.at(index));
        // pack() turned symbols that exceed 16 bits into the extremes.
        const u32 outside =
            _mm512_cmpge_epu16_mask(above, size.at(index)) |
            _mm512_cmpge_epu16_mask(_mm512_abs_epi16(symbol), _mm512_set1_epi16(0x7FFF));
        if (outside) break;
        _mm512_storeu_si512(rows + i, _mm512_add_epi16(base.at(index), symbol));
    }
    return i;
}

}  // namespace

void encode_avx512(const EncodeJob &job, Run *runs, i32 count) {
    with_types<u16, u32>(
        job.l->lanes, job.row_bytes, job.rows,
        [&](auto n, auto *rows) { encode_with<n.value>(job, rows, runs, count); });
}

i64 rows_avx512(RowsJob &job, i64 begin, i64 end) {
    const bool small = job.t->count <= 64;
    if (small && job.row_bytes == 2)
        return job.index_bytes == 1 ? find_short_rows<u8>(job, begin, end)
                                    : find_short_rows<i32>(job, begin, end);
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
                        cost,
                        decode_mixture_avx512,
                        mixture_rows_avx512,
                        find_value_avx512,
                        entry_of_value_avx512,
                        true};

}  // namespace rans

#endif
