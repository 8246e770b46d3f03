// SPDX-License-Identifier: Apache-2.0
//
// What the sources of cuda/host/ share: the arguments of the C ABI, a chunk's part of a
// pass, and the functions of the portable coder and of the vector kernels.
//
//   cuda/core.h                        the arithmetic of tables
//   cuda/priors/priors.h               the arithmetic of priors
//   host.cpp                           C ABI, choice of kernels, threads
//   scalar.cpp, priors.cpp             portable loops, with portable.h
//   avx2.cpp, neon.cpp                 kernels of tables
//   avx512_{decode,encode}.cpp         kernels of tables, with avx512.h
//   {priors,categorical}_avx512.cpp    kernels of priors
//   crc32c.cpp                         checksums
//
// A kernel codes whole steps until words, escapes or symbols may run out or an index is
// wrong; it never begins a step that it cannot finish. The portable coder goes on from
// there, so that all checks and errors stand in one place.

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

// abi.py mirrors these structures field by field, and compares their sizes when it loads
// the library.
struct RansTables {
    rans::i32 precision;
    rans::i32 count;                // tables
    const rans::u32 *first;         // (count + 1) first row of each table
    const rans::i32 *minimum;       // (count) symbol of slot 1
    const rans::u8 *has_escape;     // (count)
    const rans::u16 *costs;         // (rows + 1) in 1/256 bit; kernels read the last one
    const rans::EncodeRow *rows;    // (rows)
    const rans::u32 *packed;        // (count << precision), or null
    const rans::u32 *wide;          // (count << precision), or null
    const rans::u16 *numbers;       // (1 + count << precision) beside `wide`, or null
    const rans::u16 *starts;        // (rows + count), searched if all else is null
    const rans::u32 *starts_of;     // (count)
    const rans::u16 *guess;         // (count << guess_bits)
    // Only kernels read these: (count, at least 64), or null where a symbol exceeds
    // 16 bits.
    const rans::u32 *base;          // row of symbol 0
    const rans::u32 *range;         // minimum (16 bits) | symbols << 16
    const rans::i16 *below;         // (64) minimum - 1; null for over 64 tables as well
    rans::i32 guess_bits;
    // As `packed`, for numbers up to 511, where `below` is not null: a slot's number is
    // 256 more if r >= split, the start of slot 256.
    const rans::u32 *folded;        // (count << precision), or null
    const rans::u32 *splits;        // (64) below (16 bits) | split << 16
};

// Distributions of n symbols, one for each symbol.
struct RansPrior {
    rans::i32 kind;               // 0: mixtures, 1: categorical
    rans::i32 size;               // components, or values
    rans::i64 n;
    const rans::i32 *means;       // (size, n)
    const rans::u8 *bins;         // (size, n)
    const rans::i16 *weights;     // (size, n)
    const rans::Scale *scales;    // (count)
    const rans::u16 *phi;         // (2 * Z_LIMIT + 2); kernels read the last one
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
    const void *rows;  // (n) u16 or u32
    i32 row_bytes;     // 2 or 4
    i64 n;
};

inline u32 row_of(const EncodeJob &job, i64 i) {
    return job.row_bytes == 2 ? ((const u16 *)job.rows)[i] : ((const u32 *)job.rows)[i];
}

// The symbols [begin, end) of a chunk in this pass that are not coded yet. Decoding
// raises begin, encoding lowers end.
struct Run {
    i64 chunk, begin, end;
};

// Portable: finish a run, or return why that is impossible.
Status finish_decode(const DecodeJob &job, Run run);
Status finish_encode(const EncodeJob &job, Run run);

// Symbols' rows: [begin, end) of a pass.
struct RowsJob {
    const RansTables *t;
    const i32 *symbols;
    const void *indexes;
    i32 index_bytes;
    void *rows;    // out, u16 or u32; 16 bits only where they can number all rows
    i32 row_bytes;
    i64 *escapes;  // (room) positions of the first escapes
    i64 room;
    i64 escaped;   // how many there are
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
    u64 cost;            // sum, 1/256 bit
    i64 *escapes;        // as in RowsJob
    i64 room, escaped;
};

const u32 NO_VALUE = 0x80000000u;  // stands for the value of an escape

// Vector kernels for one categorical distribution.
typedef Slot (*FindValue)(const RansPrior &p, i64 at, u32 r);
typedef EncodeRow (*EntryOfValue)(const RansPrior &p, i64 at, u32 value);

// Portable; `find` and `entry`, where not null, do the categorical part. Rows: -1, or the
// position of the first symbol that cannot be coded.
Status finish_prior(const PriorJob &job, Run run, FindValue find);
i64 finish_prior_rows(PriorRowsJob &job, i64 begin, i64 end, EntryOfValue entry);

// A set of kernels; portable code does what is null here. Those with runs take 1 or 2 of
// them side by side, as far as all of them go.
struct Kernels {
    i32 least_lanes;
    void (*decode)(const DecodeJob &job, Run *runs, i32 count);
    void (*encode)(const EncodeJob &job, Run *runs, i32 count);
    i64 (*rows)(RowsJob &job, i64 begin, i64 end);  // returns where it stopped
    i64 (*cost)(const EncodeJob &job, u64 &cost);   // the same
    // Mixtures, as above; then categorical distributions.
    void (*decode_prior)(const PriorJob &job, Run *runs, i32 count);
    i64 (*prior_rows)(PriorRowsJob &job, i64 begin, i64 end);
    FindValue find_value;
    EntryOfValue entry_of_value;
    bool folded;  // `decode` knows folded tables
};

#if RANS_X86
extern const Kernels AVX2, AVX512;
#endif
#if RANS_NEON
extern const Kernels NEON;
#endif

#if RANS_X86 || RANS_NEON

// Write the values of a step's escapes; bit k of `which` is lane k. Return false, and
// take nothing, if there are too few values.
inline bool take_escapes(const RansLanes &l, i64 chunk, u32 which, i32 *symbols) {
    i64 next = l.side_next[chunk];
    if (l.side_end[chunk] - next < (i64)__builtin_popcount(which)) return false;
    for (; which; which &= which - 1) symbols[__builtin_ctz(which)] = l.side[next++];
    l.side_next[chunk] = next;
    return true;
}

template <u32 N>
struct Number {
    static const u32 value = N;
};

// Call f(lanes, items) with the lanes as a type and the items in theirs: A if they have as
// many bytes, or B.
template <class A, class B, class F>
void with_types(i32 lanes, i32 bytes, const void *items, F f) {
    const bool first = bytes == (i32)sizeof(A);
    const A *a = (const A *)items;
    const B *b = (const B *)items;
    if (lanes == 32)
        first ? f(Number<32>(), a) : f(Number<32>(), b);
    else if (lanes == 16)
        first ? f(Number<16>(), a) : f(Number<16>(), b);
    else
        first ? f(Number<8>(), a) : f(Number<8>(), b);
}

#endif

}  // namespace rans

#endif
