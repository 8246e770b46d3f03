// SPDX-License-Identifier: Apache-2.0
//
// Categorical distributions with AVX-512: one symbol at a time, sixteen of its values
// side by side. Two registers hold POWERS. cuda/priors/priors.h has the arithmetic.

#include "avx512.h"

#if RANS_X86

namespace rans {
namespace {

struct Row {
    const i16 *logits;
    u32 values;
    V powers0, powers1, most;

    INLINE Row(const RansPrior &p, i64 at) {
        logits = p.logits + at * p.size;
        values = (u32)p.size;
        powers0 = _mm512_loadu_si512(p.powers);
        powers1 = _mm512_loadu_si512(p.powers + 16);
        V largest = load(0);
        for (u32 k = 16; k < values; k += 16) largest = _mm512_max_epi32(largest, load(k));
        most = all((u32)_mm512_reduce_max_epi32(largest));
    }

    INLINE __mmask16 on(u32 k) const {
        return values - k >= 16 ? 0xFFFF : (__mmask16)((1u << (values - k)) - 1);
    }

    // Behind the last value: the least that 16 bits can hold.
    INLINE V load(u32 k) const {
        const __m256i least = _mm256_set1_epi16(-32768);
        return _mm512_cvtepi16_epi32(_mm256_mask_loadu_epi16(least, on(k), logits + k));
    }

    // Powers of sixteen values from k on, 0 behind the last.
    INLINE V power(u32 k) const {
        const V d = _mm512_sub_epi32(most, load(k));
        const V whole = _mm512_permutex2var_epi32(powers0, d, powers1);
        return _mm512_maskz_srlv_epi32(on(k), whole, _mm512_srli_epi32(d, 5));
    }
};

}  // namespace

TARGET Slot find_value_avx512(const RansPrior &p, i64 at, u32 r) {
    const Row row(p, at);
    alignas(64) u32 powers[MAX_VALUES + 16];
    u32 sums[MAX_VALUES / 16], sum = 0;  // of sixteen each
    for (u32 k = 0; k < row.values; k += 16) {
        const V own = row.power(k);
        _mm512_store_si512(powers + k, own);
        sum += sums[k / 16] = (u32)_mm512_reduce_add_epi32(own);
    }
    const u64 rest = PRIOR_WHOLE - row.values;
    u32 k = 0, before = 0;
    // c(k) <= r: before * (2^15 - A) < (r - k + 1) * sum
    for (; k + 16 < row.values && k + 16 <= r; k += 16) {
        const u32 next = before + sums[k / 16];
        if (next * rest >= (u64)(r - k - 15) * sum) break;
        before = next;
    }
    for (; k + 1 < row.values && k + 1 <= r; ++k) {
        const u32 next = before + powers[k];
        if (next * rest >= (u64)(r - k) * sum) break;
        before = next;
    }
    const u32 start = (u32)(before * rest / sum) + k;
    Slot slot;
    slot.number = k;
    slot.freq = (u32)((before + powers[k]) * rest / sum) + k + 1 - start;
    slot.bias = r - start;
    return slot;
}

TARGET EncodeRow entry_of_value_avx512(const RansPrior &p, i64 at, u32 value) {
    const Row row(p, at);
    V sums = _mm512_setzero_si512(), before = sums, own = sums;
    const V number = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (u32 k = 0; k < row.values; k += 16) {
        const V power = row.power(k), at_k = _mm512_add_epi32(number, all(k));
        sums = _mm512_add_epi32(sums, power);
        before = _mm512_mask_add_epi32(
            before, _mm512_cmplt_epu32_mask(at_k, all(value)), before, power);
        own = _mm512_mask_mov_epi32(own, _mm512_cmpeq_epi32_mask(at_k, all(value)), power);
    }
    const u32 sum = (u32)_mm512_reduce_add_epi32(sums);
    const u64 rest = PRIOR_WHOLE - row.values, first = (u32)_mm512_reduce_add_epi32(before);
    const u64 last = first + (u32)_mm512_reduce_add_epi32(own);
    return entry_of((u32)(first * rest / sum) + value, (u32)(last * rest / sum) + value + 1);
}

}  // namespace rans

#endif
