// SPDX-License-Identifier: Apache-2.0
//
// Fuzz the CUDA kernels on the host (emulation.cpp): for every input of fuzz_coder.cpp
// they must say what the portable coder says, without a read or write out of place.
//
//   input -> tables, pass -> survey -> encode -> measure -> compact -> the same bytes
//         -> decode -> the same symbols;  damage -> decode -> the same chunk and reason
//
// Buffers are exactly as large as device_layouts.py makes them, so that the sanitizers
// see what is beyond.

#define LAST "fuzz_device.last"
#include "fuzz_case.h"

// Names that rans_cuda.h wants; only emulation.cpp runs them.
#define __shared__
static struct {
    unsigned x, y, z;
} threadIdx, blockIdx, blockDim;
unsigned __ballot_sync(unsigned, bool);
int __popc(unsigned);
void __syncthreads();
void atomicAdd(unsigned long long *, unsigned long long);
void atomicMin(unsigned long long *, unsigned long long);
#include "rans_cuda.h"

extern "C" int polycodec_emulate(const char *name, const void *args, unsigned grid_x,
                                 unsigned grid_y, unsigned threads, unsigned shared,
                                 unsigned seed);

namespace {

const u32 THREADS = 64;
typedef std::vector<Quad> Quads;

// Words of any size, one after the other, in pieces of 16 bytes.
struct Packer {
    std::vector<u8> bytes;

    template <class T>
    void add(const std::vector<T> &values, size_t n) {
        const u8 *from = (const u8 *)values.data();
        bytes.insert(bytes.end(), from, from + n * sizeof(T));
    }
    Quads quads() {
        bytes.resize((bytes.size() + 15) / 16 * 16);
        Quads out(bytes.size() / 16);
        memcpy((void *)out.data(), bytes.data(), bytes.size());
        return out;
    }
};

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
    for (const EncodeRow &row : from.rows) entries.push_back(row.start | row.freq << 16);
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
    return Blob(from, packer, 0, in.below(2) ? "near" : "far");
}

// A stream's chunks on the emulated device, and the pass that is made of them.
struct OnDevice {
    std::vector<Chunk> chunks;
    std::vector<WarpChunks> warps;
    std::vector<u32> states;
    std::vector<u16> words;
    std::vector<i16> side;
    std::vector<i32> symbols, ints;
    std::vector<u8> bytes;
    Pass pass;

    // Chunks side by side in `words` and `side`: [begin, end) of each.
    void seat(const Stream &s, const I64s &word_begin, const I64s &word_end,
              const I64s &side_begin, const I64s &side_end, bool encoding) {
        for (u32 c = 0; c < s.chunks; ++c) {
            Chunk chunk;
            memset(&chunk, 0, sizeof chunk);
            chunk.word_begin = word_begin[c], chunk.word_end = word_end[c];
            chunk.side_begin = side_begin[c], chunk.side_end = side_end[c];
            chunk.word = encoding ? word_end[c] : word_begin[c];
            chunk.side = encoding ? side_end[c] : side_begin[c];
            chunk.state = (i32)(c * s.lanes), chunk.number = (i32)c;
            chunk.chunks = (i32)s.chunks, chunk.lanes = (i32)s.lanes;
            chunks.push_back(chunk);
        }
        const i32 together = 32 / (i32)s.lanes;
        for (i32 c = 0; c < (i32)s.chunks; c += together) {
            const WarpChunks warp = {c, std::min(together, (i32)s.chunks - c)};
            warps.push_back(warp);
        }
    }

    int code(Source &in, const char *verb, const Blob &blob, const Stream &s,
             bool wide_indexes) {
        ints.assign(s.indexes.begin(), s.indexes.end()), bytes = s.indexes;
        pass.warps = warps.data(), pass.chunks = chunks.data();
        pass.states = states.data(), pass.words = words.data(), pass.side = side.data();
        pass.indexes = wide_indexes ? (const void *)ints.data() : bytes.data();
        pass.symbols = symbols.data(), pass.blob = blob.view;
        pass.n = (i32)s.indexes.size(), pass.warp_count = (i32)warps.size();
        pass.warps_per_block = 1 + (i32)in.below(THREADS / 32);
        const std::string name =
            std::string(verb) + (wide_indexes ? "_i32_" : "_u8_") + blob.kernel;
        const u32 blocks = (u32)(pass.warp_count + pass.warps_per_block - 1) /
                           (u32)pass.warps_per_block;
        return polycodec_emulate(name.c_str(), &pass, blocks, 1, THREADS, blob.shared,
                                 in.below(1 << 16));
    }
};

// The stream's bytes, chunk by chunk, as compact must write them.
std::vector<u16> body_of(const Stream &s) {
    std::vector<u16> out;
    for (u32 c = 0; c < s.chunks; ++c) {
        for (u32 k = 0; k < s.lanes; ++k) {
            const u32 state = s.states[c * s.lanes + k];
            out.push_back((u16)state), out.push_back((u16)(state >> 16));
        }
        out.insert(out.end(), s.words.begin() + s.word[c],
                   s.words.begin() + s.word_end[c]);
        out.insert(out.end(), s.side.begin() + s.side_next[c],
                   s.side.begin() + s.side_end[c]);
    }
    return out;
}

void check_survey(Source &in, const Tables &tables, const Blob &blob, OnDevice &device,
                  const Stream &s, bool ints) {
    std::vector<u16> costs(tables.costs.begin(), tables.costs.begin() + blob.view.rows);
    Found found = {0, 0, ~(u64)0};
    const Survey job = {ints ? (const void *)device.ints.data() : device.bytes.data(),
                        device.symbols.data(), blob.view, costs.data(), &found,
                        (i32)s.indexes.size()};
    REQUIRE(!polycodec_emulate(ints ? "survey_i32" : "survey_u8", &job, 1 + in.below(3), 1,
                               THREADS, sizeof found, in.below(1 << 16)));
    REQUIRE(found.bad == ~(u64)0 && found.escapes == (u64)s.side.size());
}

void check_encoder(Source &in, const Tables &tables, const Stream &s,
                   const std::vector<i32> &symbols, bool ints) {
    const Blob blob = encoder_blob(in, tables);
    OnDevice device;
    I64s begin(1, 0), end;
    for (u32 c = 1; c < s.chunks; ++c) begin.push_back(s.word_end[c - 1]);
    device.seat(s, begin, s.word_end, s.side_next, s.side_end, true);
    device.states.assign(s.states.size(), LOWER);
    device.words.assign((size_t)s.word_end.back(), 0xA5A5);
    device.side.resize(s.side.size());
    device.symbols = symbols;
    REQUIRE(!device.code(in, "encode", blob, s, ints));
    check_survey(in, tables, blob, device, s, ints);
    std::vector<i64> offsets(s.chunks + 1);
    Collect job = {device.chunks.data(), device.states.data(), device.words.data(),
                   device.side.data(), offsets.data(), 0, (i32)s.chunks};
    REQUIRE(!polycodec_emulate("measure", &job, 1, 1, THREADS, 8 * THREADS, 1));
    const std::vector<u16> wanted = body_of(s);
    REQUIRE(offsets.back() == (i64)wanted.size());
    std::vector<u16> out(wanted.size());
    job.out = out.data();
    REQUIRE(!polycodec_emulate("compact", &job, s.chunks, 1, THREADS, 0, 1));
    REQUIRE(out == wanted);
    for (const Chunk &chunk : device.chunks) REQUIRE(!chunk.status);
}

void check_decoder(Source &in, const Blob &blob, const Stream &s, const Outcome &wanted,
                   bool ints) {
    OnDevice device;
    device.seat(s, s.word, s.word_end, s.side_next, s.side_end, false);
    device.states = s.states, device.words = s.words, device.side = s.side;
    device.symbols.resize(s.indexes.size());
    REQUIRE(!device.code(in, "decode", blob, s, ints));
    if (wanted.report != FINE) {
        const u32 bits[] = {0, OUT_OF_WORDS, OUT_OF_ESCAPES, NO_SUCH_TABLE};
        const size_t chunk = (size_t)(wanted.report >> 3);
        for (size_t c = 0; c < chunk; ++c) REQUIRE(!device.chunks[c].status);
        REQUIRE(device.chunks[chunk].status & bits[wanted.report & 7]);
        return;
    }
    REQUIRE(device.symbols == wanted.symbols && device.states == wanted.states);
    for (u32 c = 0; c < s.chunks; ++c) {
        const Chunk &chunk = device.chunks[c];
        REQUIRE(!chunk.status && chunk.word == wanted.word[c]);
        REQUIRE(chunk.side == wanted.side_next[c]);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    Source in = {data, size, 0x9E3779B97F4A7C15ull ^ size};
    const bool at_end = in.below(2), ints = in.below(2);
    const Tables tables(in);
    const GuardedTables guarded(tables, 2, at_end);
    std::vector<i32> symbols;
    Stream stream = make_stream(in, tables, guarded.t, at_end, 0, symbols);
    check_encoder(in, tables, stream, symbols, ints);
    const Blob blob = decoder_blob(in, tables);
    for (int round = 0; round < 3; ++round) {
        const Outcome wanted = decode(guarded, stream, at_end, 0, ints);
        check_decoder(in, blob, stream, wanted, ints);
        damage(in, stream);
    }
    return 0;
}
