// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets share: any input becomes tables, a pass of symbols, its stream,
// and damage to it. The same bytes give every target the same case.

#ifndef POLYCODEC_FUZZ_CASE_H
#define POLYCODEC_FUZZ_CASE_H

#include "tables.h"

extern "C" {
i32 polycodec_simd(void);
i64 polycodec_rows(const RansTables *, const i32 *, const void *, i32, i64, i32, void *,
                   i32, i64 *, i64, i64 *);
u64 polycodec_cost(const RansTables *, const void *, i32, i64, i32);
i64 polycodec_encode_pass(const RansTables *, const void *, i32, i64, const RansLanes *,
                          i32, i32);
i64 polycodec_decode_pass(const RansTables *, const void *, i32, i64, const RansLanes *,
                          i32, i32, i32 *);
}

namespace {

typedef std::vector<i64> I64s;

// What a level made of a stream.
struct Outcome {
    i64 report;
    std::vector<i32> symbols;
    std::vector<u32> states;
    I64s word, side_next;

    bool operator==(const Outcome &o) const {
        if (report != o.report) return false;
        // After an error only the report counts.
        return report != FINE || (symbols == o.symbols && states == o.states &&
                                  word == o.word && side_next == o.side_next);
    }
};

struct Stream {
    u32 lanes, chunks;
    std::vector<u32> states;
    std::vector<u16> words;
    I64s word, word_end;
    std::vector<i16> side;
    I64s side_next, side_end;
    std::vector<u8> indexes;
    u64 cost;  // in 1/256 bit, as the encoder was told
};

// One call's lanes between guards.
struct GuardedLanes {
    Guarded<u32> states;
    Guarded<u16> words;
    Guarded<i64> word, word_end, side_next, side_end;
    Guarded<i16> side;
    RansLanes l;

    GuardedLanes(const Stream &s, bool end)
        : states(s.states, end), words(s.words, end), word(s.word, end),
          word_end(s.word_end, end), side_next(s.side_next, end),
          side_end(s.side_end, end), side(s.side, end) {
        l.chunks = (i32)s.chunks, l.lanes = (i32)s.lanes, l.mini = 0;
        l.states = states.at, l.words = words.at, l.word = word.at;
        l.word_end = word_end.at, l.side = side.at, l.side_next = side_next.at;
        l.side_end = side_end.at;
    }
};

// A pass's indexes between guards, in 1 byte or in 4.
struct GuardedIndexes {
    Guarded<u8> octets;
    const void *at;
    i32 bytes;

    GuardedIndexes(const std::vector<u8> &indexes, bool wide, bool end)
        : octets(wide ? widened(indexes) : indexes, end), at(octets.at),
          bytes(wide ? 4 : 1) {}

    // Of the largest, which are no tables, some that are one in 8 or 16 bits.
    static std::vector<u8> widened(const std::vector<u8> &indexes) {
        std::vector<u8> out(4 * indexes.size());
        for (size_t i = 0; i < indexes.size(); ++i) {
            const i32 odd[] = {1 << 8, 1 << 16, (i32)(1u << 31), -1};
            const i32 value = indexes[i] < 252 ? indexes[i] : odd[indexes[i] - 252];
            memcpy(&out[4 * i], &value, 4);
        }
        return out;
    }
};

Outcome decode(const GuardedTables &tables, const Stream &s, bool at_end, i32 simd,
               bool wide_indexes) {
    GuardedLanes call(s, at_end);
    const i64 n = (i64)s.indexes.size();
    const GuardedIndexes indexes(s.indexes, wide_indexes, at_end);
    Guarded<i32> out(std::vector<i32>(s.indexes.size()), at_end);
    Outcome found;
    found.report =
        polycodec_decode_pass(&tables.t, indexes.at, indexes.bytes, n, &call.l, simd,
                              1 + (i32)(n & 1), out.at);
    found.symbols = out.copy(), found.states = call.states.copy();
    found.word = call.word.copy(), found.side_next = call.side_next.copy();
    return found;
}

// The rows of a pass, as far as its symbols can be coded.
struct Rows {
    i64 bad, escaped;
    u64 cost;
    std::vector<u32> rows;
    I64s escapes;  // as many as there was room for

    bool operator==(const Rows &o) const {
        return bad == o.bad && escaped == o.escaped && cost == o.cost &&
               rows == o.rows && escapes == o.escapes;
    }
};

// Row: u32, or u16 for short ones.
template <class Row>
Rows find_rows(const RansTables &t, const std::vector<i32> &symbols,
               const GuardedIndexes &indexes, i64 room, bool at_end, i32 simd) {
    const size_t n = symbols.size();
    Guarded<i32> values(symbols, at_end);
    Guarded<Row> rows(std::vector<Row>(n), at_end);
    Guarded<i64> escapes(I64s((size_t)room), at_end);
    Rows found;
    found.bad = polycodec_rows(&t, values.at, indexes.at, indexes.bytes, (i64)n, simd,
                               rows.at, sizeof(Row), escapes.at, room, &found.escaped);
    found.rows.assign(rows.at, rows.at + (found.bad < 0 ? (i64)n : found.bad));
    const Guarded<Row> good(std::vector<Row>(found.rows.begin(), found.rows.end()), at_end);
    found.cost = polycodec_cost(&t, good.at, sizeof(Row), (i64)good.n, simd);
    found.escapes.assign(escapes.at, escapes.at + std::min(found.escaped, room));
    return found;
}

// The same at every level, long and short.
Rows find_all_rows(const RansTables &t, const std::vector<i32> &symbols,
                   const std::vector<u8> &numbers, i64 room, bool ints, bool at_end,
                   i32 most) {
    const GuardedIndexes indexes(numbers, ints, at_end);
    const Rows wanted = find_rows<u32>(t, symbols, indexes, room, at_end, 0);
    const bool few = t.first[t.count] <= 1u << 16;
    for (i32 simd = 0; simd <= most; ++simd) {
        if (simd)
            REQUIRE(find_rows<u32>(t, symbols, indexes, room, at_end, simd) == wanted);
        if (few)
            REQUIRE(find_rows<u16>(t, symbols, indexes, room, at_end, simd) == wanted);
    }
    return wanted;
}

// `fresh` after the rows; `word` begins at each chunk's end.
template <class Row>
i64 encode(const RansTables &t, const std::vector<u32> &numbers, const Stream &fresh,
           bool at_end, i32 simd, Stream &out) {
    GuardedLanes call(fresh, at_end);
    const Guarded<Row> rows(std::vector<Row>(numbers.begin(), numbers.end()), at_end);
    const i32 threads = sizeof(Row) == 2 ? 1 + (i32)(rows.n & 1) : 1;
    const i64 report = polycodec_encode_pass(&t, rows.at, sizeof(Row), (i64)rows.n,
                                             &call.l, simd, threads);
    out.states = call.states.copy(), out.word = call.word.copy();
    out.words = call.words.copy();
    // A kernel may have written where no word stands yet.
    for (u32 c = 0; c < fresh.chunks; ++c)
        for (i64 k = fresh.word_end[c]; k < out.word[c]; ++k)
            out.words[(size_t)k] = 0xA5A5;
    return report;
}

// The same at every level, from long rows and short ones: the report, and, if it is
// FINE, states and words.
i64 encode_all(const RansTables &t, const std::vector<u32> &rows, const Stream &fresh,
               bool at_end, i32 most, Stream &out) {
    const i64 report = encode<u32>(t, rows, fresh, at_end, 0, out);
    const bool few = t.first[t.count] <= 1u << 16;
    for (i32 k = 1; k <= 2 * most + 1; ++k) {
        Stream other;
        if (k % 2 && !few) continue;
        REQUIRE((k % 2 ? encode<u16>(t, rows, fresh, at_end, k / 2, other)
                       : encode<u32>(t, rows, fresh, at_end, k / 2, other)) == report);
        if (report != FINE) continue;
        REQUIRE(other.states == out.states);
        REQUIRE(other.word == out.word && other.words == out.words);
    }
    return report;
}

// Draw a pass of symbols, `fresh` for its encoder.
Stream draw_pass(Source &in, const Tables &tables, std::vector<i32> &symbols) {
    Stream s;
    s.lanes = 1u << in.below(6), s.chunks = 1 + in.below(5);
    const u32 n = in.below(4) ? in.below(200) : in.below(2000);
    const u32 count = (u32)tables.minimum.size();
    for (u32 i = 0; i < n; ++i) {
        const u32 table = in.below(count), r = in.below(1u << tables.precision);
        u32 number = tables.numbers[(table << tables.precision) + r];
        // Rare ones, too.
        if (in.below(2))
            number = 1 + in.below(tables.first[table + 1] - tables.first[table] - 1);
        s.indexes.push_back((u8)table);
        // Far out, mostly; what happens to be in the table is no escape.
        const i32 far = in.below(2) ? -32768 + (i32)in.below(9) : 32767;
        symbols.push_back(number ? tables.minimum[table] + (i32)number - 1 : far);
    }
    const u32 steps = (n + s.lanes - 1) / s.lanes;
    const i64 share = (i64)((steps + s.chunks - 1) / s.chunks) * s.lanes;
    for (u32 c = 0; c < s.chunks; ++c) {
        s.word_end.push_back(share * c), s.word.push_back(share * (c + 1));
        s.side_next.push_back(0), s.side_end.push_back(0);
    }
    s.states.assign(s.lanes * s.chunks, LOWER);
    s.words.assign((size_t)(share * s.chunks), 0xA5A5);
    return s;
}

// Draw a pass, encode it at the levels 0 .. most; returns the stream.
Stream make_stream(Source &in, const Tables &tables, const RansTables &t, bool at_end,
                   bool ints, i32 most, std::vector<i32> &symbols) {
    const Stream fresh = draw_pass(in, tables, symbols);
    const i64 n = (i64)symbols.size();
    const Rows found = find_all_rows(t, symbols, fresh.indexes, n, ints, at_end, most);
    REQUIRE(found.bad == -1);
    Stream s = fresh;
    s.word_end = fresh.word, s.cost = found.cost;
    REQUIRE(encode_all(t, found.rows, fresh, at_end, most, s) == FINE);
    size_t k = 0;
    for (u32 c = 0; c < s.chunks; ++c) {
        s.side_next[c] = (i64)s.side.size();
        for (; k < found.escapes.size() && found.escapes[k] < fresh.word[c]; ++k)
            s.side.push_back((i16)symbols[(size_t)found.escapes[k]]);
        s.side_end[c] = (i64)s.side.size();
    }
    return s;
}

template <class T>
T *any_of(Source &in, std::vector<T> &values) {
    return values.empty() ? 0 : &values[in.below((u32)values.size())];
}

void damage(Source &in, Stream &s) {
    for (u32 k = 1 + in.below(4); k-- > 0;) {
        const u32 c = in.below(s.chunks);
        const i64 words = s.word_end[c] - s.word[c];
        const i64 escapes = s.side_end[c] - s.side_next[c];
        const u32 kind = in.below(6);
        if (kind == 0) {
            if (u16 *word = any_of(in, s.words)) *word ^= (u16)(1u << in.below(16));
        } else if (kind == 1) {
            *any_of(in, s.states) = LOWER + in.below(1u << 30);
        } else if (kind == 2) {
            s.word_end[c] -= std::min<i64>(words, in.below(40));
        } else if (kind == 3) {
            s.side_end[c] -= std::min<i64>(escapes, in.below(3));
        } else if (kind == 4) {
            if (u8 *index = any_of(in, s.indexes)) *index = (u8)in.below(256);
        } else {
            s.indexes.resize(in.below(2 * (u32)s.indexes.size() + 2));
        }
    }
}

}  // namespace

#if defined(STANDALONE)
extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

//   fuzz SECONDS [SEED]   inputs from a generator; the last one is in the file LAST
//   fuzz FILE             this input
int main(int count, char **args) {
    if (count < 2) return fprintf(stderr, "usage: fuzz SECONDS [SEED] | FILE\n"), 2;
    std::vector<u8> input(1 << 16);
    if (FILE *file = fopen(args[1], "rb")) {
        input.resize(fread(input.data(), 1, input.size(), file));
        fclose(file);
        return LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    const time_t end = time(0) + atoi(args[1]);
    u64 state = count > 2 ? strtoull(args[2], 0, 10) : 1, executions = 0;
    for (; time(0) < end; ++executions) {
        for (u8 &byte : input) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            byte = (u8)(state >> 56);
        }
        // A short input: what it does not say comes from the generator that it seeds.
        const size_t size = (size_t)(state >> 20) % 64;
        if (FILE *file = fopen(LAST, "wb")) {
            fwrite(input.data(), 1, size, file);
            fclose(file);
        }
        LLVMFuzzerTestOneInput(input.data(), size);
        input.resize(64);
    }
    printf("%llu executions, no finding\n", executions);
    return 0;
}
#endif

#endif
