// SPDX-License-Identifier: Apache-2.0
//
// Fuzz the CUDA kernels on the host (emulation.cpp): for every input of coder.cpp and of
// priors.cpp they must do as the portable coder does, and read or write nothing out of
// place.
//
//   input -> tables, pass -> survey -> encode -> measure -> compact -> the same bytes
//         -> decode -> the same symbols;  damage -> decode -> the same chunk and reason
//   input -> mixtures or logits, the same; parameters that are no distribution are told
//
// Buffers are exactly as large as device/layouts.py makes them, so that the sanitizers
// see what is beyond.

#define LAST "fuzz_device.last"
#include "device_case.h"

namespace {

struct Blob {
    Quads data;
    TableBlob view;
    std::string kernel;  // the end of its name
    u32 shared;

    Blob(const Tables &from, Packer &packer, u32 guess_bits, const char *kind)
        : data(packer.quads()), kernel(kind) {
        const bool far = !strcmp(kind, "far");
        shared = far ? 0 : (u32)(data.size() * sizeof(Quad));
        view.data = (const u32 *)data.data(), view.quads = (u32)data.size();
        view.precision = from.precision, view.tables = (u32)from.minimum.size();
        view.rows = (u32)from.rows.size(), view.guess_bits = guess_bits;
        view.escapes = 0;
        for (u8 has : from.escape) view.escapes |= has;
    }
};

Blob decoder_blob(Source &in, const Tables &from) {
    const u32 bits = 1 + in.below(std::min(from.precision, 8u));
    const size_t count = from.minimum.size();
    std::vector<u32> entries;
    std::vector<u8> narrow;
    std::vector<u16> wide;
    for (const EncodeRow &row : from.rows)
        entries.push_back(row.start | row.freq << 16);
    bool fits = true;
    for (size_t k = 0; k < count << bits; ++k) {
        const u16 slot = from.numbers[k << (from.precision - bits)];
        fits = fits && slot < 256;
        narrow.push_back((u8)slot), wide.push_back(slot);
    }
    const u32 kind = fits ? in.below(3) : 1 + in.below(2);
    Packer packer;
    packer.add(entries, entries.size());
    packer.add(from.first, count);
    packer.add(from.minimum, count);
    if (kind == 0)
        packer.add(narrow, narrow.size());
    else
        packer.add(wide, wide.size());
    const char *names[] = {"near", "large", "far"};
    return Blob(from, packer, bits, names[kind]);
}

Blob encoder_blob(Source &in, const Tables &from) {
    Packer packer;
    packer.add(from.rows, from.rows.size());
    packer.add(from.first, from.minimum.size() + 1);
    packer.add(from.minimum, from.minimum.size());
    // The largest sets do not fit what a block shares.
    const bool near = in.below(2) && packer.bytes.size() <= 200 << 10;
    return Blob(from, packer, 0, near ? "near" : "far");
}

int code(Source &in, const char *verb, const Blob &blob, OnDevice &device,
         const Stream &s, bool wide_indexes) {
    device.ints.assign(s.indexes.begin(), s.indexes.end()), device.bytes = s.indexes;
    device.fill(in, blob.view, s.indexes.size());
    device.pass.indexes =
        wide_indexes ? (const void *)device.ints.data() : device.bytes.data();
    const char *kind = wide_indexes ? "_i32_" : "_u8_";
    return device.launch(in, verb + (kind + blob.kernel), &device.pass, blob.shared);
}

void check_survey(Source &in, const Tables &tables, const Blob &blob, OnDevice &device,
                  const Stream &s, bool ints) {
    std::vector<u16> costs(tables.costs.begin(), tables.costs.begin() + blob.view.rows);
    Found found = {0, 0, ~(u64)0};
    const Survey job = {ints ? (const void *)device.ints.data() : device.bytes.data(),
                        device.symbols.data(), blob.view, costs.data(), &found,
                        (i32)s.indexes.size()};
    const char *name = ints ? "survey_i32" : "survey_u8";
    REQUIRE(!polycodec_emulate(name, &job, 1 + in.below(3), 1, THREADS, sizeof found,
                               in.below(1 << 16)));
    REQUIRE(found.bad == ~(u64)0 && found.escapes == (u64)s.side.size());
    REQUIRE(found.cost == s.cost);
}

void check_encoder(Source &in, const Tables &tables, const Stream &s,
                   const std::vector<i32> &symbols, bool ints) {
    const Blob blob = encoder_blob(in, tables);
    OnDevice device;
    device.make_room(s, symbols);
    REQUIRE(!code(in, "encode", blob, device, s, ints));
    check_survey(in, tables, blob, device, s, ints);
    device.check_bytes(s);
}

void check_decoder(Source &in, const Blob &blob, const Stream &s, const Outcome &wanted,
                   bool ints) {
    OnDevice device;
    device.take(s, s.indexes.size());
    REQUIRE(!code(in, "decode", blob, device, s, ints));
    const u32 bits[] = {0, OUT_OF_WORDS, OUT_OF_ESCAPES, NO_SUCH_TABLE};
    device.check(wanted, bits, 0);
}

// ---- priors

// What a device has of a prior, and which of its symbols have a distribution.
struct PriorOnDevice {
    Quads data;
    TableBlob blob;
    PriorParts parts;
    const char *kind;
    std::vector<bool> fine;

    explicit PriorOnDevice(const Parameters &p)
        : kind(p.kind ? "categorical" : "mixture") {
        Packer packer;
        packer.add(p.phi, p.kind ? 0 : 2 * Z_LIMIT + 1);
        packer.align();
        packer.add(p.scales, p.scales.size());
        packer.add(p.powers, p.kind ? 32 : 0);
        data = packer.quads();
        blob = TableBlob();
        blob.data = (const u32 *)data.data(), blob.quads = (u32)data.size();
        blob.precision = PRIOR_PRECISION, blob.tables = (u32)p.scales.size();
        parts = PriorParts();
        parts.means = p.means.data(), parts.bins = p.bins.data();
        parts.weights = p.weights.data(), parts.logits = p.logits.data();
        parts.size = (u32)p.size;
        for (i64 i = 0; i < p.n; ++i) fine.push_back(p.kind || is_distribution(p, i));
    }

    static bool is_distribution(const Parameters &p, i64 i) {
        i32 sum = 0;
        for (i64 k = i; k < (i64)p.means.size(); k += p.n) {
            const i32 mean = p.means[(size_t)k];
            if (mean < -MEAN_LIMIT || mean > MEAN_LIMIT || p.weights[(size_t)k] < 0 ||
                p.bins[(size_t)k] >= p.scales.size())
                return false;
            sum += p.weights[(size_t)k];
        }
        return sum == 256;
    }

    u32 shared() const { return (u32)(data.size() * sizeof(Quad)); }

    int code(Source &in, const char *verb, OnDevice &device) const {
        const PriorPass job = {device.fill(in, blob, fine.size()), parts};
        return device.launch(in, verb + ("_" + std::string(kind)), &job, shared());
    }

    Found survey(Source &in, const std::vector<i32> &symbols) const {
        Found found = {0, 0, ~(u64)0};
        const PriorSurvey job = {symbols.data(), blob, parts, &found, (i32)fine.size()};
        const std::string name = "survey_" + std::string(kind);
        REQUIRE(!polycodec_emulate(name.c_str(), &job, 1 + in.below(3), 1, THREADS,
                                   sizeof found, in.below(1 << 16)));
        return found;
    }
};

void check_prior_encoder(Source &in, const Parameters &prior, const Stream &s,
                         const std::vector<i32> &symbols) {
    const PriorOnDevice near(prior);
    OnDevice device;
    device.make_room(s, symbols);
    const Found found = near.survey(in, symbols);
    REQUIRE(found.bad == ~(u64)0 && found.escapes == (u64)s.side.size());
    REQUIRE(found.cost == s.cost);
    REQUIRE(!near.code(in, "encode", device));
    device.check_bytes(s);
}

void check_prior_decoder(Source &in, const Parameters &prior, const Stream &s,
                         const Outcome &wanted, const std::vector<i32> &symbols) {
    const PriorOnDevice near(prior);
    OnDevice device;
    device.take(s, near.fine.size());
    REQUIRE(!near.code(in, "decode", device));
    const u32 bits[] = {0, OUT_OF_WORDS, OUT_OF_ESCAPES, NO_DISTRIBUTION};
    device.check(wanted, bits, NO_DISTRIBUTION);
    const i64 n = prior.n, steps = (n + s.lanes - 1) / s.lanes;
    const i64 share = (steps + s.chunks - 1) / s.chunks * s.lanes;
    for (i64 c = 0; c < (i64)s.chunks; ++c) {
        const i64 begin = std::min(share * c, n), end = std::min(share * (c + 1), n);
        const bool fine = std::count(near.fine.begin() + begin, near.fine.begin() + end,
                                     false) == 0;
        REQUIRE(fine == !(device.chunks[(size_t)c].status & NO_DISTRIBUTION));
    }
    const u64 bad = (u64)(std::find(near.fine.begin(), near.fine.end(), false) -
                          near.fine.begin());
    REQUIRE(near.survey(in, symbols).bad == (bad < (u64)n ? bad : ~(u64)0));
}

void fuzz_tables(Source in) {
    const bool at_end = in.below(2), ints = in.below(2);
    const Tables tables(in);
    const GuardedTables guarded(tables, SEARCHED, at_end);
    std::vector<i32> symbols;
    Stream stream = make_stream(in, tables, guarded.t, at_end, ints, 0, symbols);
    check_encoder(in, tables, stream, symbols, ints);
    const Blob blob = decoder_blob(in, tables);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(guarded, stream, at_end, 0, ints);
        check_decoder(in, blob, stream, wanted, ints);
        damage(in, stream);
    }
}

void fuzz_priors(Source in) {
    Source launches = in;  // of its own: the case stays that of priors.cpp
    const bool at_end = in.below(2);
    Parameters prior(in);
    std::vector<i32> symbols;
    for (i64 i = 0; i < prior.n; ++i) symbols.push_back(prior.draw(in, i));
    Stream stream = make_stream(in, prior, at_end, symbols);
    check_prior_encoder(launches, prior, stream, symbols);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(prior, stream, at_end, 0);
        check_prior_decoder(launches, prior, stream, wanted, symbols);
        damage(in, stream);
        if (round) damage(in, prior);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    const Source in = {data, size, 0x9E3779B97F4A7C15ull ^ size};
    fuzz_tables(in);
    fuzz_priors(in);
    return 0;
}
