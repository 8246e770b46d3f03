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
// One warp is one chunk, or several small ones (rans_cuda.h); the arithmetic is
// rans_core.h's, the bitstream FORMAT.md's. Nothing else is included: NVRTC compiles
// this file as it is, emulation.cpp runs it on the host.

#include "rans_cuda.h"
#include "rans_cuda_priors.h"

namespace rans {

template <class Index, class Guess, bool Shared>
RANS_FN void decode(const Pass &pass) {
    const TableBlob &blob = pass.blob;
    const u32 *near = load_tables<Shared>(blob);
    u32 warp;
    if (!has_work(pass, warp)) return;
    const u32 *first = near + blob.rows, *minimum = first + blob.tables;
    const TwoLevelTables<Guess> tables = {near, first,
                                          (const Guess *)(minimum + blob.tables),
                                          blob.tables, blob.guess_bits};
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    const Chunk &chunk = *seat.chunk;
    const Index *indexes = (const Index *)pass.indexes + seat.begin;
    i32 *symbols = pass.symbols + seat.begin;
    const i16 *values = pass.side + chunk.side_begin;
    i32 side = (i32)(chunk.side - chunk.side_begin);
    const i32 side_end = (i32)(chunk.side_end - chunk.side_begin);
    WordsUp words = {pass.words + chunk.word_begin,
                     (i32)(chunk.word - chunk.word_begin),
                     (i32)(chunk.word_end - chunk.word_begin),
                     group, chunk.mini != 0, false};
    u32 x = pass.states[chunk.state + seat.lane], status = 0;

    u32 coming[AHEAD];
    for (u32 k = 0; k < AHEAD; ++k) {
        const i32 i = seat.place(k);
        coming[k] = i < seat.count ? (u32)indexes[i] : 0;
    }
    for (i32 step = 0; step < seat.steps; step += AHEAD) {
        u32 table[AHEAD];
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(step + AHEAD + k);
            table[k] = coming[k];
            coming[k] = i < seat.count ? (u32)indexes[i] : 0;
        }
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(step + k);
            const bool on = i < seat.count;
            if (table[k] >= blob.tables) status |= NO_SUCH_TABLE, table[k] = 0;
            u32 number = 1;
            decode_step<OneLane>(tables, blob.precision, table + k, on, &x, &number,
                                 words);
            i32 symbol = (i32)(minimum[table[k]] + number - 1);
            if (blob.escapes) {
                const bool escaped = on && number == 0;
                const Vote vote(group, escaped);
                if (escaped) {
                    if (side + vote.rank < side_end)
                        symbol = values[side + vote.rank];
                    else
                        status |= OUT_OF_ESCAPES;
                }
                side = least(side + vote.count, side_end);
            }
            if (on) symbols[i] = symbol;
        }
    }
    if (words.ran_out) status |= OUT_OF_WORDS;
    leave(pass, seat, group, x, words.at, side, status);
}

template <class Index, bool Shared>
RANS_FN void encode(const Pass &pass) {
    const TableBlob &blob = pass.blob;
    const Rows tables(blob, load_tables<Shared>(blob));
    u32 warp;
    if (!has_work(pass, warp)) return;
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    const Chunk &chunk = *seat.chunk;
    const Index *indexes = (const Index *)pass.indexes + seat.begin;
    const i32 *symbols = pass.symbols + seat.begin;
    i16 *values = pass.side + chunk.side_begin;
    i32 side = (i32)(chunk.side - chunk.side_begin);
    WordsDown words = {pass.words + chunk.word_begin,
                       (i32)(chunk.word - chunk.word_begin), group, false};
    u32 x = pass.states[chunk.state + seat.lane], status = 0;

    u32 coming[AHEAD];
    i32 coming_symbol[AHEAD];
    for (u32 k = 0; k < AHEAD; ++k) {
        const i32 i = seat.place(seat.steps - 1 - (i32)k);
        coming[k] = seat.has(i) ? (u32)indexes[i] : 0;
        coming_symbol[k] = seat.has(i) ? symbols[i] : 0;
    }
    for (i32 top = seat.steps - 1; top >= 0; top -= AHEAD) {
        u32 table[AHEAD];
        i32 symbol[AHEAD];
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(top - (i32)(AHEAD + k));
            table[k] = coming[k];
            symbol[k] = coming_symbol[k];
            coming[k] = seat.has(i) ? (u32)indexes[i] : 0;
            coming_symbol[k] = seat.has(i) ? symbols[i] : 0;
        }
#pragma unroll
        for (u32 k = 0; k < AHEAD; ++k) {
            const bool on = seat.has(seat.place(top - (i32)k));
            if (table[k] >= blob.tables) status |= NO_SUCH_TABLE, table[k] = 0;
            bool outside;
            const u32 row = tables.find(table[k], symbol[k], outside);
            encode_step<OneLane>(tables.rows, blob.precision, &row, on, &x, words);
            if (blob.escapes) {
                const bool escaped = on && outside;
                const Vote vote(group, escaped);
                const i32 place = side - vote.count + vote.rank;
                if (escaped) {
                    if (place >= 0)
                        values[place] = (i16)symbol[k];
                    else
                        status |= OUT_OF_ESCAPES;
                }
                side -= least(vote.count, side);
            }
        }
    }
    if (words.ran_out) status |= OUT_OF_WORDS;
    leave(pass, seat, group, x, words.at, side, status);
}

template <class Index>
RANS_FN void survey(const Survey &job) {
    const Rows tables(job.blob, job.blob.data);
    const i64 from = (i64)job.n * blockIdx.y;
    Findings own;
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < job.n; i += stride) {
        const u32 table = (u32)((const Index *)job.indexes)[from + i];
        const i32 symbol = job.symbols[from + i];
        bool escaped = false, fine = table < job.blob.tables;
        u32 cost = 0;
        if (fine) {
            const u32 row = tables.find(table, symbol, escaped);
            cost = job.costs[row];
            if (escaped) fine = tables.rows[row].freq && symbol == (i16)symbol;
        }
        own.add(i, cost, escaped, fine);
    }
    own.tell(job.found[blockIdx.y]);
}

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

// A block per chunk: its states, words and side list, as framing.py wants them.
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

// A checksum is linear: segments' own, moved to their places, add up in any order.
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

KERNEL decode_u8_near(rans::Pass p) { rans::decode<rans::u8, rans::u8, true>(p); }
KERNEL decode_i32_near(rans::Pass p) { rans::decode<rans::i32, rans::u8, true>(p); }
KERNEL decode_u8_large(rans::Pass p) { rans::decode<rans::u8, rans::u16, true>(p); }
KERNEL decode_i32_large(rans::Pass p) { rans::decode<rans::i32, rans::u16, true>(p); }
KERNEL decode_u8_far(rans::Pass p) { rans::decode<rans::u8, rans::u16, false>(p); }
KERNEL decode_i32_far(rans::Pass p) { rans::decode<rans::i32, rans::u16, false>(p); }
LARGE_KERNEL encode_u8_near(rans::Pass p) { rans::encode<rans::u8, true>(p); }
LARGE_KERNEL encode_i32_near(rans::Pass p) { rans::encode<rans::i32, true>(p); }
LARGE_KERNEL encode_u8_far(rans::Pass p) { rans::encode<rans::u8, false>(p); }
LARGE_KERNEL encode_i32_far(rans::Pass p) { rans::encode<rans::i32, false>(p); }
KERNEL survey_u8(rans::Survey s) { rans::survey<rans::u8>(s); }
KERNEL survey_i32(rans::Survey s) { rans::survey<rans::i32>(s); }
KERNEL decode_mixture(rans::PriorPass p) { rans::decode_prior<rans::Mixtures>(p); }
KERNEL decode_categorical(rans::PriorPass p) {
    rans::decode_prior<rans::Categoricals>(p);
}
LARGE_KERNEL encode_mixture(rans::PriorPass p) { rans::encode_prior<rans::Mixtures>(p); }
LARGE_KERNEL encode_categorical(rans::PriorPass p) {
    rans::encode_prior<rans::Categoricals>(p);
}
KERNEL survey_mixture(rans::PriorSurvey s) { rans::survey_prior<rans::Mixtures>(s); }
KERNEL survey_categorical(rans::PriorSurvey s) {
    rans::survey_prior<rans::Categoricals>(s);
}
KERNEL checksum(rans::Checksum c) { rans::checksum(c); }
KERNEL measure(rans::Collect c) { rans::measure(c); }
KERNEL compact(rans::Collect c) { rans::compact(c); }
