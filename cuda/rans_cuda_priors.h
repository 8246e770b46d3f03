// SPDX-License-Identifier: Apache-2.0
//
// Passes with priors on a device: rans_priors.h for each thread's own symbol.
//
//   decode    symbol's parameters -> window or sum -> search -> one step of the lanes
//   encode    the same, two edges instead of a search
//   survey    costs, escapes, what cannot be coded, parameters that make no distribution
//
// What all symbols share (PHI and scales, or POWERS) lies in shared memory; a symbol's
// own parameters are read where they are needed. Structures are mirrored in
// device_layouts.py.

#ifndef POLYCODEC_RANS_CUDA_PRIORS_H
#define POLYCODEC_RANS_CUDA_PRIORS_H

#include "rans_cuda.h"
#include "rans_priors.h"

namespace rans {

const u32 NO_VALUE = 0x80000000u;  // in place of a value: it is an escape

// Parameters of (batch, n) symbols; those of the other kind are null.
struct PriorParts {
    const i32 *means;    // (batch, size, n)
    const u8 *bins;      // (batch, size, n)
    const i16 *weights;  // (batch, size, n)
    const i16 *logits;   // (batch, n, size)
    u32 size;            // components, or values
    u32 unused;
};

// The blob is PHI, padded to 16 bytes, and the scales, or POWERS; its `tables` counts
// the scales.
struct PriorPass {
    Pass pass;
    PriorParts parts;
};

struct PriorSurvey {
    const i32 *symbols;  // (batch, n)
    TableBlob blob;
    PriorParts parts;
    Found *found;        // (batch)
    i32 n;
};

// A stream's mixtures.
struct Mixtures {
    static const bool ESCAPES = true;
    const i32 *means;
    const u8 *bins;
    const i16 *weights;
    const u16 *phi;
    const Scale *scales;
    u32 size, count;
    i64 n;

    RANS_FN Mixtures(const TableBlob &blob, const u32 *near, const PriorParts &parts,
                     i64 all, i64 stream) {
        const i64 first = stream * parts.size * all;
        means = parts.means + first;
        bins = parts.bins + first;
        weights = parts.weights + first;
        phi = (const u16 *)near;
        scales = (const Scale *)(near + ((2 * Z_LIMIT + 1) * 2 + 15) / 16 * 4);
        size = parts.size;
        count = blob.tables;
        n = all;
    }

    RANS_FN Mixture<MAX_COMPONENTS> own(i64 i, bool &fine) const {
        Mixture<MAX_COMPONENTS> mixture(phi, size);
        u32 sum = 0;
#pragma unroll
        for (u32 j = 0; j < MAX_COMPONENTS; ++j) {
            if (j >= size) continue;
            const i64 at = n * j + i;
            const i32 mean = means[at];
            const u32 bin = bins[at];
            const i32 weight = weights[at];
            fine = fine && bin < count && mean >= -MEAN_LIMIT && mean <= MEAN_LIMIT &&
                   weight >= 0;
            sum += (u32)weight;
            mixture.add(j, mean, scales[bin < count ? bin : 0], (u32)weight);
        }
        fine = fine && sum == 256;
        mixture.close();
        return mixture;
    }

    RANS_FN Slot find(i64 i, u32 r, bool &fine) const {
        const Mixture<MAX_COMPONENTS> mixture = own(i, fine);
        Slot slot = mixture.find(r);
        slot.number = slot.number ? (u32)mixture.first + slot.number - 1 : NO_VALUE;
        return slot;
    }

    // False: it cannot be coded.
    RANS_FN bool entry(i64 i, i32 value, EncodeRow &row, bool &escaped, bool &fine) const {
        const Mixture<MAX_COMPONENTS> mixture = own(i, fine);
        const u32 k = mixture.slot_of(value);
        escaped = k == 0;
        row = mixture.entry(k);
        return value == (i16)value;
    }
};

// A stream's categorical distributions.
struct Categoricals {
    static const bool ESCAPES = false;
    const i16 *logits;
    const u32 *powers;
    u32 size;

    RANS_FN Categoricals(const TableBlob &, const u32 *near, const PriorParts &parts,
                         i64 all, i64 stream) {
        logits = parts.logits + stream * all * parts.size;
        powers = near;
        size = parts.size;
    }

    RANS_FN Slot find(i64 i, u32 r, bool &) const {
        return Categorical(logits + i * size, size, powers).find(r);
    }

    RANS_FN bool entry(i64 i, i32 value, EncodeRow &row, bool &escaped, bool &) const {
        escaped = false;
        const bool has = (u32)value < size;
        row = Categorical(logits + i * size, size, powers).entry(has ? (u32)value : 0);
        return has;
    }
};

// One thread's symbol as a step's table (rans_core.h).
template <class Kind>
struct OwnSymbol {
    const Kind &kind;
    i64 i;
    bool *fine;

    RANS_FN Slot find(u32, u32 r, u32) const { return kind.find(i, r, *fine); }
};

template <class Kind>
RANS_FN void decode_prior(const PriorPass &job) {
    const Pass &pass = job.pass;
    const u32 *near = load_tables<true>(pass.blob);
    u32 warp;
    if (!has_work(pass, warp)) return;
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    const Chunk &chunk = *seat.chunk;
    const Kind kind(pass.blob, near, job.parts, pass.n, chunk.stream);
    const i64 from = seat.begin - (i64)pass.n * chunk.stream;
    i32 *symbols = pass.symbols + seat.begin;
    const i16 *values = pass.side + chunk.side_begin;
    i32 side = (i32)(chunk.side - chunk.side_begin);
    const i32 side_end = (i32)(chunk.side_end - chunk.side_begin);
    WordsUp words = {pass.words + chunk.word_begin,
                     (i32)(chunk.word - chunk.word_begin),
                     (i32)(chunk.word_end - chunk.word_begin),
                     group, chunk.mini != 0, false};
    u32 x = pass.states[chunk.state + seat.lane], status = 0;
    bool fine = true;
    const u32 lane = 0;

    for (i32 step = 0; step < seat.steps; ++step) {
        const i32 i = seat.place(step);
        const bool on = i < seat.count;
        const OwnSymbol<Kind> table = {kind, from + i, &fine};
        u32 number = 0;
        decode_step<OneLane>(table, PRIOR_PRECISION, &lane, on, &x, &number, words);
        i32 symbol = (i32)number;
        if (Kind::ESCAPES) {
            const bool escaped = on && number == NO_VALUE;
            const Vote vote(group, escaped);
            if (escaped) {
                if (side + vote.rank < side_end)
                    symbol = values[side + vote.rank];
                else
                    status |= OUT_OF_ESCAPES;
            }
            side = least(side + vote.count, side_end);
        }
        if (on) symbols[i] = symbol;
    }
    if (words.ran_out) status |= OUT_OF_WORDS;
    if (!fine) status |= NO_DISTRIBUTION;
    leave(pass, seat, group, x, words.at, side, status);
}

template <class Kind>
RANS_FN void encode_prior(const PriorPass &job) {
    const Pass &pass = job.pass;
    const u32 *near = load_tables<true>(pass.blob);
    u32 warp;
    if (!has_work(pass, warp)) return;
    const Seat seat(pass, warp);
    const Group group(seat.lanes);
    const Chunk &chunk = *seat.chunk;
    const Kind kind(pass.blob, near, job.parts, pass.n, chunk.stream);
    const i64 from = seat.begin - (i64)pass.n * chunk.stream;
    const i32 *symbols = pass.symbols + seat.begin;
    i16 *values = pass.side + chunk.side_begin;
    i32 side = (i32)(chunk.side - chunk.side_begin);
    WordsDown words = {pass.words + chunk.word_begin,
                       (i32)(chunk.word - chunk.word_begin), group, false};
    u32 x = pass.states[chunk.state + seat.lane], status = 0;
    bool fine = true;
    const u32 lane = 0;

    for (i32 step = seat.steps - 1; step >= 0; --step) {
        const i32 i = seat.place(step);
        const bool on = seat.has(i);
        const i32 symbol = on ? symbols[i] : 0;
        EncodeRow row = EncodeRow();
        bool outside = false;
        if (on) kind.entry(from + i, symbol, row, outside, fine);
        encode_step<OneLane>(&row, PRIOR_PRECISION, &lane, on, &x, words);
        if (Kind::ESCAPES) {
            const Vote vote(group, outside);
            const i32 place = side - vote.count + vote.rank;
            if (outside) {
                if (place >= 0)
                    values[place] = (i16)symbol;
                else
                    status |= OUT_OF_ESCAPES;
            }
            side -= least(vote.count, side);
        }
    }
    if (words.ran_out) status |= OUT_OF_WORDS;
    if (!fine) status |= NO_DISTRIBUTION;
    leave(pass, seat, group, x, words.at, side, status);
}

template <class Kind>
RANS_FN void survey_prior(const PriorSurvey &job) {
    const Kind kind(job.blob, job.blob.data, job.parts, job.n, blockIdx.y);
    const i32 *symbols = job.symbols + (i64)job.n * blockIdx.y;
    Findings own;
    const i64 stride = (i64)gridDim.x * blockDim.x;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < job.n; i += stride) {
        EncodeRow row;
        bool escaped, fine = true;
        fine = kind.entry(i, symbols[i], row, escaped, fine) && fine;
        own.add(i, estimate(row.freq) + (escaped ? 16 << 8 : 0), escaped, fine);
    }
    own.tell(job.found[blockIdx.y]);
}

}  // namespace rans

#endif
