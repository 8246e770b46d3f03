// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets of priors share: any input becomes mixtures or logits, symbols,
// their stream, and damage to the parameters.
//
// PHI and POWERS are other tables here than the real ones: rising, and falling.

#ifndef POLYCODEC_FUZZ_PRIOR_CASE_H
#define POLYCODEC_FUZZ_PRIOR_CASE_H

#include "case.h"

extern "C" {
i64 polycodec_prior_rows(const RansPrior *, const i32 *, i32, EncodeRow *, u64 *, i64 *,
                         i64, i64 *);
i64 polycodec_decode_prior(const RansPrior *, const RansLanes *, i32, i32, i32 *);
}

namespace {

struct Parameters {
    i32 kind, size;
    i64 n;
    std::vector<i32> means;
    std::vector<u8> bins;
    std::vector<i16> weights, logits;
    std::vector<Scale> scales;
    std::vector<u16> phi;
    std::vector<u32> powers;

    explicit Parameters(Source &in) : kind((i32)in.below(2)) {
        n = in.below(4) ? in.below(100) : in.below(600);
        for (i32 z = 0; z <= 2 * Z_LIMIT + 1; ++z)
            phi.push_back((u16)std::min(65535, z * z / 20));
        for (u32 f = 0; f < 32; ++f) powers.push_back(262144 - 4001 * f);
        if (kind)
            categorical(in);
        else
            mixtures(in);
    }

    void categorical(Source &in) {
        const u32 most = in.below(8) ? 40 : 700, spread = 1u << in.below(16);
        size = 1 + (i32)in.below(most);
        for (i64 k = n * size; k-- > 0;) logits.push_back((i16)(in.below(spread) - spread / 2));
    }

    void mixtures(Source &in) {
        size = 1 + (i32)in.below(MAX_COMPONENTS);
        const u32 count = in.below(4) ? 1 + in.below(64) : 1 + in.below(256);
        for (u32 k = 0; k < count; ++k) {
            Scale scale = Scale();
            scale.reciprocal = (i32)((1 + in.below(4096)) << in.below(16));
            scale.limit = (Z_LIMIT << Z_SHIFT) / scale.reciprocal;
            scale.reach = (i32)in.below(1u << (1 + in.below(15)));
            scales.push_back(scale);
        }
        const u32 spread = 1u << in.below(17);
        for (i64 k = n * size; k-- > 0;) {
            means.push_back((i32)in.below(spread) * (i32)(1 + in.below(16)) - 8 * (i32)spread);
            bins.push_back((u8)in.below(count));
        }
        weights.assign((size_t)(n * size), 0);
        for (i64 i = 0; i < n; ++i) {
            u32 left = 256;
            for (i64 j = 0; j + 1 < size; ++j) {
                weights[(size_t)(n * j + i)] = (i16)in.below(left + 1);
                left -= (u32)weights[(size_t)(n * j + i)];
            }
            weights[(size_t)(n * (size - 1) + i)] = (i16)left;
        }
    }

    // The value at r, or for an escape one that is (mostly) outside.
    i32 draw(Source &in, i64 i) const {
        const u32 r = in.below(PRIOR_WHOLE);
        if (kind) {
            const Categorical own(logits.data() + i * size, (u32)size, powers.data());
            return (i32)own.find(r).number;
        }
        Mixture<MAX_COMPONENTS> own(phi.data(), (u32)size);
        for (u32 j = 0; j < (u32)size; ++j) {
            const size_t k = (size_t)(n * j + i);
            own.add(j, means[k], scales[bins[k]], (u32)weights[k]);
        }
        own.close();
        const u32 k = in.below(30) ? own.find(r).number : 0;
        const i32 value = k ? own.first + (i32)k - 1 : -30000;
        return std::max(-32768, std::min(32767, value));
    }
};

struct GuardedPrior {
    Guarded<i32> means;
    Guarded<u8> bins;
    Guarded<i16> weights, logits;
    Guarded<Scale> scales;
    Guarded<u16> phi;
    Guarded<u32> powers;
    RansPrior p;

    GuardedPrior(const Parameters &from, bool end)
        : means(from.means, end), bins(from.bins, end), weights(from.weights, end),
          logits(from.logits, end), scales(from.scales, end), phi(from.phi, end),
          powers(from.powers, end) {
        memset(&p, 0, sizeof p);
        p.kind = from.kind, p.size = from.size, p.n = from.n;
        p.means = means.at, p.bins = bins.at, p.weights = weights.at;
        p.scales = scales.at, p.phi = phi.at;
        p.logits = logits.at, p.powers = powers.at;
        p.count = (i32)from.scales.size();
    }
};

Outcome decode(const Parameters &prior, const Stream &s, bool at_end, i32 simd) {
    const GuardedPrior guarded(prior, at_end);
    GuardedLanes call(s, at_end);
    Guarded<i32> out(std::vector<i32>((size_t)prior.n), at_end);
    Outcome found;
    found.report = polycodec_decode_prior(&guarded.p, &call.l, simd,
                                          1 + (i32)(prior.n & 1), out.at);
    found.symbols = out.copy(), found.states = call.states.copy();
    found.word = call.word.copy(), found.side_next = call.side_next.copy();
    return found;
}

// Entries at every level, then the stream; coder.cpp compares the levels of encoding.
Stream make_stream(Source &in, const Parameters &prior, bool at_end,
                   const std::vector<i32> &symbols) {
    const size_t n = symbols.size();
    const GuardedPrior guarded(prior, at_end);
    std::vector<u32> first, numbers(n);
    std::vector<EncodeRow> rows;
    std::vector<i64> escaped_at;
    u64 cost = 0;
    for (i32 simd = 0; simd <= polycodec_simd(); ++simd) {
        Guarded<i32> values(symbols, at_end);
        Guarded<EncodeRow> own(std::vector<EncodeRow>(n), at_end);
        Guarded<i64> escapes(I64s(n), at_end);
        u64 price;
        i64 escaped;
        REQUIRE(polycodec_prior_rows(&guarded.p, values.at, simd, own.at, &price,
                                     escapes.at, (i64)n, &escaped) == -1);
        const I64s where(escapes.at, escapes.at + escaped);
        if (simd) {
            REQUIRE(!n || !memcmp(own.at, rows.data(), n * sizeof(EncodeRow)));
            REQUIRE(price == cost && where == escaped_at);
        }
        rows = own.copy(), cost = price, escaped_at = where;
    }
    for (size_t k = 0; k < n; ++k) {
        REQUIRE(rows[k].freq && rows[k].start + rows[k].freq <= PRIOR_WHOLE);
        numbers[k] = (u32)k;
    }
    first.push_back(0), first.push_back((u32)n);
    RansTables t = RansTables();
    t.precision = (i32)PRIOR_PRECISION, t.count = 1;
    t.first = first.data(), t.rows = rows.data();
    Stream s;
    s.cost = cost;
    s.lanes = 1u << in.below(6), s.chunks = 1 + in.below(4);
    const i64 steps = ((i64)n + s.lanes - 1) / s.lanes;
    const i64 share = (steps + s.chunks - 1) / s.chunks * s.lanes;
    for (u32 c = 0; c < s.chunks; ++c) {
        s.word.push_back(share * (c + 1)), s.word_end.push_back(share * c);
        s.side_next.push_back(0), s.side_end.push_back(0);
    }
    const I64s ends = s.word;
    s.states.assign(s.lanes * s.chunks, LOWER), s.words.assign((size_t)(share * s.chunks), 0);
    GuardedLanes call(s, at_end);
    REQUIRE(polycodec_encode_pass(&t, numbers.data(), 4, (i64)n, &call.l,
                                  polycodec_simd(), 1) == FINE);
    s.states = call.states.copy(), s.words = call.words.copy();
    s.word = call.word.copy(), s.word_end = ends;
    size_t k = 0;
    for (u32 c = 0; c < s.chunks; ++c) {
        s.side_next[c] = (i64)s.side.size();
        for (; k < escaped_at.size() && escaped_at[k] < ends[c]; ++k)
            s.side.push_back((i16)symbols[(size_t)escaped_at[k]]);
        s.side_end[c] = (i64)s.side.size();
    }
    return s;
}

// Parameters that make no distribution, too; weights stay 0 or more.
void damage(Source &in, Parameters &prior) {
    if (i32 *mean = any_of(in, prior.means)) *mean ^= (i32)(1u << in.below(32));
    if (i16 *weight = any_of(in, prior.weights)) *weight ^= (i16)(1u << in.below(15));
    if (i16 *logit = any_of(in, prior.logits)) *logit ^= (i16)(1u << in.below(16));
    if (in.below(4)) return;
    if (u8 *bin = any_of(in, prior.bins)) *bin = (u8)in.below(256);
}

}  // namespace

#endif
