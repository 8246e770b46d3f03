// SPDX-License-Identifier: Apache-2.0
//
// Tables as the distributions of a pass (pass.h): each symbol has the index of one.
//
//   decoding   start | freq << 16 by slot; guesses by r's leading bits
//   encoding   start, freq, reciprocal by slot

#ifndef POLYCODEC_RANS_CUDA_TABLES_H
#define POLYCODEC_RANS_CUDA_TABLES_H

#include "pass.h"

namespace rans {

// What encoding and decoding share: indexes, read ahead and checked.
template <class Index, bool Shared>
struct IndexedTables {
    typedef Pass Job;
    static const i32 AHEAD = 4;
    static const bool SHARED = Shared, ALWAYS = true;
    const Index *indexes;
    const TableBlob &blob;
    u32 status;

    RANS_FN IndexedTables(const Pass &pass, const Seat &seat)
        : indexes((const Index *)pass.indexes + seat.begin), blob(pass.blob),
          status(0) {}

    RANS_FN u32 precision() const { return blob.precision; }
    RANS_FN bool has_escapes() const { return blob.escapes != 0; }
    RANS_FN u32 index(i32 i) const { return (u32)indexes[i]; }

    RANS_FN u32 check(u32 table) {
        if (table < blob.tables) return table;
        status |= NO_SUCH_TABLE;
        return 0;
    }
};

// The leading bits of r give a slot to start from, none beyond the right one; a walk
// over start and frequency, one read each, finds it. The last slot ends at 2^P.
template <class Index, class Guess, bool Shared>
struct TwoLevelTables : IndexedTables<Index, Shared> {
    static const u32 ESCAPE = 0;
    const u32 *entries;
    const u32 *first;
    const u32 *minimum;
    const Guess *guess;

    RANS_FN TwoLevelTables(const Pass &pass, const u32 *near, const Seat &seat)
        : IndexedTables<Index, Shared>(pass, seat), entries(near),
          first(near + pass.blob.rows), minimum(first + pass.blob.tables),
          guess((const Guess *)(minimum + pass.blob.tables)) {}

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        const u32 bits = this->blob.guess_bits;
        const u32 *entry = entries + first[table];
        Slot slot;
        slot.number = guess[(table << bits) + (r >> (precision - bits))];
        u32 word = entry[slot.number];
        while (r >= (word & 0xFFFF) + (word >> 16)) word = entry[++slot.number];
        slot.freq = word >> 16;
        slot.bias = r - (word & 0xFFFF);
        return slot;
    }

    RANS_FN i32 value(u32 table, u32 number) const {
        return (i32)(minimum[table] + number - 1);
    }
};

// Rows of symbols as the encoder needs them; an escape has its table's first row.
struct Rows {
    const EncodeRow *rows;
    const u32 *first;
    const u32 *minimum;

    RANS_FN Rows(const TableBlob &blob, const u32 *data) {
        rows = (const EncodeRow *)data;
        first = data + 2 * blob.rows;
        minimum = first + blob.tables + 1;
    }

    RANS_FN u32 find(u32 table, i32 symbol, bool &escaped) const {
        const u32 row = first[table];
        const u32 above = (u32)symbol - minimum[table];
        escaped = above >= first[table + 1] - row - 1;
        return escaped ? row : row + 1 + above;
    }
};

template <class Index, bool Shared>
struct RowTables : IndexedTables<Index, Shared> {
    Rows tables;

    RANS_FN RowTables(const Pass &pass, const u32 *near, const Seat &seat)
        : IndexedTables<Index, Shared>(pass, seat), tables(pass.blob, near) {}

    RANS_FN EncodeRow entry(u32 table, i32 symbol, bool &escaped) const {
        return tables.rows[tables.find(table, symbol, escaped)];
    }
};

template <class Index>
struct TableCosts {
    typedef Survey Job;
    const Index *indexes;
    const u16 *costs;
    u32 count;
    Rows tables;

    RANS_FN TableCosts(const Survey &job, u32 stream)
        : indexes((const Index *)job.indexes + (i64)job.n * stream), costs(job.costs),
          count(job.blob.tables), tables(job.blob, job.blob.data) {}

    RANS_FN bool price(i64 i, i32 symbol, u32 &bits, bool &escaped) const {
        const u32 table = (u32)indexes[i];
        if (table >= count) return false;
        const u32 row = tables.find(table, symbol, escaped);
        bits = costs[row];
        return !escaped || (tables.rows[row].freq && symbol == (i16)symbol);
    }
};

}  // namespace rans

#endif
