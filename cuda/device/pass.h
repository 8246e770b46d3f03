// SPDX-License-Identifier: Apache-2.0
//
// One pass over all chunks of a batch, whatever its symbols' distributions are.
//
//   decode   index ahead -> slot -> symbol, or the next escape; a step of the lanes
//   encode   index and symbol ahead -> row -> a step of the lanes; an escape's value
//   survey   every symbol's cost, and whether it can be coded
//
// The parameter Kind describes the distributions (tables.h, priors.h):
//
//   Job, SHARED      the kernel's argument; whether tables are copied to shared memory
//   AHEAD            steps whose indexes are read before they are needed
//   ALWAYS           whether entry() may be called for lanes without a symbol
//   Kind(job, near, seat)    near: where the tables are now
//   precision(), has_escapes()
//   index(i)         what finds symbol i's distribution, read from memory
//   check(index)     the same, or another one where there is no such distribution
//   find(index, r, precision), value(index, number)     decoding; ESCAPE is a number
//   entry(index, symbol, escaped)                       encoding
//   status           bits of what was wrong so far

#ifndef POLYCODEC_RANS_CUDA_PASS_H
#define POLYCODEC_RANS_CUDA_PASS_H

#include "kernels.h"

namespace rans {

RANS_FN const Pass &pass_of(const Pass &pass) { return pass; }

// Where a thread works: its lane of its chunk, and the chunk's symbols in this pass.
// layouts.py keeps passes and chunks below 2^30 symbols, so 32 bits are enough here.
struct Seat {
    Chunk *chunk;
    bool taken;        // false for the warp's last threads where chunks do not fill it
    i32 lane, lanes;
    i32 steps;         // the same in all chunks of a warp
    i32 first;         // the chunk's first symbol among its stream's
    i64 begin;         // the same in the batch's flat arrays
    i32 count;         // the chunk's symbols

    RANS_FN Seat(const Pass &pass, u32 warp) {
        const WarpChunks here = pass.warps[warp];
        lanes = pass.chunks[here.first].lanes;
        const i32 seat = (i32)(threadIdx.x & 31) / lanes;
        taken = seat < here.count;
        chunk = pass.chunks + here.first + (taken ? seat : 0);
        lane = (i32)threadIdx.x & (lanes - 1);
        const i32 all = (pass.n + lanes - 1) / lanes;
        steps = (all + chunk->chunks - 1) / chunk->chunks;
        const i64 share = (i64)steps * lanes;
        first = (i32)least<i64>(share * chunk->number, pass.n);
        begin = (i64)pass.n * chunk->stream + first;
        count = taken ? (i32)least<i64>(share, pass.n - first) : 0;
    }

    // Place of the lane's symbol; none is at `count` or more, or below 0.
    RANS_FN i32 place(i32 step) const { return step * lanes + lane; }
    RANS_FN bool has(i32 place) const { return (u32)place < (u32)count; }
};

// Whether a thread codes; the other warps of a block only help to load tables.
RANS_FN bool has_work(const Pass &pass, u32 &warp) {
    const u32 own = threadIdx.x / 32;
    warp = blockIdx.x * (u32)pass.warps_per_block + own;
    return own < (u32)pass.warps_per_block && warp < (u32)pass.warp_count;
}

// Store where the chunk stands, so that the next pass can go on.
RANS_FN void leave(const Pass &pass, const Seat &seat, const Group &group, u32 x,
                   i32 word, i32 side, u32 status) {
    u32 all = 0;
    for (u32 bit = 1; bit <= NO_DISTRIBUTION; bit <<= 1)
        if (__ballot_sync(WHOLE_WARP, (status & bit) != 0) & group.mask) all |= bit;
    if (!seat.taken) return;
    pass.states[seat.chunk->state + seat.lane] = x;
    if (seat.lane) return;
    seat.chunk->word = seat.chunk->word_begin + word;
    seat.chunk->side = seat.chunk->side_begin + side;
    seat.chunk->status |= all;
}

// What a thread of a survey has found; a block's threads add it up.
struct Findings {
    u64 cost, escapes, bad;

    RANS_FN Findings() { cost = escapes = 0, bad = ~(u64)0; }

    RANS_FN void add(i64 i, u32 bits, bool escaped, bool fine) {
        cost += bits;
        escapes += escaped;
        if (!fine && bad == ~(u64)0) bad = (u64)i;
    }

    // For all threads of the block, while nothing else uses its shared memory.
    RANS_FN void tell(Found &all) const {
        Found *near = (Found *)shared_memory;
        if (threadIdx.x == 0) {
            near->cost = near->escapes = 0;
            near->bad = ~(u64)0;
        }
        __syncthreads();
        atomicAdd(&near->cost, cost);
        atomicAdd(&near->escapes, escapes);
        atomicMin(&near->bad, bad);
        __syncthreads();
        if (threadIdx.x) return;
        atomicAdd(&all.cost, near->cost);
        atomicAdd(&all.escapes, near->escapes);
        atomicMin(&all.bad, near->bad);
    }
};

template <class Kind>
RANS_FN void decode(const typename Kind::Job &job) {
    const Pass &pass = pass_of(job);
    const u32 *near = load_tables<Kind::SHARED>(pass.blob);
    u32 warp;
    if (!has_work(pass, warp)) return;
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    Kind kind(job, near, seat);
    i32 *symbols = pass.symbols + seat.begin;
    Words words(pass, *seat.chunk, group);
    Escapes escapes(pass, *seat.chunk, group);
    u32 x = pass.states[seat.chunk->state + seat.lane];

    const i32 AHEAD = Kind::AHEAD;
    u32 coming[AHEAD];
    for (i32 k = 0; k < AHEAD; ++k) {
        const i32 i = seat.place(k);
        coming[k] = seat.has(i) ? kind.index(i) : 0;
    }
    for (i32 step = 0; step < seat.steps; step += AHEAD) {
        u32 index[AHEAD];
#pragma unroll
        for (i32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(step + AHEAD + k);
            index[k] = coming[k];
            coming[k] = seat.has(i) ? kind.index(i) : 0;
        }
#pragma unroll
        for (i32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(step + k);
            const bool on = seat.has(i);
            const u32 own = kind.check(index[k]);
            u32 number = Kind::ESCAPE + 1;
            decode_step<OneLane>(kind, kind.precision(), &own, on, &x, &number, words);
            i32 symbol = kind.value(own, number);
            if (kind.has_escapes()) {
                const bool escaped = on && number == Kind::ESCAPE;
                escapes.take(escaped, symbol);
            }
            if (on) symbols[i] = symbol;
        }
    }
    if (words.ran_out) kind.status |= OUT_OF_WORDS;
    leave(pass, seat, group, x, words.at, escapes.at, kind.status | escapes.status);
}

template <class Kind>
RANS_FN void encode(const typename Kind::Job &job) {
    const Pass &pass = pass_of(job);
    const u32 *near = load_tables<Kind::SHARED>(pass.blob);
    u32 warp;
    if (!has_work(pass, warp)) return;
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    Kind kind(job, near, seat);
    const i32 *symbols = pass.symbols + seat.begin;
    Words words(pass, *seat.chunk, group);
    Escapes escapes(pass, *seat.chunk, group);
    u32 x = pass.states[seat.chunk->state + seat.lane];

    const i32 AHEAD = Kind::AHEAD;
    u32 coming[AHEAD];
    i32 coming_symbol[AHEAD];
    for (i32 k = 0; k < AHEAD; ++k) {
        const i32 i = seat.place(seat.steps - 1 - k);
        coming[k] = seat.has(i) ? kind.index(i) : 0;
        coming_symbol[k] = seat.has(i) ? symbols[i] : 0;
    }
    for (i32 top = seat.steps - 1; top >= 0; top -= AHEAD) {
        u32 index[AHEAD];
        i32 symbol[AHEAD];
#pragma unroll
        for (i32 k = 0; k < AHEAD; ++k) {
            const i32 i = seat.place(top - AHEAD - k);
            index[k] = coming[k];
            symbol[k] = coming_symbol[k];
            coming[k] = seat.has(i) ? kind.index(i) : 0;
            coming_symbol[k] = seat.has(i) ? symbols[i] : 0;
        }
#pragma unroll
        for (i32 k = 0; k < AHEAD; ++k) {
            const bool on = seat.has(seat.place(top - k));
            const u32 own = kind.check(index[k]), only = 0;
            bool escaped = false;
            const EncodeRow row = Kind::ALWAYS || on
                                      ? kind.entry(own, symbol[k], escaped)
                                      : EncodeRow();
            encode_step<OneLane>(&row, kind.precision(), &only, on, &x, words);
            if (kind.has_escapes()) escapes.put(on && escaped, symbol[k]);
        }
    }
    if (words.ran_out) kind.status |= OUT_OF_WORDS;
    leave(pass, seat, group, x, words.at, escapes.at, kind.status | escapes.status);
}

// Costs::price returns what symbol i of stream blockIdx.y costs, if it can be coded.
template <class Costs>
RANS_FN void survey(const typename Costs::Job &job) {
    const Costs costs(job, blockIdx.y);
    const i32 *symbols = job.symbols + (i64)job.n * blockIdx.y;
    Findings own;
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < job.n; i += stride) {
        bool escaped = false;
        u32 bits = 0;
        const bool fine = costs.price(i, symbols[i], bits, escaped);
        own.add(i, bits, escaped, fine);
    }
    own.tell(job.found[blockIdx.y]);
}

}  // namespace rans

#endif
