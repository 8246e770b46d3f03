// SPDX-License-Identifier: Apache-2.0
//
// Fuzz the C library: every level (portable, AVX2, AVX-512) must say the same about a
// stream, whole or damaged.
//
//   input -> tables, pass -> rows, long and short, at each level -> same rows, cost
//         -> encode either at each level -> same words
//         -> decode at each level -> same symbols, all words used
//         -> damage words, states, escapes, indexes, sizes -> decode -> same report
//         -> damage symbols, indexes, rows, room -> rows, encode -> same report
//
// A libFuzzer target; with -DSTANDALONE it brings its own loop (case.h).

#define LAST "fuzz_coder.last"
#include "case.h"

namespace {

TableKind pick_kind(Source &in, const Tables &tables) {
    std::vector<TableKind> fitting;
    for (TableKind kind : {PACKED, WIDE, SEARCHED, FOLDED})
        if (tables.fit(kind)) fitting.push_back(kind);
    return *any_of(in, fitting);
}

// Wrong symbols and indexes; `room` for some of the escapes.
Rows check_rows(Source &in, const RansTables &t, Stream s, std::vector<i32> symbols,
                bool at_end, bool ints) {
    for (u32 k = in.below(3); k-- > 0;) {
        if (i32 *symbol = any_of(in, symbols)) *symbol ^= (i32)(1u << in.below(32));
        if (in.below(4)) continue;
        if (u8 *index = any_of(in, s.indexes)) *index = (u8)in.below(256);
    }
    const i64 room = in.below((u32)symbols.size() + 1);
    return find_all_rows(t, symbols, s.indexes, room, ints, at_end, polycodec_simd());
}

// Wrong rows, and chunks with too little room.
void check_encoder(Source &in, const RansTables &t, const Stream &s,
                   std::vector<u32> rows, bool at_end) {
    const u32 end = t.first[t.count];
    Stream fresh = s, out;
    fresh.states.assign(s.states.size(), LOWER);
    fresh.words.assign(s.words.size(), 0xA5A5);
    fresh.word = s.word_end;
    for (u32 c = 0; c < s.chunks; ++c) fresh.word_end[c] = c ? s.word_end[c - 1] : 0;
    if (in.below(2) && end < 1u << 16)
        if (u32 *row = any_of(in, rows)) *row = end + in.below((1u << 16) - end);
    const u32 c = in.below(s.chunks), room = (u32)(fresh.word[c] - fresh.word_end[c]);
    if (in.below(2)) fresh.word_end[c] += in.below(room + 1);
    encode_all(t, rows, fresh, at_end, polycodec_simd(), out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    Source in = {data, size, 0x9E3779B97F4A7C15ull ^ size};
    const bool at_end = in.below(2), ints = in.below(2);
    const Tables tables(in);
    const GuardedTables guarded(tables, pick_kind(in, tables), at_end);
    std::vector<i32> symbols;
    const i32 most = polycodec_simd();
    Stream stream = make_stream(in, tables, guarded.t, at_end, ints, most, symbols);
    const Rows rows = check_rows(in, guarded.t, stream, symbols, at_end, ints);
    check_encoder(in, guarded.t, stream, rows.rows, at_end);
    const Outcome whole = decode(guarded, stream, at_end, 0, ints);
    REQUIRE(whole.report == FINE && whole.symbols == symbols);
    REQUIRE(whole.word == stream.word_end && whole.side_next == stream.side_end);
    for (u32 state : whole.states) REQUIRE(state == LOWER);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(guarded, stream, at_end, 0, ints);
        for (i32 simd = 1; simd <= most; ++simd)
            REQUIRE(decode(guarded, stream, at_end, simd, ints) == wanted);
        damage(in, stream);
    }
    return 0;
}
