// SPDX-License-Identifier: Apache-2.0
//
// The portable coder: for every lane count, precision and table, and the one that
// finishes what the kernels leave.
//
// A lane is an element of an array; the loops have constant lengths so that the
// compiler can unroll and vectorise them. Every index, word and escape is checked
// before use: whatever the arguments' *contents*, nothing outside the stated sizes
// is read or written. The tables themselves come checked from tables.py.

#include "portable.h"

namespace rans {
namespace {

// As PackedTables, where 32 bits are too few: freq - 1 | bias << 16, and the numbers in
// an array of their own.
struct WideTables {
    const u32 *words;
    const u16 *numbers;

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        const u32 at = (table << precision) + r;
        Slot slot;
        slot.number = numbers[at];
        slot.freq = (words[at] & 0xFFFF) + 1;
        slot.bias = words[at] >> 16;
        return slot;
    }
};

// As PackedTables, for numbers up to 511.
struct FoldedTables {
    const u32 *words, *splits;

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        const PackedTables tables = {words};
        Slot slot = tables.find(table, r, precision);
        slot.number += (u32)(r >= splits[table] >> 16) << 8;
        return slot;
    }
};

template <class Index>
bool indexes_fit(const Index *indexes, i64 n, i32 count) {
    u32 largest = 0;
    for (i64 i = 0; i < n; ++i) {
        const u32 index = (u32)indexes[i];  // a negative one becomes huge
        largest = index > largest ? index : largest;
    }
    return n <= 0 || largest < (u32)count;
}

// What decode_run asks for: the tables of a step and their indexes, and values of slots.
template <class Tables, class Index>
struct Indexed {
    const RansTables &t;
    const Tables tables;
    const Index *indexes;

    const Index *at(i64 i) { return indexes + i; }
    i32 value(const Index *table, u32 k, u32 number) const {
        // Unsigned, for slot 0 of a table that begins at -2^31 would overflow.
        return (i32)((u32)t.minimum[table[k]] + number - 1);
    }
};

template <u32 N, u32 P, class Tables, class Index>
Status decode_with(const DecodeJob &job, const Tables &tables, Run run) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
    if (!indexes_fit(indexes + run.begin, run.end - run.begin, t.count))
        return BAD_INDEX;
    Indexed<Tables, Index> source = {t, tables, indexes};
    return decode_run<N, P>(*job.l, source, (u32)t.precision, 0, job.symbols, run);
}

template <u32 N, class Index>
Status decode_lanes(const DecodeJob &job, Run run) {
    const RansTables &t = *job.t;
    if (t.packed) {
        const PackedTables tables = {t.packed};
        return t.precision == 12
                   ? decode_with<N, 12, PackedTables, Index>(job, tables, run)
                   : decode_with<N, 0, PackedTables, Index>(job, tables, run);
    }
    if (t.folded) {
        const FoldedTables tables = {t.folded, t.splits};
        return decode_with<N, 0, FoldedTables, Index>(job, tables, run);
    }
    if (t.wide) {
        const WideTables tables = {t.wide, t.numbers};
        return decode_with<N, 0, WideTables, Index>(job, tables, run);
    }
    const SearchedTables tables = {t.starts, t.guess, t.starts_of, (u32)t.guess_bits};
    return decode_with<N, 0, SearchedTables, Index>(job, tables, run);
}

// A step's rows in 32 bits; `room` is for those of 16 bits.
inline const u32 *widen(const EncodeJob &job, i64 i, u32 active, u32 *room) {
    if (job.row_bytes == 4) return (const u32 *)job.rows + i;
    for (u32 k = 0; k < active; ++k) room[k] = ((const u16 *)job.rows)[i + k];
    return room;
}

template <u32 N, u32 P>
Status encode_run(const EncodeJob &job, Run run) {
    const RansTables &t = *job.t;
    const RansLanes &l = *job.l;
    const u32 precision = P ? P : (u32)t.precision;
    const i64 chunk = run.chunk;
    u32 x[N], room[N];
    for (u32 k = 0; k < N; ++k) x[k] = l.states[chunk * N + k];
    CheckedWords words = {l.words + l.word[chunk], l.words + l.word_end[chunk], false};
    const u32 active = (u32)((run.end - run.begin) % N);
    i64 i = run.end - active;
    if (active)
        encode_step<HostLanes<N> >(t.rows, precision, widen(job, i, active, room), active,
                                   x, words);
    while (i > run.begin && !words.ran_out) {
        i -= N;
        const u32 *rows = widen(job, i, N, room);
        if (words.at - words.end >= (i64)N) {
            FastWords fast = {words.at};
            encode_step<HostLanes<N> >(t.rows, precision, rows, N, x, fast);
            words.at = fast.at;
        } else {
            encode_step<HostLanes<N> >(t.rows, precision, rows, N, x, words);
        }
    }
    for (u32 k = 0; k < N; ++k) l.states[chunk * N + k] = x[k];
    l.word[chunk] = words.at - l.words;
    return words.ran_out ? WORDS_RAN_OUT : FINE;
}

template <u32 N>
Status encode_lanes(const EncodeJob &job, Run run) {
    return job.t->precision == 12 ? encode_run<N, 12>(job, run)
                                  : encode_run<N, 0>(job, run);
}

template <class Index>
i64 find_rows(RowsJob &job, i64 begin, i64 end) {
    const RansTables &t = *job.t;
    const Index *indexes = (const Index *)job.indexes;
    const i32 *symbols = job.symbols;
    for (i64 i = begin; i < end; ++i) {
        const u32 table = (u32)indexes[i];
        if (table >= (u32)t.count) return i;
        const u32 first = t.first[table];
        const u32 above = (u32)symbols[i] - (u32)t.minimum[table];
        u32 slot = above + 1;
        if (above >= t.first[table + 1] - first - 1) {
            if (!t.has_escape[table] || symbols[i] != (i16)symbols[i]) return i;
            slot = 0;
            if (job.escaped < job.room) job.escapes[job.escaped] = i;
            ++job.escaped;
        }
        if (job.row_bytes == 2)
            ((u16 *)job.rows)[i] = (u16)(first + slot);
        else
            ((u32 *)job.rows)[i] = first + slot;
    }
    return -1;
}

}  // namespace

Status finish_decode(const DecodeJob &job, Run run) {
#define WITH_BYTES(N) decode_lanes<N, u8>(job, run)
#define WITH_WORDS(N) decode_lanes<N, i32>(job, run)
    if (job.index_bytes == 1) FOR_LANES(job.l->lanes, WITH_BYTES)
    FOR_LANES(job.l->lanes, WITH_WORDS)
}

Status finish_encode(const EncodeJob &job, Run run) {
    const u32 end = job.t->first[job.t->count];
    u32 largest = 0;
    for (i64 i = run.begin; i < run.end; ++i) {
        const u32 row = row_of(job, i);
        largest = row > largest ? row : largest;
    }
    if (run.begin < run.end && largest >= end) return BAD_INDEX;
#define WITH_ROWS(N) encode_lanes<N>(job, run)
    FOR_LANES(job.l->lanes, WITH_ROWS)
}

i64 finish_rows(RowsJob &job, i64 begin, i64 end) {
    return job.index_bytes == 1 ? find_rows<u8>(job, begin, end)
                                : find_rows<i32>(job, begin, end);
}

}  // namespace rans
