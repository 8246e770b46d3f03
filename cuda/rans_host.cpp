// SPDX-License-Identifier: Apache-2.0
//
// The range coder on the host, behind a plain C ABI (loaded with ctypes).
//
// A lane is an element of an array; the loops have constant lengths so that the
// compiler can unroll and vectorise them. Every index, word and escape is checked
// before use: whatever the arguments' *contents*, nothing outside the stated sizes
// is read or written. The tables themselves come checked from tables.py.

#include "rans_core.h"

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
// Python's build asks the linker for this name on Windows; nothing imports it.
API void *PyInit__rans(void) { return 0; }
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

using namespace rans;

namespace {

const i32 ABI = 1;  // native.py refuses a library with another number

enum Status { FINE = 0, WORDS_RAN_OUT = 1, SIDE_RAN_OUT = 2, BAD_INDEX = 3, BAD_CALL = 4 };

// Status in the low 3 bits, the chunk above.
i64 report(Status status, i64 chunk) { return (chunk << 3) | status; }

}  // namespace

// Mirrors native.py's structures, field by field.
struct RansTables {
    i32 precision;
    i32 count;              // tables
    const u32 *first;       // (count + 1) first row of each table
    const i32 *minimum;     // (count) symbol of slot 1
    const u8 *has_escape;   // (count)
    const u16 *costs;       // (rows) in 1/256 bit
    const EncodeRow *rows;  // (rows)
    const u32 *packed;      // (count << precision), or null: search instead
    const u16 *starts;      // (rows + count)
    const u32 *starts_of;   // (count)
    const u16 *guess;       // (count << guess_bits)
    i32 guess_bits;
};

struct RansLanes {
    i32 chunks;
    i32 lanes;            // per chunk: 1, 2, 4 ... 32
    i32 mini;             // 1: states may be below 2^16 when the words are used up
    u32 *states;          // (chunks, lanes)
    u16 *words;
    i64 *word;            // (chunks) next word of each chunk
    const i64 *word_end;  // (chunks)
    const i16 *side;
    i64 *side_next;       // (chunks)
    const i64 *side_end;  // (chunks)
};

namespace {

// A chunk's words; decoding goes up, encoding down, both to `end`.
struct CheckedWords {
    u16 *at;
    u16 *end;
    bool ran_out;

    void refill(u32 &x) {
        if (x >= LOWER) return;
        if (at == end) {
            ran_out = true;
            return;
        }
        x = (x << 16) | *at++;
    }

    void spill(bool full, u32 &x) {
        if (!full) return;
        if (at == end) {
            ran_out = true;
            return;
        }
        *--at = (u16)x;
        x >>= 16;
    }
};

// The same for a step that cannot run out, because a word for every lane is there.
// Which lanes need one is random and a jump would often be guessed wrong: all lanes
// touch a word, masks decide whether it counts.
struct FastWords {
    u16 *at;

    void refill(u32 &x) {
        const u32 need = x < LOWER;
        x ^= (x ^ ((x << 16) | *at)) & (0u - need);
        at += need;
    }

    void spill(bool full, u32 &x) {
        at[-1] = (u16)x;  // if it does not count, the next lane overwrites it
        at -= full;
        x >>= (u32)full << 4;
    }
};

template <u32 N>
struct HostLanes {
    static const u32 held = N;
    static u32 lane(u32 k) { return k; }

    template <class Words>
    static void refill(u32 *x, u32 active, Words &in) {
        for (u32 k = 0; k < active; ++k) in.refill(x[k]);
    }

    template <class Words>
    static void spill(bool full, u32 &x, Words &out) {
        out.spill(full, x);
    }
};

// Symbols [begin, end) of a pass belong to a chunk.
struct Span {
    i64 begin, end;
};

Span span_of(i64 n, i64 chunk, i64 chunks, i64 lanes) {
    const i64 steps = (n + lanes - 1) / lanes;
    const i64 share = (steps + chunks - 1) / chunks * lanes;
    Span span;
    span.begin = share * chunk < n ? share * chunk : n;
    span.end = n - span.begin < share ? n : span.begin + share;
    return span;
}

template <class Index>
bool indexes_fit(const Index *indexes, i64 n, i32 count) {
    u32 largest = 0;
    for (i64 i = 0; i < n; ++i) {
        const u32 index = (u32)indexes[i];  // a negative one becomes huge
        largest = index > largest ? index : largest;
    }
    return n == 0 || largest < (u32)count;
}

// A step's slots become symbols; the rare escapes take values from the side list.
template <class Index>
bool write_symbols(const RansTables &t, const RansLanes &l, i64 chunk,
                   const Index *table, const u32 *number, u32 active, i32 *out) {
    u32 escapes = 0;
    for (u32 k = 0; k < active; ++k) {
        out[k] = t.minimum[table[k]] + (i32)number[k] - 1;
        escapes |= number[k] == 0;
    }
    if (!escapes) return true;
    for (u32 k = 0; k < active; ++k) {
        if (number[k] != 0) continue;
        if (l.side_next[chunk] >= l.side_end[chunk]) return false;
        out[k] = l.side[l.side_next[chunk]++];
    }
    return true;
}

template <u32 N, u32 P, class Tables, class Index>
Status decode_chunk(const RansTables &t, const Tables &tables, const RansLanes &l,
                    i64 chunk, const Index *indexes, Span span, i32 *out) {
    const u32 precision = P ? P : (u32)t.precision;
    u32 x[N], number[N];
    for (u32 k = 0; k < N; ++k) x[k] = l.states[chunk * N + k];
    CheckedWords words = {l.words + l.word[chunk], l.words + l.word_end[chunk], false};
    Status status = FINE;
    for (i64 i = span.begin; i < span.end && status == FINE; i += N) {
        const u32 active = span.end - i < (i64)N ? (u32)(span.end - i) : N;
        if (active == N && words.end - words.at >= (i64)N) {
            FastWords fast = {words.at};
            decode_step<HostLanes<N> >(tables, precision, indexes + i, N, x, number,
                                       fast);
            words.at = fast.at;
            if (!write_symbols(t, l, chunk, indexes + i, number, N, out + i))
                status = SIDE_RAN_OUT;
        } else {
            decode_step<HostLanes<N> >(tables, precision, indexes + i, active, x,
                                       number, words);
            if (!write_symbols(t, l, chunk, indexes + i, number, active, out + i))
                status = SIDE_RAN_OUT;
            // A mini stream goes on without words: its states are small by then.
            if (words.ran_out && !l.mini) status = WORDS_RAN_OUT;
        }
    }
    for (u32 k = 0; k < N; ++k) l.states[chunk * N + k] = x[k];
    l.word[chunk] = words.at - l.words;
    return status;
}

template <u32 N, u32 P>
Status encode_chunk(const RansTables &t, const RansLanes &l, i64 chunk,
                    const u32 *rows, Span span) {
    const u32 precision = P ? P : (u32)t.precision;
    u32 x[N];
    for (u32 k = 0; k < N; ++k) x[k] = l.states[chunk * N + k];
    CheckedWords words = {l.words + l.word[chunk], l.words + l.word_end[chunk], false};
    u32 active = (u32)((span.end - span.begin) % N);
    i64 i = span.end - active;
    if (active)
        encode_step<HostLanes<N> >(t.rows, precision, rows + i, active, x, words);
    while (i > span.begin && !words.ran_out) {
        i -= N;
        if (words.at - words.end >= (i64)N) {
            FastWords fast = {words.at};
            encode_step<HostLanes<N> >(t.rows, precision, rows + i, N, x, fast);
            words.at = fast.at;
        } else {
            encode_step<HostLanes<N> >(t.rows, precision, rows + i, N, x, words);
        }
    }
    for (u32 k = 0; k < N; ++k) l.states[chunk * N + k] = x[k];
    l.word[chunk] = words.at - l.words;
    return words.ran_out ? WORDS_RAN_OUT : FINE;
}

template <u32 N, u32 P, class Tables, class Index>
i64 decode_lanes(const RansTables &t, const Tables &tables, const RansLanes &l,
                 const Index *indexes, i64 n, i32 *out) {
    for (i64 chunk = 0; chunk < l.chunks; ++chunk) {
        const Span span = span_of(n, chunk, l.chunks, N);
        const Status status =
            decode_chunk<N, P>(t, tables, l, chunk, indexes, span, out);
        if (status != FINE) return report(status, chunk);
    }
    return FINE;
}

template <u32 P, class Tables, class Index>
i64 decode_tables(const RansTables &t, const Tables &tables, const RansLanes &l,
                  const Index *indexes, i64 n, i32 *out) {
    switch (l.lanes) {
        case 1: return decode_lanes<1, P>(t, tables, l, indexes, n, out);
        case 2: return decode_lanes<2, P>(t, tables, l, indexes, n, out);
        case 4: return decode_lanes<4, P>(t, tables, l, indexes, n, out);
        case 8: return decode_lanes<8, P>(t, tables, l, indexes, n, out);
        case 16: return decode_lanes<16, P>(t, tables, l, indexes, n, out);
        case 32: return decode_lanes<32, P>(t, tables, l, indexes, n, out);
        default: return BAD_CALL;
    }
}

template <class Index>
i64 decode_indexes(const RansTables &t, const RansLanes &l, const Index *indexes,
                   i64 n, i32 *out) {
    if (!indexes_fit(indexes, n, t.count)) return BAD_INDEX;
    if (t.packed) {
        const PackedTables tables = {t.packed};
        return t.precision == 12 ? decode_tables<12>(t, tables, l, indexes, n, out)
                                 : decode_tables<0>(t, tables, l, indexes, n, out);
    }
    const SearchedTables tables = {t.starts, t.guess, t.starts_of, (u32)t.guess_bits};
    return decode_tables<0>(t, tables, l, indexes, n, out);
}

template <u32 N>
i64 encode_lanes(const RansTables &t, const RansLanes &l, const u32 *rows, i64 n) {
    for (i64 chunk = 0; chunk < l.chunks; ++chunk) {
        const Span span = span_of(n, chunk, l.chunks, N);
        const Status status = t.precision == 12
                                  ? encode_chunk<N, 12>(t, l, chunk, rows, span)
                                  : encode_chunk<N, 0>(t, l, chunk, rows, span);
        if (status != FINE) return report(status, chunk);
    }
    return FINE;
}

// Returns the first symbol that no table row can code, or -1.
template <class Index>
i64 find_rows(const RansTables &t, const i32 *symbols, const Index *indexes, i64 n,
              u32 *rows, u64 *cost) {
    u64 sum = 0;
    for (i64 i = 0; i < n; ++i) {
        const u32 table = (u32)indexes[i];
        if (table >= (u32)t.count) return i;
        const u32 first = t.first[table];
        const u32 above = (u32)symbols[i] - (u32)t.minimum[table];
        u32 slot = above + 1;
        if (above >= t.first[table + 1] - first - 1) {
            if (!t.has_escape[table] || symbols[i] != (i16)symbols[i]) return i;
            slot = 0;
        }
        rows[i] = first + slot;
        sum += t.costs[first + slot];
    }
    *cost = sum;
    return -1;
}

bool sane(const RansTables *t, const RansLanes *l, i64 n) {
    return t && l && n >= 0 && t->precision >= 8 && t->precision <= 15 &&
           t->count >= 1 && l->chunks >= 1 && l->lanes >= 1 && l->lanes <= 32;
}

}  // namespace

API i32 polycodec_abi(void) { return ABI; }

// Row of each symbol in its table, and their cost in 1/256 bit. Returns -1, or the
// position of the first symbol that cannot be coded.
API i64 polycodec_rows(const RansTables *t,
                       const i32 *symbols,   // (n)
                       const void *indexes,  // (n) u8 or i32
                       i32 index_bytes,      // 1 or 4
                       i64 n,
                       u32 *rows,            // (n)
                       u64 *cost) {
    if (index_bytes == 1) return find_rows(*t, symbols, (const u8 *)indexes, n, rows, cost);
    return find_rows(*t, symbols, (const i32 *)indexes, n, rows, cost);
}

// Encode one pass; the passes come last one first. Returns a report.
API i64 polycodec_encode_pass(const RansTables *t,
                              const u32 *rows,  // (n) from polycodec_rows
                              i64 n,
                              const RansLanes *l) {
    if (!sane(t, l, n)) return BAD_CALL;
    for (i64 i = 0; i < n; ++i)
        if (rows[i] >= t->first[t->count]) return BAD_INDEX;
    switch (l->lanes) {
        case 1: return encode_lanes<1>(*t, *l, rows, n);
        case 2: return encode_lanes<2>(*t, *l, rows, n);
        case 4: return encode_lanes<4>(*t, *l, rows, n);
        case 8: return encode_lanes<8>(*t, *l, rows, n);
        case 16: return encode_lanes<16>(*t, *l, rows, n);
        case 32: return encode_lanes<32>(*t, *l, rows, n);
        default: return BAD_CALL;
    }
}

// Decode the next pass. Returns a report.
API i64 polycodec_decode_pass(const RansTables *t,
                              const void *indexes,  // (n) u8 or i32
                              i32 index_bytes,      // 1 or 4
                              i64 n,
                              const RansLanes *l,
                              i32 *symbols) {       // (n) out
    if (!sane(t, l, n)) return BAD_CALL;
    if (index_bytes == 1) return decode_indexes(*t, *l, (const u8 *)indexes, n, symbols);
    return decode_indexes(*t, *l, (const i32 *)indexes, n, symbols);
}
