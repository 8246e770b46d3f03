// SPDX-License-Identifier: Apache-2.0
//
// Streams through a library compiled for another processor, run by an emulator:
//
//   cases FILE      written by test_neon.py: passes and the stream that they are
//     encode        at each level: the same states, words and escapes
//     decode        at each level: the same symbols, nothing left over
//     damage        as in case.h: each level says what the portable one says
//
//   turns LEVEL encode|decode N FILE    the first case N times, for who counts
//                                       instructions

#include "case.h"

namespace {

struct File {
    std::vector<u64> data;  // aligned for every type
    size_t at = 0;

    explicit File(const char *path) {
        FILE *file = fopen(path, "rb");
        REQUIRE(file);
        u64 eight;
        while (fread(&eight, 8, 1, file) == 1) data.push_back(eight);
        fclose(file);
    }
    i64 number() {
        REQUIRE(at < data.size());
        return (i64)data[at++];
    }
    // Its size in bytes, then the values, filled up to eight bytes.
    template <class T>
    std::vector<T> values() {
        const size_t bytes = (size_t)number(), words = (bytes + 7) / 8;
        REQUIRE(words <= data.size() - at && bytes % sizeof(T) == 0);
        const T *first = (const T *)(data.data() + at);
        at += words;
        return std::vector<T>(first, first + bytes / sizeof(T));
    }
};

// A set of tables as layouts.py made it; what it left out is null.
struct Layout {
    std::vector<std::vector<u8> > kept;
    RansTables t;

    explicit Layout(File &in) {
        memset(&t, 0, sizeof t);
        t.precision = (i32)in.number(), t.count = (i32)in.number();
        t.guess_bits = (i32)in.number();
        take(in, t.first), take(in, t.minimum), take(in, t.has_escape);
        take(in, t.costs), take(in, t.rows), take(in, t.packed), take(in, t.wide);
        take(in, t.numbers), take(in, t.starts), take(in, t.starts_of);
        take(in, t.guess), take(in, t.base), take(in, t.range), take(in, t.below);
    }

    template <class T>
    void take(File &in, const T *&field) {
        kept.push_back(in.values<u8>());
        field = kept.back().empty() ? 0 : (const T *)kept.back().data();
    }
};

struct Pass {
    Layout tables;
    i32 index_bytes;
    std::vector<u8> indexes;
    std::vector<i32> symbols;

    explicit Pass(File &in)
        : tables(in), index_bytes((i32)in.number()), indexes(in.values<u8>()),
          symbols(in.values<i32>()) {}
};

struct Case {
    bool mini;
    Stream stream;  // as a decoder begins
    std::vector<std::unique_ptr<Pass> > passes;

    explicit Case(File &in) {
        Stream &s = stream;
        s.chunks = (u32)in.number(), s.lanes = (u32)in.number(), mini = in.number() != 0;
        s.states = in.values<u32>(), s.words = in.values<u16>();
        s.word = in.values<i64>(), s.word_end = in.values<i64>();
        s.side = in.values<i16>();
        s.side_next = in.values<i64>(), s.side_end = in.values<i64>();
        for (i64 k = in.number(); k > 0; --k)
            passes.push_back(std::unique_ptr<Pass>(new Pass(in)));
    }
};

// What decoding gives: for each pass a report and symbols, then how the lanes ended.
struct Ended {
    std::vector<i64> reports;
    std::vector<std::vector<i32> > symbols;
    std::vector<u32> states;
    I64s word, side_next;

    bool operator==(const Ended &o) const {
        if (reports != o.reports) return false;
        return reports.back() != FINE || (symbols == o.symbols && states == o.states &&
                                          word == o.word && side_next == o.side_next);
    }
};

Ended decode_all(const Case &c, const Stream &s, i32 simd) {
    GuardedLanes call(s, true);
    call.l.mini = c.mini;
    Ended found;
    for (const std::unique_ptr<Pass> &pass : c.passes) {
        const i64 n = (i64)pass->symbols.size();
        Guarded<i32> out(std::vector<i32>((size_t)n), true);
        found.reports.push_back(
            polycodec_decode_pass(&pass->tables.t, pass->indexes.data(),
                                  pass->index_bytes, n, &call.l, simd, 1, out.at));
        found.symbols.push_back(out.copy());
        if (found.reports.back() != FINE) break;
    }
    found.states = call.states.copy(), found.word = call.word.copy();
    found.side_next = call.side_next.copy();
    return found;
}

void check_decoded(const Case &c, const Ended &found) {
    for (size_t k = 0; k < c.passes.size(); ++k)
        REQUIRE(found.reports[k] == FINE && found.symbols[k] == c.passes[k]->symbols);
    REQUIRE(found.word == c.stream.word_end && found.side_next == c.stream.side_end);
    for (u32 state : found.states) REQUIRE(state == (c.mini ? 1 : LOWER));
}

// The words, states and number of escapes must be the stream's.
void check_encoded(const Case &c, i32 simd) {
    const Stream &s = c.stream;
    Stream fresh = s;
    std::fill(fresh.states.begin(), fresh.states.end(), c.mini ? 1 : LOWER);
    fresh.word = s.word_end, fresh.word_end = s.word;
    // A kernel leaves whole steps to the portable coder where words could run out.
    const i64 room = 64;
    for (u32 k = 0; k < s.chunks; ++k)
        fresh.word[k] += room * (k + 1), fresh.word_end[k] += room * k;
    fresh.words.assign(s.words.size() + (size_t)room * s.chunks, 0xA5A5);
    GuardedLanes call(fresh, true);
    call.l.mini = c.mini;
    i64 escapes = 0;
    for (size_t k = c.passes.size(); k-- > 0;) {
        const Pass &p = *c.passes[k];
        const i64 n = (i64)p.symbols.size();
        const RansTables &t = p.tables.t;
        // Rows of 16 bits where they are enough, as native.py has them.
        const i32 bytes = t.first[t.count] <= 1u << 16 ? 2 : 4;
        std::vector<u8> rows((size_t)(n * bytes));
        i64 escaped;
        REQUIRE(polycodec_rows(&t, p.symbols.data(), p.indexes.data(), p.index_bytes, n,
                               simd, rows.data(), bytes, 0, 0, &escaped) == -1);
        REQUIRE(polycodec_encode_pass(&t, rows.data(), bytes, n, &call.l, simd, 1) ==
                FINE);
        escapes += escaped;
    }
    REQUIRE(escapes == (i64)s.side.size() && call.states.copy() == s.states);
    const std::vector<u16> words = call.words.copy();
    for (u32 k = 0; k < s.chunks; ++k) {
        const i64 size = s.word_end[k] - s.word[k];
        REQUIRE(call.word.at[k] == s.word[k] + room * (k + 1));
        REQUIRE(std::equal(s.words.begin() + s.word[k], s.words.begin() + s.word_end[k],
                           words.begin() + (fresh.word[k] - size)));
    }
}

// The kinds of damage that leave indexes and sizes alone: those came checked.
void hurt(Source &in, Stream &s) {
    const u32 c = in.below(s.chunks), kind = in.below(4);
    if (kind == 0 && !s.words.empty())
        *any_of(in, s.words) ^= (u16)(1u << in.below(16));
    else if (kind == 1)
        *any_of(in, s.states) ^= 1u << in.below(16);
    else if (kind == 2)
        s.word_end[c] -= std::min<i64>(s.word_end[c] - s.word[c], 1 + in.below(40));
    else
        s.side_end[c] -= std::min<i64>(s.side_end[c] - s.side_next[c], 1 + in.below(3));
}

int check(File &in) {
    const i32 best = polycodec_simd();
    u64 cases = 0, damaged = 0, errors = 0;
    for (i64 left = in.number(); left > 0; --left, ++cases) {
        const Case c(in);
        for (i32 simd = 0; simd <= best; ++simd) {
            check_encoded(c, simd);
            check_decoded(c, decode_all(c, c.stream, simd));
        }
        Source random = {0, 0, cases};
        for (int round = 0; round < 8; ++round, ++damaged) {
            Stream bad = c.stream;
            hurt(random, bad);
            if (random.below(2)) hurt(random, bad);
            const Ended wanted = decode_all(c, bad, 0);
            errors += wanted.reports.back() != FINE;
            for (i32 simd = 1; simd <= best; ++simd)
                REQUIRE(decode_all(c, bad, simd) == wanted);
        }
    }
    printf("levels %d cases %llu damaged %llu errors %llu\n", best + 1, cases, damaged,
           errors);
    return 0;
}

}  // namespace

int main(int count, char **args) {
    if (count < 3) return fprintf(stderr, "usage: see the top of the source\n"), 2;
    File in(args[count - 1]);
    if (!strcmp(args[1], "cases")) return check(in);
    REQUIRE(!strcmp(args[1], "turns") && count == 6 && in.number() >= 1);
    const Case c(in);
    const i32 simd = atoi(args[2]);
    for (int turn = atoi(args[4]); turn > 0; --turn)
        if (!strcmp(args[3], "encode"))
            check_encoded(c, simd);
        else
            check_decoded(c, decode_all(c, c.stream, simd));
    return 0;
}
