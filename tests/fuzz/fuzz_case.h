// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets share: any input becomes tables, a pass of symbols, its stream,
// and damage to it. The same bytes give every target the same case.
//
// Sanitizers do not look into vector reads, so every buffer ends at a page that must
// not be touched, or begins after one.

#ifndef POLYCODEC_FUZZ_CASE_H
#define POLYCODEC_FUZZ_CASE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "rans_host.h"

using namespace rans;

extern "C" {
i32 polycodec_simd(void);
i64 polycodec_rows(const RansTables *, const i32 *, const void *, i32, i64, i32, u32 *,
                   u64 *, i64 *, i64, i64 *);
i64 polycodec_encode_pass(const RansTables *, const u32 *, i64, const RansLanes *, i32, i32);
i64 polycodec_decode_pass(const RansTables *, const void *, i32, i64, const RansLanes *,
                          i32, i32, i32 *);
}

namespace {

#define REQUIRE(condition)                                           \
    do {                                                             \
        if (!(condition)) {                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                 \
        }                                                            \
    } while (0)

const size_t PAGE = 4096;

// n values between two pages that must not be touched.
template <class T>
struct Guarded {
    char *pages;
    size_t bytes;
    T *at;
    size_t n;

    Guarded(const std::vector<T> &values, bool at_end) : n(values.size()) {
        const size_t size = n * sizeof(T), room = (size + PAGE) / PAGE * PAGE;
        bytes = room + 2 * PAGE;
        pages = (char *)mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(pages != MAP_FAILED);
        REQUIRE(!mprotect(pages + PAGE, room, PROT_READ | PROT_WRITE));
        at = (T *)(pages + PAGE + (at_end ? room - size : 0));
        if (n) memcpy((void *)at, values.data(), size);
    }
    ~Guarded() { munmap(pages, bytes); }
    Guarded(const Guarded &) = delete;
    std::vector<T> copy() const { return std::vector<T>(at, at + n); }
};

// Numbers from the input's bytes; after its end from a generator that they seed.
struct Source {
    const u8 *data;
    size_t size;
    u64 state;

    u32 below(u32 limit) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        u32 value = (u32)(state >> 33);
        if (size) {
            value = *data++;
            --size;
            state ^= value;
            if (limit > 256) value |= (u32)(state >> 40) << 8;
        }
        return value % limit;
    }
};

struct Tables {
    std::vector<u32> first, packed, wide, starts_of, base, range;
    std::vector<i32> minimum;
    std::vector<u8> escape;
    std::vector<u16> costs, numbers, starts, guess;
    std::vector<i16> below;
    std::vector<EncodeRow> rows;
    u32 precision;

    explicit Tables(Source &in);
    void add_table(Source &in);
};

void Tables::add_table(Source &in) {
    const u32 whole = 1u << precision, most = 1u << in.below(9);
    std::vector<u32> cuts(1, 0);
    for (u32 k = in.below(most); k-- > 0;) cuts.push_back(1 + in.below(whole - 1));
    cuts.push_back(whole);
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    const bool has = cuts.size() > 2 && in.below(2);
    const u32 table = (u32)minimum.size();
    minimum.push_back((i32)in.below(60000) - 32768);
    escape.push_back(has);
    starts_of.push_back((u32)starts.size());
    guess.push_back(0);  // one bucket: the search begins at slot 0
    u32 number = 0;
    if (!has) cuts.insert(cuts.begin(), 0);  // an empty slot 0
    for (; number + 1 < cuts.size(); ++number) {
        const u32 start = cuts[number], freq = cuts[number + 1] - start;
        const u32 reciprocal = freq > 1 ? (u32)((1ull << 32) / freq) : 0xFFFFFFFFu;
        const EncodeRow row = {(u16)start, (u16)freq, reciprocal};
        rows.push_back(row);
        costs.push_back((u16)(number + 1));
        starts.push_back((u16)start);
        for (u32 r = start; r < start + freq; ++r) {
            packed.push_back((number & 0xFF) | (freq - 1) << 8 | (r - start) << 20);
            wide.push_back((freq - 1) | (r - start) << 16);
            numbers.push_back((u16)number);
        }
    }
    starts.push_back((u16)whole);
    first.push_back((u32)rows.size());
    base.push_back(first[table] + 1 - (u32)minimum[table]);
    range.push_back((u32)(u16)minimum[table] | (number - 1) << 16);
    below.push_back((i16)(minimum[table] - 1));
}

Tables::Tables(Source &in) : first(1, 0), precision(8 + std::min(in.below(8), in.below(8))) {
    // Many tables are small ones, or building them would take all the time.
    const u32 most = std::max(1u, (1u << 17) >> precision);
    const u32 count = std::min(most, in.below(8) ? 1 + in.below(4) : 1 + in.below(70));
    for (u32 k = 0; k < count; ++k) add_table(in);
    costs.push_back(0);
    numbers.push_back(0);
    base.resize(std::max<size_t>(64, count));
    range.resize(base.size());
    below.resize(64);
}

// The tables between guards, made once for an input.
struct GuardedTables {
    Guarded<u32> first, packed, wide, starts_of, base, range;
    Guarded<i32> minimum;
    Guarded<u8> escape;
    Guarded<u16> costs, numbers, starts, guess;
    Guarded<i16> below;
    Guarded<EncodeRow> rows;
    RansTables t;

    // layout: 0 packed, 1 wide, 2 searched
    GuardedTables(const Tables &from, u32 layout, bool end)
        : first(from.first, end), packed(from.packed, end), wide(from.wide, end),
          starts_of(from.starts_of, end), base(from.base, end), range(from.range, end),
          minimum(from.minimum, end), escape(from.escape, end), costs(from.costs, end),
          numbers(from.numbers, end), starts(from.starts, end), guess(from.guess, end),
          below(from.below, end), rows(from.rows, end) {
        const i32 count = (i32)from.minimum.size();
        memset(&t, 0, sizeof t);
        t.precision = (i32)from.precision, t.count = count;
        t.first = first.at, t.minimum = minimum.at, t.has_escape = escape.at;
        t.costs = costs.at, t.rows = rows.at;
        if (layout == 0) t.packed = packed.at;
        if (layout == 1) t.wide = wide.at, t.numbers = numbers.at;
        t.starts = starts.at, t.starts_of = starts_of.at, t.guess = guess.at;
        t.base = base.at, t.range = range.at;
        t.below = count <= 64 ? below.at : 0;
    }
};

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

Outcome decode(const GuardedTables &tables, const Stream &s, bool at_end, i32 simd,
               bool wide_indexes) {
    GuardedLanes call(s, at_end);
    const i64 n = (i64)s.indexes.size();
    Guarded<u8> bytes(s.indexes, at_end);
    Guarded<i32> ints(std::vector<i32>(s.indexes.begin(), s.indexes.end()), at_end);
    Guarded<i32> out(std::vector<i32>(s.indexes.size()), at_end);
    Outcome found;
    found.report = polycodec_decode_pass(
        &tables.t, wide_indexes ? (const void *)ints.at : bytes.at, wide_indexes ? 4 : 1, n,
        &call.l, simd, 1 + (i32)(n & 1), out.at);
    found.symbols = out.copy(), found.states = call.states.copy();
    found.word = call.word.copy(), found.side_next = call.side_next.copy();
    return found;
}

// Draw a pass, encode it at the levels 0 .. most; returns the stream.
Stream make_stream(Source &in, const Tables &tables, const RansTables &t, bool at_end,
                   i32 most, std::vector<i32> &symbols) {
    Stream s;
    s.lanes = 1u << in.below(6), s.chunks = 1 + in.below(5);
    const u32 n = in.below(4) ? in.below(200) : in.below(2000);
    const u32 count = (u32)tables.minimum.size();
    for (u32 i = 0; i < n; ++i) {
        const u32 table = in.below(count), r = in.below(1u << tables.precision);
        const u32 number = tables.numbers[(table << tables.precision) + r];
        s.indexes.push_back((u8)table);
        // Far out, mostly; what happens to be in the table is no escape.
        const i32 far = in.below(2) ? -32768 + (i32)in.below(9) : 32767;
        symbols.push_back(number ? tables.minimum[table] + (i32)number - 1 : far);
    }
    const u32 steps = (n + s.lanes - 1) / s.lanes;
    const i64 share = (i64)((steps + s.chunks - 1) / s.chunks) * s.lanes;
    I64s begins, ends;
    for (u32 c = 0; c < s.chunks; ++c) {
        begins.push_back(share * c), ends.push_back(share * (c + 1));
        s.side_next.push_back(0), s.side_end.push_back(0);
    }
    Stream fresh = s;
    fresh.states.assign(s.lanes * s.chunks, LOWER);
    fresh.words.assign((size_t)(share * s.chunks), 0xA5A5);
    fresh.word = ends, fresh.word_end = begins;
    for (i32 simd = 0; simd <= most; ++simd) {
        GuardedLanes call(fresh, at_end);
        Guarded<u8> indexes(s.indexes, at_end);
        Guarded<i32> values(symbols, at_end);
        Guarded<u32> rows(std::vector<u32>(n), at_end);
        Guarded<i64> escapes(I64s(n), at_end);
        u64 cost;
        i64 escaped;
        const i64 bad = polycodec_rows(&t, values.at, indexes.at, 1, n, simd,
                                       rows.at, &cost, escapes.at, n, &escaped);
        REQUIRE(bad == -1);
        REQUIRE(polycodec_encode_pass(&t, rows.at, n, &call.l, simd, 1) == FINE);
        s.cost = cost;
        if (simd) {
            REQUIRE(call.states.copy() == s.states);
            REQUIRE(call.word.copy() == s.word);
            const std::vector<u16> words = call.words.copy();
            for (u32 c = 0; c < s.chunks; ++c)
                REQUIRE(std::equal(words.begin() + s.word[c], words.begin() + ends[c],
                                   s.words.begin() + s.word[c]));
            continue;
        }
        s.states = call.states.copy(), s.words = call.words.copy();
        s.word = call.word.copy(), s.word_end = ends;
        i64 k = 0;
        for (u32 c = 0; c < s.chunks; ++c) {
            s.side_next[c] = (i64)s.side.size();
            for (; k < escaped && escapes.at[k] < ends[c]; ++k)
                s.side.push_back((i16)symbols[(size_t)escapes.at[k]]);
            s.side_end[c] = (i64)s.side.size();
        }
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
