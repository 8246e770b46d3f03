// SPDX-License-Identifier: Apache-2.0
//
// A stream's chunks as the emulated CUDA kernels take them, and what must come of them.

#ifndef POLYCODEC_FUZZ_DEVICE_CASE_H
#define POLYCODEC_FUZZ_DEVICE_CASE_H

#include "prior_case.h"

// Names that kernels.h wants; only emulation.cpp runs them.
#define __shared__
static struct {
    unsigned x, y, z;
} threadIdx, blockIdx, blockDim, gridDim;
unsigned __ballot_sync(unsigned, bool);
int __popc(unsigned);
void __syncthreads();
void atomicAdd(unsigned long long *, unsigned long long);
void atomicMin(unsigned long long *, unsigned long long);
#include "device/priors.h"

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
    void align() { bytes.resize((bytes.size() + 15) / 16 * 16); }
    Quads quads() {
        align();
        Quads out(bytes.size() / 16);
        memcpy((void *)out.data(), bytes.data(), bytes.size());
        return out;
    }
};

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

    // The states, words and escapes of a stream that is encoded like `s`.
    void make_room(const Stream &s, const std::vector<i32> &values) {
        I64s begin(1, 0);
        for (u32 c = 1; c < s.chunks; ++c) begin.push_back(s.word_end[c - 1]);
        seat(s, begin, s.word_end, s.side_next, s.side_end, true);
        states.assign(s.states.size(), LOWER);
        words.assign((size_t)s.word_end.back(), 0xA5A5);
        side.resize(s.side.size());
        symbols = values;
    }

    void take(const Stream &s, size_t n) {
        seat(s, s.word, s.word_end, s.side_next, s.side_end, false);
        states = s.states, words = s.words, side = s.side;
        symbols.resize(n);
    }

    const Pass &fill(Source &in, const TableBlob &blob, size_t n) {
        pass.warps = warps.data(), pass.chunks = chunks.data();
        pass.states = states.data(), pass.words = words.data(), pass.side = side.data();
        pass.symbols = symbols.data(), pass.blob = blob;
        pass.n = (i32)n, pass.warp_count = (i32)warps.size();
        pass.warps_per_block = 1 + (i32)in.below(THREADS / 32);
        return pass;
    }

    int launch(Source &in, const std::string &name, const void *args, u32 shared) {
        const u32 blocks = (u32)(pass.warp_count + pass.warps_per_block - 1) /
                           (u32)pass.warps_per_block;
        return polycodec_emulate(name.c_str(), args, blocks, 1, THREADS, shared,
                                 in.below(1 << 16));
    }

    // What encoding has left, collected, is the stream.
    void check_bytes(const Stream &s);
    // As wanted; `bits`: of a chunk's status, by the host's report.
    void check(const Outcome &wanted, const u32 *bits, u32 others) const;
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

void OnDevice::check_bytes(const Stream &s) {
    std::vector<i64> offsets(s.chunks + 1);
    Collect job = {chunks.data(), states.data(), words.data(),
                   side.data(), offsets.data(), 0, (i32)s.chunks};
    REQUIRE(!polycodec_emulate("measure", &job, 1, 1, THREADS, 8 * THREADS, 1));
    const std::vector<u16> wanted = body_of(s);
    REQUIRE(offsets.back() == (i64)wanted.size());
    std::vector<u16> out(wanted.size());
    job.out = out.data();
    REQUIRE(!polycodec_emulate("compact", &job, s.chunks, 1, THREADS, 0, 1));
    REQUIRE(out == wanted);
    for (const Chunk &chunk : chunks) REQUIRE(!chunk.status);
}

void OnDevice::check(const Outcome &wanted, const u32 *bits, u32 others) const {
    if (wanted.report != FINE) {
        const size_t chunk = (size_t)(wanted.report >> 3);
        for (size_t c = 0; c < chunk; ++c) REQUIRE(!(chunks[c].status & ~others));
        REQUIRE(chunks[chunk].status & bits[wanted.report & 7]);
        return;
    }
    REQUIRE(symbols == wanted.symbols && states == wanted.states);
    for (size_t c = 0; c < chunks.size(); ++c) {
        REQUIRE(!(chunks[c].status & ~others) && chunks[c].word == wanted.word[c]);
        REQUIRE(chunks[c].side == wanted.side_next[c]);
    }
}

}  // namespace

#endif
