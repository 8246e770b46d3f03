// SPDX-License-Identifier: Apache-2.0
//
// Mixtures of Gaussians with AVX-512: sixteen symbols' windows, searched side by side.
//
//   step      slot   | all lanes halve their own window, those of smaller ones join later
//   2^(w-1)   k + 2^(w-1)      c(k + step) <= r ?  k += step
//   ...
//   1         k + 1            then [c(k), c(k + 1)) holds r
//
// A step of decoding has many independent instructions and one gather for each component:
// two registers of sixteen lanes are enough to keep the processor busy.
// cuda/priors/priors.h has the arithmetic; here it is done for sixteen symbols at once.

#include "avx512.h"

#if RANS_X86

namespace rans {
namespace {

INLINE V zero() { return _mm512_setzero_si512(); }

// The scales' three numbers for any bin: from registers while there are 64 at most.
struct Scales {
    static const u32 NEAR = 64;
    alignas(64) u32 reciprocal[NEAR], limit[NEAR], reach[NEAR];
    // PHI - 32768, as 16 bits signed; gathers read the entry behind the last one
    alignas(64) i16 phi[(2 * Z_LIMIT + 1 + 31) / 32 * 32 + 2];
    const Scale *all_scales;
    u32 count;

    TARGET explicit Scales(const RansPrior &p) : all_scales(p.scales), count((u32)p.count) {
        for (u32 k = 0; k < NEAR; ++k) {
            const Scale scale = k < count ? p.scales[k] : Scale();
            reciprocal[k] = (u32)scale.reciprocal;
            limit[k] = (u32)scale.limit;
            reach[k] = (u32)scale.reach;
        }
        for (i32 k = 0; k <= 2 * Z_LIMIT; ++k) phi[k] = (i16)(p.phi[k] ^ 0x8000);
        phi[2 * Z_LIMIT + 1] = 0;
    }

    static INLINE V near(const u32 *values, V bin) {
        const V low = _mm512_permutex2var_epi32(_mm512_load_si512(values), bin,
                                                _mm512_load_si512(values + 16));
        const V high = _mm512_permutex2var_epi32(_mm512_load_si512(values + 32), bin,
                                                 _mm512_load_si512(values + 48));
        return _mm512_mask_mov_epi32(low, _mm512_test_epi32_mask(bin, all(32)), high);
    }

    INLINE V far(u32 field, V bin) const {
        const V at = _mm512_add_epi32(_mm512_slli_epi32(bin, 2), all(field));
        return _mm512_i32gather_epi32(at, all_scales, 4);
    }

    INLINE void look_up(V bin, V &r, V &most, V &far_out) const {
        if (count <= NEAR) {
            r = near(reciprocal, bin);
            most = near(limit, bin);
            far_out = near(reach, bin);
        } else {
            r = far(0, bin);
            most = far(1, bin);
            far_out = far(2, bin);
        }
    }
};

// Mixture of priors/priors.h for sixteen symbols of K components.
template <u32 K>
struct Sixteen {
    V mean[K], reciprocal[K], limit[K], weight[K];
    V first, bits, rest;  // rest: 2^15 - 2^bits
    V offset;             // what PHI - 32768 lacks: 32768 * sum of weights

    // Return false if a bin does not exist.
    INLINE bool open(const RansPrior &p, const Scales &scales, i64 i, __mmask16 on) {
        V low = all(0x7FFFFFFF), high = all(0x80000001), sum = zero();
        u32 wrong = 0;
        for (u32 j = 0; j < K; ++j) {
            const i64 at = p.n * j + i;
            mean[j] = _mm512_maskz_loadu_epi32(on, p.means + at);
            const V bin = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(on, p.bins + at));
            wrong |= _mm512_cmpge_epu32_mask(bin, all(scales.count));
            if (__builtin_expect(wrong != 0, 0)) return false;
            weight[j] =
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(on, p.weights + at));
            V reach;
            scales.look_up(bin, reciprocal[j], limit[j], reach);
            const __mmask16 counts = _mm512_test_epi32_mask(weight[j], weight[j]);
            low = _mm512_mask_min_epi32(low, counts, low, _mm512_sub_epi32(mean[j], reach));
            high = _mm512_mask_max_epi32(high, counts, high,
                                         _mm512_add_epi32(mean[j], reach));
            sum = _mm512_add_epi32(sum, weight[j]);
        }
        offset = _mm512_slli_epi32(sum, 15);
        close(low, high);
        return true;
    }

    INLINE void close(V low, V high) {
        const V a = _mm512_srai_epi32(_mm512_add_epi32(low, all(32)), 6);
        const V b = _mm512_srai_epi32(_mm512_add_epi32(high, all(32)), 6);
        const V wanted = _mm512_add_epi32(_mm512_sub_epi32(b, a), all(1));
        const V most = _mm512_min_epu32(wanted, all((1u << WINDOW_BITS) - 1));
        bits = _mm512_sub_epi32(
            all(32), _mm512_lzcnt_epi32(_mm512_max_epu32(most, all(1))));
        const V size = _mm512_sllv_epi32(all(1), bits);
        const V over = _mm512_sub_epi32(_mm512_sub_epi32(size, all(1)), wanted);
        first = _mm512_sub_epi32(a, _mm512_srai_epi32(over, 1));
        rest = _mm512_sub_epi32(all(PRIOR_WHOLE), size);
    }

    // c(k) for slots inside
    INLINE V below(const Scales &scales, V k) const {
        const V value = _mm512_sub_epi32(_mm512_add_epi32(first, k), all(1));
        const V edge = _mm512_sub_epi32(_mm512_slli_epi32(value, 6), all(32));
        V sum = offset;
        for (u32 j = 0; j < K; ++j) {
            V e = _mm512_min_epi32(_mm512_sub_epi32(edge, mean[j]), limit[j]);
            e = _mm512_max_epi32(e, _mm512_sub_epi32(zero(), limit[j]));
            const V z = _mm512_add_epi32(_mm512_mullo_epi32(e, reciprocal[j]),
                                         all(((u32)Z_LIMIT << Z_SHIFT) + (1u << (Z_SHIFT - 1))));
            const V phi = _mm512_i32gather_epi32(_mm512_srli_epi32(z, Z_SHIFT),
                                                 scales.phi, 2);
            // Pairs of 16 bits: a weight's upper half is 0, and what is read there of
            // the next entry counts for nothing.
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(phi, weight[j]));
        }
        const V f = _mm512_and_si512(_mm512_srli_epi32(sum, 8), all(0xFFFF));
        return _mm512_add_epi32(_mm512_mulhi_epu16(f, rest), k);
    }
};

// Where r lies: slot, c(slot), c(slot + 1).
struct Place {
    V k, start, end;
};

template <u32 K>
INLINE void halve(const Scales &scales, const Sixteen<K> &own, u32 s, V r, Place &at) {
    const __mmask16 joins = _mm512_cmpgt_epu32_mask(own.bits, all(s));
    const V middle = _mm512_add_epi32(at.k, all(1u << s));
    const V c = own.below(scales, middle);
    const __mmask16 up = _mm512_mask_cmple_epu32_mask(joins, c, r);
    at.k = _mm512_mask_mov_epi32(at.k, up, middle);
    at.start = _mm512_mask_mov_epi32(at.start, up, c);
    at.end = _mm512_mask_mov_epi32(at.end, joins & (__mmask16)~up, c);
}

template <u32 N, u32 K>
struct Decoder {
    static const u32 PARTS = (N + 15) / 16;
    const RansPrior &p;
    const RansLanes &l;
    const Scales &scales;
    i32 *symbols;

    static INLINE __mmask16 on() { return N < 16 ? (1u << (N & 15)) - 1 : 0xFFFF; }

    // Code one step of a chunk at i; or change nothing and return false.
    INLINE bool step(V *x, const u16 *&at, const u16 *end, i64 i, i64 chunk) const {
        Sixteen<K> own[PARTS];
        V r[PARTS], y[PARTS];
        Place place[PARTS];
        u32 bits = 0;
        for (u32 v = 0; v < PARTS; ++v) {
            if (!own[v].open(p, scales, i + 16 * v, on())) return false;
            r[v] = _mm512_and_si512(x[v], all(PRIOR_WHOLE - 1));
            place[v].k = place[v].start = zero();
            place[v].end = all(PRIOR_WHOLE);
            bits = larger(bits, (u32)_mm512_mask_reduce_max_epu32(on(), own[v].bits));
        }
        for (u32 s = bits; s-- > 0;)
            for (u32 v = 0; v < PARTS; ++v) halve(scales, own[v], s, r[v], place[v]);
        u32 need[PARTS], escaped = 0;
        i64 taken = 0;
        for (u32 v = 0; v < PARTS; ++v) {
            const V freq = _mm512_sub_epi32(place[v].end, place[v].start);
            const V bias = _mm512_sub_epi32(r[v], place[v].start);
            const V q = _mm512_srli_epi32(x[v], PRIOR_PRECISION);
            y[v] = _mm512_add_epi32(_mm512_mullo_epi32(freq, q), bias);
            need[v] = _mm512_mask_cmplt_epu32_mask(on(), y[v], all(LOWER));
            taken += __builtin_popcount(need[v]);
            const u32 out = _mm512_mask_testn_epi32_mask(on(), place[v].k, place[v].k);
            escaped |= out << (16 * v);
        }
        if (__builtin_expect(taken > end - at, 0)) return false;
        for (u32 v = 0; v < PARTS; ++v) {
            const V value = _mm512_sub_epi32(_mm512_add_epi32(own[v].first, place[v].k), all(1));
            _mm512_mask_storeu_epi32(symbols + i + 16 * v, on(), value);
        }
        if (__builtin_expect(escaped != 0, 0) &&
            !take_escapes(l, chunk, escaped, symbols + i))
            return false;
        for (u32 v = 0; v < PARTS; ++v) refill(x[v], y[v], need[v], at);
        return true;
    }

    // x < 2^16: x = x * 2^16 + word
    static INLINE void refill(V &x, V y, u32 need, const u16 *&at) {
        const u32 count = (u32)__builtin_popcount(need);
        const V words = _mm512_cvtepu16_epi32(
            _mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), at));
        const V own = _mm512_maskz_expand_epi32((__mmask16)need, words);
        x = _mm512_mask_or_epi32(y, (__mmask16)need, _mm512_slli_epi32(y, 16), own);
        at += count;
    }

    TARGET void run(Run &run) const {
        u32 *states = l.states + run.chunk * N;
        const u16 *at = l.words + l.word[run.chunk];
        const u16 *end = l.words + l.word_end[run.chunk];
        V x[PARTS];
        for (u32 v = 0; v < PARTS; ++v)
            x[v] = _mm512_maskz_loadu_epi32(on(), states + 16 * v);
        i64 i = run.begin;
        while (i + (i64)N <= run.end && step(x, at, end, i, run.chunk)) i += N;
        for (u32 v = 0; v < PARTS; ++v)
            _mm512_mask_storeu_epi32(states + 16 * v, on(), x[v]);
        l.word[run.chunk] = at - l.words;
        run.begin = i;
    }
};

template <u32 K>
TARGET void decode_components(const PriorJob &job, Run &run) {
    const Scales scales(*job.p);
    if (job.l->lanes == 32)
        Decoder<32, K>{*job.p, *job.l, scales, job.symbols}.run(run);
    else if (job.l->lanes == 16)
        Decoder<16, K>{*job.p, *job.l, scales, job.symbols}.run(run);
    else
        Decoder<8, K>{*job.p, *job.l, scales, job.symbols}.run(run);
}

// About -log2(freq / 2^15) in 1/256 bit.
INLINE V estimates(V freq) {
    const V exponent = _mm512_sub_epi32(all(31), _mm512_lzcnt_epi32(freq));
    const V m = _mm512_and_si512(_mm512_srlv_epi32(_mm512_slli_epi32(freq, 8), exponent),
                                 all(255));
    const V bend = _mm512_mullo_epi32(_mm512_mullo_epi32(m, _mm512_sub_epi32(all(256), m)),
                                      all(88));
    const V whole = _mm512_slli_epi32(_mm512_sub_epi32(all(PRIOR_PRECISION), exponent), 8);
    return _mm512_sub_epi32(whole, _mm512_add_epi32(m, _mm512_srli_epi32(bend, 16)));
}

// floor(2^32 / freq): a double's quotient is off by 2^-21 at most and by 2^-15 at least
// from the next integer. 2^32 itself comes out as 2^32 - 1.
INLINE V reciprocals(V freq) {
    const __m512d whole = _mm512_set1_pd(4294967296.0);
    const __m256i low = _mm512_cvttpd_epu32(
        _mm512_div_pd(whole, _mm512_cvtepu32_pd(low_half(freq))));
    const __m256i high = _mm512_cvttpd_epu32(
        _mm512_div_pd(whole, _mm512_cvtepu32_pd(high_half(freq))));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

INLINE void store_entries(EncodeRow *rows, V start, V freq) {
    const V sf = _mm512_or_si512(start, _mm512_slli_epi32(freq, 16)), r = reciprocals(freq);
    const V order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(rows, _mm512_permutex2var_epi32(sf, order, r));
    _mm512_storeu_si512(rows + 8, _mm512_permutex2var_epi32(
                                      sf, _mm512_add_epi32(order, all(8)), r));
}

// Stops before sixteen that hold an escape or what cannot be coded.
template <u32 K>
TARGET i64 find_rows(PriorRowsJob &job, i64 i, i64 end) {
    const RansPrior &p = *job.p;
    const Scales scales(p);
    V cost = zero();  // 8 sums of 64 bits
    for (; i + 16 <= end; i += 16) {
        Sixteen<K> own;
        if (!own.open(p, scales, i, 0xFFFF)) break;
        const V symbol = _mm512_loadu_si512(job.symbols + i);
        const V k = _mm512_add_epi32(_mm512_sub_epi32(symbol, own.first), all(1));
        const V narrow = _mm512_srai_epi32(_mm512_slli_epi32(symbol, 16), 16);
        const V outside = _mm512_srlv_epi32(k, own.bits);
        if (_mm512_cmpneq_epi32_mask(narrow, symbol) |
            _mm512_test_epi32_mask(outside, outside) | _mm512_testn_epi32_mask(k, k))
            break;
        const V next = _mm512_add_epi32(k, all(1));
        const V start = own.below(scales, k);
        V stop = own.below(scales, next);
        const V last = _mm512_srlv_epi32(next, own.bits);
        stop = _mm512_mask_mov_epi32(stop, _mm512_test_epi32_mask(last, last), all(PRIOR_WHOLE));
        const V freq = _mm512_sub_epi32(stop, start);
        store_entries(job.rows + i, start, freq);
        const V c = estimates(freq);
        cost = _mm512_add_epi64(cost, _mm512_add_epi64(_mm512_srli_epi64(c, 32),
                                                       _mm512_maskz_mov_epi32(0x5555, c)));
    }
    job.cost += (u64)_mm512_reduce_add_epi64(cost);
    return i;
}

}  // namespace

void decode_mixture_avx512(const PriorJob &job, Run *runs, i32 count) {
    if (count == 2) return;  // one chunk has enough to do
    if (job.p->size == 1) return decode_components<1>(job, *runs);
    if (job.p->size == 2) return decode_components<2>(job, *runs);
    if (job.p->size == 3) return decode_components<3>(job, *runs);
    return decode_components<4>(job, *runs);
}

i64 mixture_rows_avx512(PriorRowsJob &job, i64 begin, i64 end) {
    if (job.p->size == 1) return find_rows<1>(job, begin, end);
    if (job.p->size == 2) return find_rows<2>(job, begin, end);
    if (job.p->size == 3) return find_rows<3>(job, begin, end);
    return find_rows<4>(job, begin, end);
}

}  // namespace rans

#endif
