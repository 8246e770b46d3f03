// SPDX-License-Identifier: Apache-2.0
//
// The range coder's CUDA kernels.
//
//   decode    the next pass of every chunk of a batch; chunks stay where they stop
//   survey    what a pass will cost, its escapes, the first symbol that cannot be coded
//   encode    a pass, last symbol first, into room for the worst case
//   measure   lengths of the finished chunks, and their sums
//   compact   the one copy of finished bytes
//   checksum  CRC-32C of planes of bytes, on from the planes before
//
// One warp is one chunk, or several small ones (kernels.h). cuda/core.h has the
// arithmetic, cuda/FORMAT.md the bitstream. Nothing else is included: NVRTC compiles this
// file as it is, and emulation.cpp runs it on the host.

#include "priors.h"
#include "tables.h"

namespace rans {

RANS_FN i64 size_of(const Chunk &c) {
    return 2 * c.lanes + (c.word_end - c.word) + (c.side_end - c.side);
}

// One block: each thread adds up neighbours, then all sums are added up in a tree.
RANS_FN void measure(const Collect &job) {
    i64 *sums = (i64 *)shared_memory;
    const i64 share = (job.count + (i64)blockDim.x - 1) / blockDim.x;
    const i64 begin = least<i64>(share * threadIdx.x, job.count);
    const i64 end = least<i64>(begin + share, job.count);
    i64 own = 0;
    for (i64 c = begin; c < end; ++c) own += size_of(job.chunks[c]);
    sums[threadIdx.x] = own;
    __syncthreads();
    for (u32 far = 1; far < blockDim.x; far *= 2) {
        const i64 before = threadIdx.x >= far ? sums[threadIdx.x - far] : 0;
        __syncthreads();
        sums[threadIdx.x] += before;
        __syncthreads();
    }
    i64 at = sums[threadIdx.x] - own;
    for (i64 c = begin; c < end; ++c) {
        job.offsets[c] = at;
        at += size_of(job.chunks[c]);
    }
    if (threadIdx.x == blockDim.x - 1) job.offsets[job.count] = at;
}

// One block for each chunk: copy its states, words and side list, as framing.py cuts them.
RANS_FN void compact(const Collect &job) {
    const Chunk chunk = job.chunks[blockIdx.x];
    u16 *out = job.out + job.offsets[blockIdx.x];
    const i64 states = 2 * chunk.lanes, words = chunk.word_end - chunk.word;
    const i64 escapes = chunk.side_end - chunk.side;
    for (i64 i = threadIdx.x; i < states; i += blockDim.x)
        out[i] = (u16)(job.states[chunk.state + i / 2] >> (i % 2 * 16));
    for (i64 i = threadIdx.x; i < words; i += blockDim.x)
        out[states + i] = job.words[chunk.word + i];
    for (i64 i = threadIdx.x; i < escapes; i += blockDim.x)
        out[states + words + i] = (u16)job.side[chunk.side + i];
}

const u32 POLYNOMIAL = 0x82F63B78;  // BITSTREAM: CRC-32C, its bits reversed
const i64 SEGMENT = 256;            // bytes that a thread takes at a time

// a * b modulo the polynomial; the highest bit stands for x^0.
RANS_FN u32 times(u32 a, u32 b) {
    u32 product = 0;
    for (; a; a <<= 1) {
        if (a >> 31) product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

// The raw state after `count` more bytes of 0.
RANS_FN u32 shift(const Checksum &job, u32 state, i64 count) {
    for (u32 k = 0; count >> k; ++k)
        if (count >> k & 1) state = times(state, job.powers[k]);
    return state;
}

// A checksum is linear: those of segments, moved to their places, add up in any order.
RANS_FN void checksum(const Checksum &job) {
    u32 *table = (u32 *)shared_memory;
    for (u32 i = threadIdx.x; i < 256; i += blockDim.x) {
        u32 state = i;
        for (u32 k = 0; k < 8; ++k) state = (state >> 1) ^ (state & 1 ? POLYNOMIAL : 0);
        table[i] = state;
    }
    __syncthreads();
    const u8 *bytes = job.bytes + job.n * blockIdx.y;
    const i64 thread = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    const i64 stride = (i64)gridDim.x * blockDim.x * SEGMENT;
    u32 sum = thread ? 0 : shift(job, job.before[blockIdx.y], job.n);
    for (i64 begin = thread * SEGMENT; begin < job.n; begin += stride) {
        const i64 end = least(begin + SEGMENT, job.n);
        u32 state = 0;
        for (i64 i = begin; i < end; ++i)
            state = table[(state ^ bytes[i]) & 0xFF] ^ (state >> 8);
        sum ^= shift(job, state, job.n - end);
    }
    if (sum) atomicXor(job.after + blockIdx.y, sum);
}

}  // namespace rans

// Blocks of 256 threads on a multiprocessor of 65536 registers: 4 leave each thread 64
// of them, which the encoder's do not fit on all targets without spills; 3 leave 80.
#define KERNEL extern "C" __global__ void __launch_bounds__(256, 4)
#define LARGE_KERNEL extern "C" __global__ void __launch_bounds__(256, 3)

#define TABLES(Index, Guess, near) rans::TwoLevelTables<rans::Index, rans::Guess, near>
#define ROWS(Index, near) rans::RowTables<rans::Index, near>

KERNEL decode_u8_near(rans::Pass p) { rans::decode<TABLES(u8, u8, true)>(p); }
KERNEL decode_i32_near(rans::Pass p) { rans::decode<TABLES(i32, u8, true)>(p); }
KERNEL decode_u8_large(rans::Pass p) { rans::decode<TABLES(u8, u16, true)>(p); }
KERNEL decode_i32_large(rans::Pass p) { rans::decode<TABLES(i32, u16, true)>(p); }
KERNEL decode_u8_far(rans::Pass p) { rans::decode<TABLES(u8, u16, false)>(p); }
KERNEL decode_i32_far(rans::Pass p) { rans::decode<TABLES(i32, u16, false)>(p); }
LARGE_KERNEL encode_u8_near(rans::Pass p) { rans::encode<ROWS(u8, true)>(p); }
LARGE_KERNEL encode_i32_near(rans::Pass p) { rans::encode<ROWS(i32, true)>(p); }
LARGE_KERNEL encode_u8_far(rans::Pass p) { rans::encode<ROWS(u8, false)>(p); }
LARGE_KERNEL encode_i32_far(rans::Pass p) { rans::encode<ROWS(i32, false)>(p); }
KERNEL survey_u8(rans::Survey s) { rans::survey<rans::TableCosts<rans::u8>>(s); }
KERNEL survey_i32(rans::Survey s) { rans::survey<rans::TableCosts<rans::i32>>(s); }
KERNEL decode_mixture(rans::PriorPass p) { rans::decode<rans::Mixtures>(p); }
KERNEL decode_categorical(rans::PriorPass p) { rans::decode<rans::Categoricals>(p); }
LARGE_KERNEL encode_mixture(rans::PriorPass p) { rans::encode<rans::Mixtures>(p); }
LARGE_KERNEL encode_categorical(rans::PriorPass p) {
    rans::encode<rans::Categoricals>(p);
}
KERNEL survey_mixture(rans::PriorSurvey s) { rans::survey<rans::MixtureCosts>(s); }
KERNEL survey_categorical(rans::PriorSurvey s) {
    rans::survey<rans::CategoricalCosts>(s);
}
KERNEL checksum(rans::Checksum c) { rans::checksum(c); }
KERNEL measure(rans::Collect c) { rans::measure(c); }
KERNEL compact(rans::Collect c) { rans::compact(c); }
