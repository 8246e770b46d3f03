// SPDX-License-Identifier: Apache-2.0
//
// The fuzz targets' numbers and tables: any input becomes a set of tables in one of the
// library's layouts.
//
// Sanitizers do not look into vector reads, so every buffer ends at a page that must
// not be touched, or begins after one.

#ifndef POLYCODEC_FUZZ_TABLES_H
#define POLYCODEC_FUZZ_TABLES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "host/host.h"

using namespace rans;

namespace {

#define REQUIRE(condition)                                           \
    do {                                                             \
        if (!(condition)) {                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                 \
        }                                                            \
    } while (0)

const size_t PAGE = 4096;

// 2^k pages between two that must not be touched. The system is asked once for each.
struct Pages {
    std::map<size_t, std::vector<char *> > idle;

    char *take(size_t room) {
        std::vector<char *> &fitting = idle[room];
        if (fitting.empty()) {
            void *made = mmap(0, room + 2 * PAGE, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            REQUIRE(made != MAP_FAILED);
            fitting.push_back((char *)made + PAGE);
            REQUIRE(!mprotect(fitting.back(), room, PROT_READ | PROT_WRITE));
        }
        char *first = fitting.back();
        fitting.pop_back();
        return first;
    }
};

Pages &pages() {
    static Pages all;
    return all;
}

// n values at one end of such pages.
template <class T>
struct Guarded {
    size_t n, room;
    char *first;
    T *at;

    Guarded(const std::vector<T> &values, bool at_end) : n(values.size()), room(PAGE) {
        const size_t size = n * sizeof(T);
        while (room < size) room *= 2;
        first = pages().take(room);
        at = (T *)(first + (at_end ? room - size : 0));
        if (n) memcpy((void *)at, values.data(), size);
    }
    ~Guarded() { pages().idle[room].push_back(first); }
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

// host.h's layouts of decoding tables.
enum TableKind { PACKED, WIDE, SEARCHED, FOLDED };

struct Tables {
    std::vector<u32> first, packed, wide, starts_of, base, range, splits;
    std::vector<i32> minimum;
    std::vector<u8> escape;
    std::vector<u16> costs, numbers, starts, guess;
    std::vector<i16> below;
    std::vector<EncodeRow> rows;
    u32 precision;

    explicit Tables(Source &in);
    // most: slots before those of no width are dropped; of 512, all
    void add_table(Source &in, u32 most);
    bool fit(TableKind kind) const;
};

void Tables::add_table(Source &in, u32 most) {
    const u32 whole = 1u << precision;
    std::vector<u32> cuts(1, 0);
    u32 inner = most > 256 ? most - 1 : in.below(most);
    while (inner-- > 0) cuts.push_back(1 + in.below(whole - 1));
    cuts.push_back(whole);
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    const bool has = cuts.size() > 2 && in.below(2);
    const u32 table = (u32)minimum.size();
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
    splits.push_back(number > 256 ? starts[starts_of[table] + 256] : whole);
    starts.push_back((u16)whole);
    // Also tables that begin or end with the extremes of 16 bits.
    const u32 place = in.below(16), all = (1u << 16) - (number - 1);
    minimum.push_back((i32)(place ? place > 1 ? in.below(60000) : all : 0) - 32768);
    first.push_back((u32)rows.size());
    base.push_back(first[table] + 1 - (u32)minimum[table]);
    range.push_back((u32)(u16)minimum[table] | (number - 1) << 16);
    below.push_back((i16)(minimum[table] - 1));
    splits[table] = splits[table] << 16 | (u16)below[table];
}

Tables::Tables(Source &in)
    : first(1, 0), precision(8 + std::min(in.below(8), in.below(8))) {
    // Many tables are small ones, or building them would take all the time.
    const u32 most = std::max(1u, (1u << 17) >> precision);
    const u32 count = std::min(most, in.below(8) ? 1 + in.below(4) : 1 + in.below(70));
    // 512 slots only now and then, but then often: small tables have more layouts.
    const bool large = in.below(4) == 0;
    for (u32 k = 0; k < count; ++k)
        add_table(in, 1u << (large && in.below(2) ? 9 : in.below(9)));
    costs.push_back(0);
    numbers.push_back(0);
    base.resize(std::max<size_t>(64, count));
    range.resize(base.size());
    below.resize(64);
    splits.resize(64);
}

bool Tables::fit(TableKind kind) const {
    if (kind == WIDE || kind == SEARCHED) return true;
    // Elsewhere layouts.py makes no folded tables.
    if (kind == FOLDED && (!RANS_X86 || minimum.size() > 64)) return false;
    const u32 largest = *std::max_element(numbers.begin(), numbers.end());
    return precision <= 12 && largest < (kind == FOLDED ? 512u : 256u);
}

// What the set is not laid out as.
template <class T>
const std::vector<T> &if_any(bool any, const std::vector<T> &values) {
    static const std::vector<T> none;
    return any ? values : none;
}

// The tables between guards, made once for an input.
struct GuardedTables {
    Guarded<u32> first, packed, wide, starts_of, base, range, splits;
    Guarded<i32> minimum;
    Guarded<u8> escape;
    Guarded<u16> costs, numbers, starts, guess;
    Guarded<i16> below;
    Guarded<EncodeRow> rows;
    RansTables t;

    GuardedTables(const Tables &from, TableKind kind, bool end)
        : first(from.first, end),
          packed(if_any(kind == PACKED || kind == FOLDED, from.packed), end),
          wide(if_any(kind == WIDE, from.wide), end), starts_of(from.starts_of, end),
          base(from.base, end), range(from.range, end), splits(from.splits, end),
          minimum(from.minimum, end), escape(from.escape, end), costs(from.costs, end),
          numbers(if_any(kind == WIDE, from.numbers), end), starts(from.starts, end),
          guess(from.guess, end), below(from.below, end), rows(from.rows, end) {
        const i32 count = (i32)from.minimum.size();
        memset(&t, 0, sizeof t);
        t.precision = (i32)from.precision, t.count = count;
        t.first = first.at, t.minimum = minimum.at, t.has_escape = escape.at;
        t.costs = costs.at, t.rows = rows.at;
        if (kind == PACKED) t.packed = packed.at;
        if (kind == WIDE) t.wide = wide.at, t.numbers = numbers.at;
        if (kind == FOLDED) t.folded = packed.at, t.splits = splits.at;
        t.starts = starts.at, t.starts_of = starts_of.at, t.guess = guess.at;
        t.base = base.at, t.range = range.at;
        t.below = count <= 64 ? below.at : 0;
    }
};

}  // namespace

#endif
