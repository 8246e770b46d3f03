// SPDX-License-Identifier: Apache-2.0
//
// What the host's sources share: the arguments of the C ABI, a chunk's part of a pass,
// and the doors of the portable coder and of the vector kernels.
//
//   core.h, priors/priors.h        the arithmetic
//   host.cpp                     C ABI, choice, threads
//   scalar.cpp, priors.cpp  portable loops
//   avx2.cpp, *_avx512*.cpp,     kernels
//   neon.cpp
//
// A kernel codes whole steps as far as it likes (words, escapes or symbols may be about
// to run out, an index may be wrong) and never a step that it cannot finish. The
// portable coder goes on from there, so that all checks and errors stand in one place.

#ifndef POLYCODEC_RANS_HOST_H
#define POLYCODEC_RANS_HOST_H

#include "../core.h"
#include "../priors/priors.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define RANS_X86 1
#else
#define RANS_X86 0
#endif
#if defined(__GNUC__) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define RANS_NEON 1
#else
#define RANS_NEON 0
#endif

// Mirrors native.py's structures, field by field.
struct RansTables {
    rans::i32 precision;
    rans::i32 count;                // tables
    const rans::u32 *first;         // (count + 1) first row of each table
    const rans::i32 *minimum;       // (count) symbol of slot 1
    const rans::u8 *has_escape;     // (count)
    const rans::u16 *costs;         // (rows + 1) in 1/256 bit; one more to be read over
    const rans::EncodeRow *rows;    // (rows)
    const rans::u32 *packed;        // (count << precision), or null
    const rans::u32 *wide;          // (count << precision), or null
    const rans::u16 *numbers;       // (1 + count << precision) beside `wide`, or null
    const rans::u16 *starts;        // (rows + count), searched if all else is null
    const rans::u32 *starts_of;     // (count)
    const rans::u16 *guess;         // (count << guess_bits)
    // For kernels. (count, at least 64), or null: a symbol exceeds 16 bits.
    const rans::u32 *base;          // row of symbol 0
    const rans::u32 *range;         // minimum (16 bits) | symbols << 16
    const rans::i16 *below;         // (64) minimum - 1, or null: over 64 tables as well
    rans::i32 guess_bits;
    // `packed` of numbers to 511, if `below` is there: a slot's number is 256 more where
    // r >= split, the start of slot 256.
    const rans::u32 *folded;        // (count << precision), or null
    const rans::u32 *splits;        // (64) below (16 bits) | split << 16
};

// Distributions of n symbols, one each; mirrors host/native_priors.py.
struct RansPrior {
    rans::i32 kind;               // 0: mixtures, 1: categorical
    rans::i32 size;               // components, or values
    rans::i64 n;
    const rans::i32 *means;       // (size, n)
    const rans::u8 *bins;         // (size, n)
    const rans::i16 *weights;     // (size, n)
    const rans::Scale *scales;    // (count)
    const rans::u16 *phi;         // (2 * Z_LIMIT + 1), and one more to be read over
    const rans::i16 *logits;      // (n, size)
    const rans::u32 *powers;      // (32)
    rans::i32 count;
};

struct RansLanes {
    rans::i32 chunks;
    rans::i32 lanes;            // per chunk: 1, 2, 4 ... 32
    rans::i32 mini;             // 1: states may be below 2^16 when the words are used up
    rans::u32 *states;          // (chunks, lanes)
    rans::u16 *words;
    rans::i64 *word;            // (chunks) next word of each chunk
    const rans::i64 *word_end;  // (chunks)
    const rans::i16 *side;
    rans::i64 *side_next;       // (chunks)
    const rans::i64 *side_end;  // (chunks)
};

namespace rans {

enum Status { FINE = 0, WORDS_RAN_OUT = 1, SIDE_RAN_OUT = 2, BAD_INDEX = 3, BAD_CALL = 4 };

struct DecodeJob {
    const RansTables *t;
    const RansLanes *l;
    const void *indexes;  // (n) u8 or i32
    i32 index_bytes;      // 1 or 4
    i64 n;
    i32 *symbols;         // (n) out
};

struct EncodeJob {
    const RansTables *t;
    const RansLanes *l;
    const u32 *rows;        // (n), or
    i64 n;
    const u16 *short_rows;  // (n), if not null
};

// What is left of a chunk's symbols in this pass: [begin, end). Decoding moves begin
// up, encoding end down.
struct Run {
    i64 chunk, begin, end;
};

// Portable: finish a run, or say why not.
Status finish_decode(const DecodeJob &job, Run run);
Status finish_encode(const EncodeJob &job, Run run);

// Symbols' rows: [begin, end) of a pass.
struct RowsJob {
    const RansTables *t;
    const i32 *symbols;
    const void *indexes;
    i32 index_bytes;
    u32 *rows;
    u64 cost;      // sum, 1/256 bit
    i64 *escapes;  // (room) positions of the first escapes
    i64 room;
    i64 escaped;   // how many there are
    u16 *short_rows;  // if not null: in place of `rows`, and nobody asks for the cost
};

// Portable: -1, or the position of the first symbol that cannot be coded.
i64 finish_rows(RowsJob &job, i64 begin, i64 end);

// Decoding with a prior, and where its symbols lie.
struct PriorJob {
    const RansPrior *p;
    const RansLanes *l;
    i32 *symbols;  // (n) out
};

struct PriorRowsJob {
    const RansPrior *p;
    const i32 *symbols;  // (n)
    EncodeRow *rows;     // (n) out
    u64 cost;            // as RowsJob
    i64 *escapes;
    i64 room, escaped;
};

const u32 NO_VALUE = 0x80000000u;  // in place of a value: it is an escape

// One categorical distribution, as a vector kernel may do it.
typedef Slot (*FindValue)(const RansPrior &p, i64 at, u32 r);
typedef EncodeRow (*EntryOfValue)(const RansPrior &p, i64 at, u32 value);

// Portable; those given replace the categorical part. Rows: -1, or the first that
// cannot be coded.
Status finish_prior(const PriorJob &job, Run run, FindValue find);
i64 finish_prior_rows(PriorRowsJob &job, i64 begin, i64 end, EntryOfValue entry);

// A set of kernels; those that are null are done in portable code.
// together: runs 0 .. count-1 (1 or 2) side by side, as far as all of them go.
struct Kernels {
    i32 least_lanes;
    void (*decode)(const DecodeJob &job, Run *runs, i32 count);
    void (*encode)(const EncodeJob &job, Run *runs, i32 count);
    i64 (*rows)(RowsJob &job, i64 begin, i64 end);  // returns where it stopped
    // Mixtures, as above; the last two are categorical. Any number of lanes for rows.
    void (*decode_prior)(const PriorJob &job, Run *runs, i32 count);
    i64 (*prior_rows)(PriorRowsJob &job, i64 begin, i64 end);
    FindValue find_value;
    EntryOfValue entry_of_value;
    bool short_rows, folded;  // these kernels know them
};

#if RANS_X86
extern const Kernels AVX2, AVX512;
#endif
#if RANS_NEON
extern const Kernels NEON;
#endif

#if RANS_X86 || RANS_NEON

// A step's rare escapes, found by a kernel: bit k of `which` is lane k. False: there
// are too few values, and nothing was taken.
inline bool take_escapes(const RansLanes &l, i64 chunk, u32 which, i32 *symbols) {
    i64 next = l.side_next[chunk];
    if (l.side_end[chunk] - next < (i64)__builtin_popcount(which)) return false;
    for (; which; which &= which - 1) symbols[__builtin_ctz(which)] = l.side[next++];
    l.side_next[chunk] = next;
    return true;
}

#endif

}  // namespace rans

#endif
