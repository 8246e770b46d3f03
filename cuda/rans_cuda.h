// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA kernels stand on: one thread is one lane of rans_core.h, one warp one
// chunk, or several small ones.
//
//   thread   0 1 2 3 4 5 6 7 | 8 9 ...      | 24 ... 31
//   chunk    first           | first + 1    | first + 3          (8 lanes)
//   vote     bits of the own chunk; rank: the yes of lower lanes, count: of all
//
// Warps share nothing but read-only tables; in a warp, lanes meet in votes only.
// Structures are mirrored, field by field, in device_layouts.py.

#ifndef POLYCODEC_RANS_CUDA_H
#define POLYCODEC_RANS_CUDA_H

#include "rans_core.h"

namespace rans {

const u32 WHOLE_WARP = 0xFFFFFFFFu;
const u32 AHEAD = 4;          // steps whose inputs are read before they are needed

// What went wrong in a chunk; bits.
const u32 OUT_OF_WORDS = 1, OUT_OF_ESCAPES = 2, NO_SUCH_TABLE = 4, NO_DISTRIBUTION = 8;

// One chunk of one stream. Places in `words` and `side`: decoding moves from begin to
// end, encoding from end to begin.
struct Chunk {
    i64 word_begin, word, word_end;
    i64 side_begin, side, side_end;
    i32 state;    // place of its lane 0 in `states`
    i32 stream;   // of the batch
    i32 number;   // among the `chunks` of its stream
    i32 chunks;
    i32 lanes;    // 1, 2, 4 ... 32
    i32 mini;     // 1: states may stay below 2^16 when the words are used up
    u32 status;
    i32 unused;
};

// The chunks of a warp: neighbours that agree in lanes and chunks, 32 / lanes at most.
struct WarpChunks {
    i32 first, count;
};

// Tables as one array, so that one loop brings them to shared memory:
//   decoding   start | freq << 16 (rows), first (tables), minimum (tables), guesses
//   encoding   EncodeRow (rows), first (tables + 1), minimum (tables)
struct TableBlob {
    const u32 *data;
    u32 quads;  // 16 bytes each
    u32 precision, tables, rows;
    u32 guess_bits;
    u32 escapes;  // 0: no table has one
};

struct Pass {
    const WarpChunks *warps;
    Chunk *chunks;
    u32 *states;
    u16 *words;
    i16 *side;
    const void *indexes;  // (batch, n) u8 or i32
    i32 *symbols;         // (batch, n)
    TableBlob blob;
    i32 n;
    i32 warp_count, warps_per_block;
};

struct Found {
    u64 cost;     // 1/256 bit
    u64 escapes;
    u64 bad;      // first symbol that cannot be coded, or all ones
};

struct Survey {
    const void *indexes;
    const i32 *symbols;
    TableBlob blob;    // the encoder's
    const u16 *costs;  // (rows) 1/256 bit
    Found *found;      // (batch)
    i32 n;
};

struct Collect {
    const Chunk *chunks;
    const u32 *states;
    const u16 *words;
    const i16 *side;
    i64 *offsets;  // (count + 1) in 16-bit words
    u16 *out;
    i32 count;
};

struct Checksum {
    const u8 *bytes;    // (batch, n)
    const u32 *before;  // (batch) raw states
    u32 *after;         // (batch), zeros at first
    i64 n;
    u32 powers[31];     // x^(8 * 2^k) modulo the polynomial
};

struct alignas(16) Quad {
    u32 part[4];
};

extern __shared__ Quad shared_memory[];

template <class T>
RANS_FN T least(T a, T b) {
    return a < b ? a : b;
}

// The threads of one chunk in their warp.
struct Group {
    u32 mask, below;  // all of them; those of lower lanes

    RANS_FN Group(u32 lanes) {
        const u32 thread = threadIdx.x & 31;
        mask = (WHOLE_WARP >> (32 - lanes)) << (thread & ~(lanes - 1));
        below = mask & ((1u << thread) - 1);
    }
};

struct Vote {
    i32 rank, count;  // lower lanes that said yes; all that did

    RANS_FN Vote(const Group &group, bool yes) {
        const u32 votes = __ballot_sync(WHOLE_WARP, yes);
        rank = (i32)__popc(votes & group.below);
        count = (i32)__popc(votes & group.mask);
    }
};

// A chunk's words, read upwards. Each thread of the chunk keeps the same place.
struct WordsUp {
    const u16 *words;
    i32 at, end;
    Group group;
    bool mini, ran_out;

    RANS_FN void refill(bool need, u32 &x) {
        const Vote vote(group, need);
        const i32 place = at + vote.rank;
        if (need) {
            if (place < end)
                x = (x << 16) | words[place];
            else if (!mini)
                ran_out = true;
        }
        at = least(at + vote.count, end);
    }
};

// The same, written downwards. The room is for the worst case: it cannot run out.
struct WordsDown {
    u16 *words;
    i32 at;
    Group group;
    bool ran_out;

    RANS_FN void spill(bool full, u32 &x) {
        const Vote vote(group, full);
        const i32 place = at - vote.count + vote.rank;
        if (full) {
            if (place >= 0)
                words[place] = (u16)x;
            else
                ran_out = true;
            x >>= 16;
        }
        at -= least(vote.count, at);
    }
};

// rans_core.h's policy: each caller holds one lane, and `active` says whether it is on.
struct OneLane {
    static const u32 held = 1;
    static RANS_FN u32 lane(u32) { return 0; }

    template <class Words>
    static RANS_FN void refill(u32 *x, u32 active, Words &in) {
        in.refill(active && x[0] < LOWER, x[0]);
    }

    template <class Words>
    static RANS_FN void spill(bool full, u32 &x, Words &out) {
        out.spill(full, x);
    }
};

// The leading bits of r give a slot to start from, none beyond the right one; a walk
// over start and frequency, one read each, finds it. The last slot ends at 2^P.
template <class Guess>
struct TwoLevelTables {
    const u32 *entries;
    const u32 *first;
    const Guess *guess;
    u32 tables, guess_bits;

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        table = table < tables ? table : 0;
        const u32 *entry = entries + first[table];
        Slot slot;
        slot.number = guess[(table << guess_bits) + (r >> (precision - guess_bits))];
        u32 word = entry[slot.number];
        while (r >= (word & 0xFFFF) + (word >> 16)) word = entry[++slot.number];
        slot.freq = word >> 16;
        slot.bias = r - (word & 0xFFFF);
        return slot;
    }
};

// All threads of the block bring the tables near; then a barrier.
template <bool Shared>
RANS_FN const u32 *load_tables(const TableBlob &blob) {
    if (!Shared) return blob.data;
    const Quad *from = (const Quad *)blob.data;
    for (u32 i = threadIdx.x; i < blob.quads; i += blockDim.x)
        shared_memory[i] = from[i];
    __syncthreads();
    return (const u32 *)shared_memory;
}

// Where a thread works: its lane of its chunk, and the chunk's symbols in this pass.
// device_layouts.py keeps passes and chunks below 2^30 symbols: 32 bits will do here.
struct Seat {
    Chunk *chunk;
    bool taken;        // the warp's last threads may be left over
    i32 lane, lanes;
    i32 steps;         // the same in all chunks of a warp
    i64 begin;         // first of the chunk's symbols in the batch's flat arrays
    i32 count;         // of them

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
        const i64 from = least<i64>(share * chunk->number, pass.n);
        begin = (i64)pass.n * chunk->stream + from;
        count = taken ? (i32)least<i64>(share, pass.n - from) : 0;
    }

    // Place of the lane's symbol; `count` or more, or below 0: there is none.
    RANS_FN i32 place(i32 step) const { return step * lanes + lane; }
    RANS_FN bool has(i32 place) const { return place >= 0 && place < count; }
};

// Threads that code; the other warps of a block only helped to load tables.
RANS_FN bool has_work(const Pass &pass, u32 &warp) {
    const u32 own = threadIdx.x / 32;
    warp = blockIdx.x * (u32)pass.warps_per_block + own;
    return own < (u32)pass.warps_per_block && warp < (u32)pass.warp_count;
}

// Leave the chunk so that the next pass can go on.
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

// What a thread of a survey has found; a block's threads put it together.
struct Findings {
    u64 cost, escapes, bad;

    RANS_FN Findings() { cost = escapes = 0, bad = ~(u64)0; }

    RANS_FN void add(i64 i, u32 bits, bool escaped, bool fine) {
        cost += bits;
        escapes += escaped;
        if (!fine && bad == ~(u64)0) bad = (u64)i;
    }

    // All threads of the block; nothing else may use its shared memory.
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

// What the encoder knows of symbols: their row, or the escape's.
struct Rows {
    const EncodeRow *rows;
    const u32 *first;
    const u32 *minimum;
    u32 tables;

    RANS_FN Rows(const TableBlob &blob, const u32 *data) {
        rows = (const EncodeRow *)data;
        first = data + 2 * blob.rows;
        minimum = first + blob.tables + 1;
        tables = blob.tables;
    }

    RANS_FN u32 find(u32 table, i32 symbol, bool &escaped) const {
        const u32 row = first[table];
        const u32 above = (u32)symbol - minimum[table];
        escaped = above >= first[table + 1] - row - 1;
        return escaped ? row : row + 1 + above;
    }
};

}  // namespace rans

#endif
