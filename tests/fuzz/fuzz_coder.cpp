// SPDX-License-Identifier: Apache-2.0
//
// Fuzz the C library: every level (portable, AVX2, AVX-512) must say the same about a
// stream, whole or damaged.
//
//   input -> tables, pass -> encode at each level -> same words
//         -> decode at each level -> same symbols, all words used
//         -> damage words, states, escapes, indexes, sizes -> decode -> same report
//
// A libFuzzer target; with -DSTANDALONE it brings its own loop (fuzz_case.h).

#define LAST "fuzz_coder.last"
#include "fuzz_case.h"

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    Source in = {data, size, 0x9E3779B97F4A7C15ull ^ size};
    const bool at_end = in.below(2), ints = in.below(2);
    const Tables tables(in);
    bool fits = tables.precision <= 12;
    for (u16 number : tables.numbers) fits = fits && number < 256;
    const GuardedTables guarded(tables, fits ? in.below(3) : 1 + in.below(2), at_end);
    std::vector<i32> symbols;
    Stream stream = make_stream(in, tables, guarded.t, at_end, polycodec_simd(), symbols);
    const Outcome whole = decode(guarded, stream, at_end, 0, ints);
    REQUIRE(whole.report == FINE && whole.symbols == symbols);
    REQUIRE(whole.word == stream.word_end && whole.side_next == stream.side_end);
    for (u32 state : whole.states) REQUIRE(state == LOWER);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(guarded, stream, at_end, 0, ints);
        for (i32 simd = 1; simd <= polycodec_simd(); ++simd)
            REQUIRE(decode(guarded, stream, at_end, simd, ints) == wanted);
        damage(in, stream);
    }
    return 0;
}
