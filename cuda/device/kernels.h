// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA kernels share: one thread is one lane of cuda/core.h, one warp is one
// chunk or several small ones.
//
//   thread   0 1 2 3 4 5 6 7 | 8 9 ...      | 24 ... 31
//   chunk    first           | first + 1    | first + 3          (8 lanes)
//   vote     among the lanes of a chunk; rank: lower lanes that say yes, count: all
//
// Warps share only tables, which nobody writes; lanes of a warp exchange only votes.
// cuda/device/layouts.py mirrors the structures field by field.

#ifndef POLYCODEC_RANS_CUDA_H
#define POLYCODEC_RANS_CUDA_H

#include "../core.h"

namespace rans {

const u32 WHOLE_WARP = 0xFFFFFFFFu;

// Bits of a chunk's status: what went wrong.
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

// Tables in one array, so that one loop copies them to shared memory:
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
    u32 mask, below;  // bits of all these threads; of those with lower lanes

    RANS_FN Group(u32 lanes) {
        const u32 thread = threadIdx.x & 31;
        mask = (WHOLE_WARP >> (32 - lanes)) << (thread & ~(lanes - 1));
        below = mask & ((1u << thread) - 1);
    }
};

struct Vote {
    i32 rank, count;  // lower lanes that say yes; all that do

    RANS_FN Vote(const Group &group, bool yes) {
        const u32 votes = __ballot_sync(WHOLE_WARP, yes);
        rank = (i32)__popc(votes & group.below);
        count = (i32)__popc(votes & group.mask);
    }
};

// A chunk's part of an array; each thread of the chunk keeps the same place. `up` and
// `down` return where a thread reads or writes, if it says yes: lower lanes come first.
template <class T>
struct Cursor {
    T *values;
    i32 at, end;
    Group group;

    RANS_FN Cursor(T *all, i64 begin, i64 now, i64 stop, const Group &own)
        : values(all + begin), at((i32)(now - begin)), end((i32)(stop - begin)),
          group(own) {}

    RANS_FN i32 up(bool yes) {
        const Vote vote(group, yes);
        const i32 place = at + vote.rank;
        at = least(at + vote.count, end);
        return place;
    }

    RANS_FN i32 down(bool yes) {
        const Vote vote(group, yes);
        const i32 place = at - vote.count + vote.rank;
        at -= least(vote.count, at);
        return place;
    }
};

// A chunk's words. When encoding, the room is for the worst case and cannot run out.
struct Words : Cursor<u16> {
    bool mini, ran_out;

    RANS_FN Words(const Pass &pass, const Chunk &chunk, const Group &own)
        : Cursor<u16>(pass.words, chunk.word_begin, chunk.word, chunk.word_end, own),
          mini(chunk.mini != 0), ran_out(false) {}

    RANS_FN void refill(bool need, u32 &x) {
        const i32 place = up(need);
        if (!need) return;
        if (place < end)
            x = (x << 16) | values[place];
        else if (!mini)
            ran_out = true;
    }

    RANS_FN void spill(bool full, u32 &x) {
        const i32 place = down(full);
        if (!full) return;
        if (place >= 0)
            values[place] = (u16)x;
        else
            ran_out = true;
        x >>= 16;
    }
};

// A chunk's side list of escapes.
struct Escapes : Cursor<i16> {
    u32 status;

    RANS_FN Escapes(const Pass &pass, const Chunk &chunk, const Group &own)
        : Cursor<i16>(pass.side, chunk.side_begin, chunk.side, chunk.side_end, own),
          status(0) {}

    RANS_FN void take(bool escaped, i32 &symbol) {
        const i32 place = up(escaped);
        if (!escaped) return;
        if (place < end)
            symbol = values[place];
        else
            status |= OUT_OF_ESCAPES;
    }

    RANS_FN void put(bool escaped, i32 symbol) {
        const i32 place = down(escaped);
        if (!escaped) return;
        if (place >= 0)
            values[place] = (i16)symbol;
        else
            status |= OUT_OF_ESCAPES;
    }
};

// The policy of core.h: each caller holds one lane; `active` is 0 if it has no symbol.
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

// Copy the tables to shared memory with all threads of the block; then a barrier.
template <bool Shared>
RANS_FN const u32 *load_tables(const TableBlob &blob) {
    if (!Shared) return blob.data;
    const Quad *from = (const Quad *)blob.data;
    for (u32 i = threadIdx.x; i < blob.quads; i += blockDim.x)
        shared_memory[i] = from[i];
    __syncthreads();
    return (const u32 *)shared_memory;
}

}  // namespace rans

#endif
