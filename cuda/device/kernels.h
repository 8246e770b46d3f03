// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA kernels stand on: one thread is one lane of core.h, one warp one
// chunk, or several small ones.
//
//   thread   0 1 2 3 4 5 6 7 | 8 9 ...      | 24 ... 31
//   chunk    first           | first + 1    | first + 3          (8 lanes)
//   vote     bits of the own chunk; rank: the yes of lower lanes, count: of all
//
// Warps share nothing but read-only tables; in a warp, lanes meet in votes only.
// Structures are mirrored, field by field, in device/layouts.py.

#ifndef POLYCODEC_RANS_CUDA_H
#define POLYCODEC_RANS_CUDA_H

#include "../core.h"

namespace rans {

const u32 WHOLE_WARP = 0xFFFFFFFFu;

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

    RANS_FN WordsUp(const Pass &pass, const Chunk &chunk, const Group &own)
        : words(pass.words + chunk.word_begin),
          at((i32)(chunk.word - chunk.word_begin)),
          end((i32)(chunk.word_end - chunk.word_begin)), group(own),
          mini(chunk.mini != 0), ran_out(false) {}

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

    RANS_FN WordsDown(const Pass &pass, const Chunk &chunk, const Group &own)
        : words(pass.words + chunk.word_begin),
          at((i32)(chunk.word - chunk.word_begin)), group(own), ran_out(false) {}

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

// A chunk's side list of escapes, read upwards as its words are ...
struct EscapesUp {
    const i16 *values;
    i32 at, end;
    Group group;
    u32 status;

    RANS_FN EscapesUp(const Pass &pass, const Chunk &chunk, const Group &own)
        : values(pass.side + chunk.side_begin),
          at((i32)(chunk.side - chunk.side_begin)),
          end((i32)(chunk.side_end - chunk.side_begin)), group(own), status(0) {}

    RANS_FN void take(bool escaped, i32 &symbol) {
        const Vote vote(group, escaped);
        if (escaped) {
            if (at + vote.rank < end)
                symbol = values[at + vote.rank];
            else
                status |= OUT_OF_ESCAPES;
        }
        at = least(at + vote.count, end);
    }
};

// ... and written downwards.
struct EscapesDown {
    i16 *values;
    i32 at;
    Group group;
    u32 status;

    RANS_FN EscapesDown(const Pass &pass, const Chunk &chunk, const Group &own)
        : values(pass.side + chunk.side_begin),
          at((i32)(chunk.side - chunk.side_begin)), group(own), status(0) {}

    RANS_FN void put(bool escaped, i32 symbol) {
        const Vote vote(group, escaped);
        const i32 place = at - vote.count + vote.rank;
        if (escaped) {
            if (place >= 0)
                values[place] = (i16)symbol;
            else
                status |= OUT_OF_ESCAPES;
        }
        at -= least(vote.count, at);
    }
};

// core.h's policy: each caller holds one lane, and `active` says whether it is on.
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

}  // namespace rans

#endif
