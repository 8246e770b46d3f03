// SPDX-License-Identifier: Apache-2.0
//
// Fuzz the C library's priors: every level (portable, AVX2, AVX-512) must say the same
// about a stream, whole or damaged, and about parameters that no encoder would use.
//
//   input -> mixtures or logits, a pass -> entries at each level -> the same, and costs
//         -> encode -> decode at each level -> the symbols, all words used
//         -> damage words, states, escapes, parameters -> decode -> the same report

#define LAST "fuzz_priors.last"
#include "prior_case.h"

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    Source in = {data, size, 0x9E3779B97F4A7C15ull ^ size};
    const bool at_end = in.below(2);
    Parameters prior(in);
    std::vector<i32> symbols;
    for (i64 i = 0; i < prior.n; ++i) symbols.push_back(prior.draw(in, i));
    Stream stream = make_stream(in, prior, at_end, symbols);
    const Outcome whole = decode(prior, stream, at_end, 0);
    REQUIRE(whole.report == FINE && whole.symbols == symbols);
    REQUIRE(whole.word == stream.word_end && whole.side_next == stream.side_end);
    for (u32 state : whole.states) REQUIRE(state == LOWER);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(prior, stream, at_end, 0);
        for (i32 simd = 1; simd <= polycodec_simd(); ++simd)
            REQUIRE(decode(prior, stream, at_end, simd) == wanted);
        damage(in, stream);
        if (round) damage(in, prior);
    }
    return 0;
}
