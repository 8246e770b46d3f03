// SPDX-License-Identifier: Apache-2.0
//
// What the AVX-512 sources share. They need VBMI2: Ice Lake, Zen 4 and later.

#ifndef POLYCODEC_RANS_AVX512_H
#define POLYCODEC_RANS_AVX512_H

#include "host.h"

#if RANS_X86

#include <immintrin.h>

// Every function names its target, so that no compiler flag is needed and no other
// function uses these instructions.
#define TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vbmi2,bmi2,popcnt")))
#define INLINE TARGET inline __attribute__((always_inline))

namespace rans {

typedef __m512i V;

void decode_avx512(const DecodeJob &job, Run *runs, i32 count);
void encode_avx512(const EncodeJob &job, Run *runs, i32 count);
i64 rows_avx512(RowsJob &job, i64 begin, i64 end);
void decode_mixture_avx512(const PriorJob &job, Run *runs, i32 count);
i64 mixture_rows_avx512(PriorRowsJob &job, i64 begin, i64 end);
Slot find_value_avx512(const RansPrior &p, i64 at, u32 r);
EncodeRow entry_of_value_avx512(const RansPrior &p, i64 at, u32 value);

INLINE V all(u32 value) { return _mm512_set1_epi32((i32)value); }

INLINE __m256i low_half(V v) { return _mm512_castsi512_si256(v); }
INLINE __m256i high_half(V v) { return _mm512_extracti64x4_epi64(v, 1); }

}  // namespace rans

#endif
#endif
