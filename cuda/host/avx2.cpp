// SPDX-License-Identifier: Apache-2.0
//
// The coder for processors with AVX2: eight lanes a register, in lane order.
//
// AVX2 cannot spread words over lanes or close gaps; a table of permutations, one for
// each of the 256 sets of lanes that move a word, does both.

#include "host.h"

#if RANS_X86

#include <immintrin.h>

// Every function names its target, so that no compiler flag is needed and no other
// function uses these instructions.
#define TARGET __attribute__((target("avx2,bmi2,popcnt")))
#define INLINE TARGET inline __attribute__((always_inline))

namespace rans {
namespace {

typedef __m256i V;

// For each set of lanes:
// spread[set][k]: which of the next words lane k takes, if it is in the set;
// gather[set][p]: which lane's word stands at p, the set's lanes closed up at the top.
struct Permutations {
    u8 spread[256][8];
    u8 gather[256][8];

    constexpr Permutations() : spread(), gather() {
        for (u32 set = 0; set < 256; ++set) {
            u32 size = 0;
            for (u32 k = 0; k < 8; ++k) size += set >> k & 1;
            u32 rank = 0;
            for (u32 k = 0; k < 8; ++k) {
                spread[set][k] = (u8)(rank & 7);
                if (!(set >> k & 1)) continue;
                gather[set][8 - size + rank] = (u8)k;
                ++rank;
            }
        }
    }
};

constexpr Permutations PERMUTATIONS;

INLINE V all(u32 value) { return _mm256_set1_epi32((i32)value); }

INLINE V load_permutation(const u8 *eight) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)eight));
}

INLINE V load_indexes(const u8 *p) { return load_permutation(p); }
INLINE V load_indexes(const i32 *p) { return _mm256_loadu_si256((const V *)p); }
INLINE V load_indexes(const u32 *p) { return _mm256_loadu_si256((const V *)p); }
INLINE V load_indexes(const u16 *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE u32 set_of(V lanes) { return (u32)_mm256_movemask_ps(_mm256_castsi256_ps(lanes)); }

INLINE V at_least(V a, V b) { return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a); }

INLINE V gather32(const void *base, V index) {
    return _mm256_i32gather_epi32((const int *)base, index, 4);
}

// ---- decoding

// How tables are laid out (host.h).
enum Layout { PACKED, WIDE, FOLDED };

template <u32 N, Layout LAYOUT, class Index>
struct Decoder {
    const RansTables &t;
    const RansLanes &l;
    const Index *indexes;
    i32 *symbols;
    __m128i precision;

    // Freq - 1, bias and slot number.
    INLINE void find(V slot, V &more, V &bias, V &number) const {
        if (LAYOUT == WIDE) {
            const V e = gather32(t.wide, slot);
            more = _mm256_and_si256(e, all(0xFFFF));
            bias = _mm256_srli_epi32(e, 16);
            number = _mm256_i32gather_epi32((const int *)t.numbers, slot, 2);
            number = _mm256_and_si256(number, all(0xFFFF));
        } else {
            const V e = gather32(LAYOUT == FOLDED ? t.folded : t.packed, slot);
            more = _mm256_and_si256(_mm256_srli_epi32(e, 8), all(0xFFF));
            bias = _mm256_srli_epi32(e, 20);
            number = _mm256_and_si256(e, all(0xFF));
        }
    }

    // Eight lanes of a step; which of them hit an escape.
    INLINE u32 eight(V &x, V index, const u16 *&at, i32 *out) const {
        const V mask = all((1u << t.precision) - 1);
        const V r = _mm256_and_si256(x, mask);
        const V slot = _mm256_or_si256(_mm256_sll_epi32(index, precision), r);
        V more, bias, number, symbol;
        find(slot, more, bias, number);
        if (LAYOUT == FOLDED) {
            const V split = gather32(t.splits, index);
            const V second = at_least(r, _mm256_srli_epi32(split, 16));
            number = _mm256_sub_epi32(number, _mm256_slli_epi32(second, 8));
            const V sum = _mm256_add_epi32(split, number);
            symbol = _mm256_srai_epi32(_mm256_slli_epi32(sum, 16), 16);
        } else {
            symbol = _mm256_add_epi32(gather32(t.minimum, index),
                                      _mm256_sub_epi32(number, all(1)));
        }
        // x = f * (x / 2^P) + r - b = (f - 1) * q + (q + bias)
        const V q = _mm256_srl_epi32(x, precision);
        const V y = _mm256_add_epi32(_mm256_mullo_epi32(more, q),
                                     _mm256_add_epi32(q, bias));
        // x < 2^16: x = x * 2^16 + word
        const V zero = _mm256_setzero_si256();
        const V need = _mm256_cmpeq_epi32(_mm256_srli_epi32(y, 16), zero);
        const u32 set = set_of(need);
        const V words = _mm256_permutevar8x32_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at)),
            load_permutation(PERMUTATIONS.spread[set]));
        at += __builtin_popcount(set);
        x = _mm256_blendv_epi8(y, _mm256_or_si256(_mm256_slli_epi32(y, 16), words), need);
        _mm256_storeu_si256((V *)out, symbol);
        return set_of(_mm256_cmpeq_epi32(number, zero));
    }

    TARGET void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        const u16 *at = l.words + l.word[run.chunk];
        const u16 *end = l.words + l.word_end[run.chunk];
        V x[N / 8], y[N / 8], index[N / 8];
        for (u32 v = 0; v < N / 8; ++v) x[v] = _mm256_loadu_si256((V *)(states + 8 * v));
        i64 i = run.begin;
        // With a word for every lane left, each eight lanes may read eight of them.
        for (; i + N <= run.end && end - at >= (i64)N; i += N) {
            V wrong = _mm256_setzero_si256();
            for (u32 v = 0; v < N / 8; ++v) {
                index[v] = load_indexes(indexes + i + 8 * v);
                wrong = _mm256_or_si256(wrong, at_least(index[v], all((u32)t.count)));
            }
            if (__builtin_expect(set_of(wrong) != 0, 0)) break;
            const u16 *next = at;
            u32 escaped = 0;
            for (u32 v = 0; v < N / 8; ++v) {
                y[v] = x[v];
                escaped |= eight(y[v], index[v], next, symbols + i + 8 * v) << 8 * v;
            }
            if (__builtin_expect(escaped != 0, 0) &&
                !take_escapes(l, run.chunk, escaped, symbols + i))
                break;
            for (u32 v = 0; v < N / 8; ++v) x[v] = y[v];
            at = next;
        }
        for (u32 v = 0; v < N / 8; ++v) _mm256_storeu_si256((V *)(states + 8 * v), x[v]);
        l.word[run.chunk] = at - l.words;
        run.begin = i;
    }
};

template <u32 N, Layout LAYOUT, class Index>
TARGET void decode_with(const DecodeJob &job, const Index *indexes, Run &run) {
    const Decoder<N, LAYOUT, Index> decoder = {*job.t, *job.l, indexes, job.symbols,
                                               _mm_cvtsi32_si128(job.t->precision)};
    decoder.run(run);
}

void decode(const DecodeJob &job, Run *runs, i32 count) {
    // 16 registers hold one chunk's lanes; a second one would only push them out.
    if (count == 2) return;
    with_types<u8, i32>(
        job.l->lanes, job.index_bytes, job.indexes, [&](auto n, auto *indexes) {
            if (job.t->packed)
                decode_with<n.value, PACKED>(job, indexes, *runs);
            else if (job.t->folded)
                decode_with<n.value, FOLDED>(job, indexes, *runs);
            else
                decode_with<n.value, WIDE>(job, indexes, *runs);
        });
}

// ---- encoding

template <u32 N, class Row>
struct Encoder {
    const RansTables &t;
    const RansLanes &l;
    const Row *rows;
    __m128i precision, rest;  // P, 32 - P

    // Eight lanes of a step; `row` is checked.
    INLINE V eight(V x, V row, u16 *&at) const {
        const char *base = (const char *)t.rows;
        const V sf = _mm256_i32gather_epi32((const int *)base, row, 8);
        const V reciprocal = _mm256_i32gather_epi32((const int *)(base + 4), row, 8);
        const V start = _mm256_and_si256(sf, all(0xFFFF)), freq = _mm256_srli_epi32(sf, 16);
        // x' < 2^32 asks for x < f * 2^(32 - P); a full lane writes its low word
        const V fits = _mm256_cmpgt_epi32(freq, _mm256_srl_epi32(x, rest));
        const u32 set = ~set_of(fits) & 0xFF;
        const V words = _mm256_and_si256(
            _mm256_permutevar8x32_epi32(x, load_permutation(PERMUTATIONS.gather[set])),
            all(0xFFFF));
        const V packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 8);
        // The set's words are the last of the eight; later ones overwrite the others.
        _mm_storeu_si128((__m128i *)(at - 8), _mm256_castsi256_si128(packed));
        at -= __builtin_popcount(set);
        x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, fits);
        const V odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32),
                                       _mm256_srli_epi64(reciprocal, 32));
        const V even = _mm256_srli_epi64(_mm256_mul_epu32(x, reciprocal), 32);
        const V q = _mm256_blend_epi32(even, odd, 0xAA);
        // The reciprocal is rounded down: the quotient is right or one too small.
        const V left = _mm256_sub_epi32(x, _mm256_mullo_epi32(q, freq));
        const V more = _mm256_andnot_si256(
            _mm256_cmpgt_epi32(freq, left),
            _mm256_sub_epi32(all(1u << t.precision), freq));
        const V sum = _mm256_add_epi32(_mm256_add_epi32(left, start),
                                       _mm256_sll_epi32(q, precision));
        return _mm256_add_epi32(sum, more);
    }

    TARGET void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        u16 *at = l.words + l.word[run.chunk];
        const u16 *end = l.words + l.word_end[run.chunk];
        V x[N / 8], row[N / 8];
        for (u32 v = 0; v < N / 8; ++v) x[v] = _mm256_loadu_si256((V *)(states + 8 * v));
        i64 i = run.end;
        for (; i - (i64)N >= run.begin && at - end >= (i64)N; i -= N) {
            V wrong = _mm256_setzero_si256();
            for (u32 v = 0; v < N / 8; ++v) {
                row[v] = load_indexes(rows + i - N + 8 * v);
                wrong = _mm256_or_si256(wrong, at_least(row[v], all(t.first[t.count])));
            }
            if (__builtin_expect(set_of(wrong) != 0, 0)) break;
            for (u32 v = N / 8; v-- > 0;) x[v] = eight(x[v], row[v], at);
        }
        for (u32 v = 0; v < N / 8; ++v) _mm256_storeu_si256((V *)(states + 8 * v), x[v]);
        l.word[run.chunk] = at - l.words;
        run.end = i;
    }
};

template <u32 N, class Row>
TARGET void encode_with(const EncodeJob &job, const Row *rows, Run &run) {
    const i32 precision = job.t->precision;
    const Encoder<N, Row> encoder = {*job.t, *job.l, rows, _mm_cvtsi32_si128(precision),
                                     _mm_cvtsi32_si128(32 - precision)};
    encoder.run(run);
}

void encode(const EncodeJob &job, Run *runs, i32 count) {
    if (count == 2) return;
    with_types<u16, u32>(
        job.l->lanes, job.row_bytes, job.rows,
        [&](auto n, auto *rows) { encode_with<n.value>(job, rows, *runs); });
}

// row = first + symbol - minimum + 1 = base + symbol, if minimum <= symbol <= maximum
template <class Index>
TARGET i64 find_rows(RowsJob &job, i64 i, i64 end) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
    for (; i + 8 <= end; i += 8) {
        const V index = load_indexes(indexes + i);
        if (set_of(at_least(index, all((u32)t.count)))) break;
        const V symbol = _mm256_loadu_si256((const V *)(job.symbols + i));
        const V range = gather32(t.range, index);
        const V minimum = _mm256_srai_epi32(_mm256_slli_epi32(range, 16), 16);
        const V above = _mm256_sub_epi32(symbol, minimum);
        if (set_of(at_least(above, _mm256_srli_epi32(range, 16)))) break;
        const V row = _mm256_add_epi32(gather32(t.base, index), symbol);
        if (job.row_bytes == 4) {
            _mm256_storeu_si256((V *)((u32 *)job.rows + i), row);
            continue;
        }
        const V twice = _mm256_permute4x64_epi64(_mm256_packus_epi32(row, row), 8);
        _mm_storeu_si128((__m128i *)((u16 *)job.rows + i), _mm256_castsi256_si128(twice));
    }
    return i;
}

i64 rows(RowsJob &job, i64 begin, i64 end) {
    return job.index_bytes == 1 ? find_rows<u8>(job, begin, end)
                                : find_rows<i32>(job, begin, end);
}

}  // namespace

// The portable coder does priors, and adds up costs faster than these gathers would.
const Kernels AVX2 = {8, decode, encode, rows, 0, 0, 0, 0, 0, true};

}  // namespace rans

#endif
