// SPDX-License-Identifier: Apache-2.0
//
// Priors as the distributions of a pass (pass.h): each thread computes that of its own
// symbol (cuda/priors/priors.h), whose index is its place.
//
//   decode    symbol's parameters -> window or sum -> search
//   encode    the same, two edges instead of a search
//   survey    costs, escapes, what cannot be coded, what is no distribution
//
// What all symbols use (PHI and scales, or POWERS) is in shared memory; a symbol's own
// parameters are read where they are needed. cuda/device/layouts.py mirrors the
// structures.

#ifndef POLYCODEC_RANS_CUDA_PRIORS_H
#define POLYCODEC_RANS_CUDA_PRIORS_H

#include "pass.h"
#include "../priors/priors.h"

namespace rans {

// Parameters of (batch, n) symbols; the pointers of the other kind are null.
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

RANS_FN const Pass &pass_of(const PriorPass &job) { return job.pass; }

// What mixtures and categorical distributions share.
struct OwnDistributions {
    typedef PriorPass Job;
    static const i32 AHEAD = 1;
    static const bool SHARED = true, ALWAYS = false;
    static const u32 ESCAPE = 0x80000000u;  // stands for the value of an escape
    mutable u32 status;  // decode_step() takes its tables as const

    RANS_FN OwnDistributions() : status(0) {}

    RANS_FN u32 precision() const { return PRIOR_PRECISION; }
    RANS_FN u32 index(i32 i) const { return (u32)i; }
    RANS_FN u32 check(u32 i) const { return i; }
    RANS_FN i32 value(u32, u32 number) const { return (i32)number; }
};

// The mixtures of a stream's symbols from `first` on.
struct Mixtures : OwnDistributions {
    const i32 *means;
    const u8 *bins;
    const i16 *weights;
    const u16 *phi;
    const Scale *scales;
    u32 size, count;
    i64 n;

    RANS_FN Mixtures(const TableBlob &blob, const u32 *near, const PriorParts &parts,
                     i64 all, i64 stream, i64 first) {
        const i64 begin = stream * parts.size * all + first;
        means = parts.means + begin;
        bins = parts.bins + begin;
        weights = parts.weights + begin;
        phi = (const u16 *)near;
        scales = (const Scale *)(near + ((2 * Z_LIMIT + 1) * 2 + 15) / 16 * 4);
        size = parts.size;
        count = blob.tables;
        n = all;
    }

    RANS_FN Mixtures(const PriorPass &job, const u32 *near, const Seat &seat)
        : Mixtures(job.pass.blob, near, job.parts, job.pass.n, seat.chunk->stream,
                   seat.first) {}

    RANS_FN bool has_escapes() const { return true; }

    RANS_FN Mixture<MAX_COMPONENTS> own(i64 i) const {
        Mixture<MAX_COMPONENTS> mixture(phi, size);
        bool fine = true;
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
        if (!fine || sum != 256) status |= NO_DISTRIBUTION;
        mixture.close();
        return mixture;
    }

    RANS_FN Slot find(u32 i, u32 r, u32) const {
        const Mixture<MAX_COMPONENTS> mixture = own(i);
        Slot slot = mixture.find(r);
        slot.number = slot.number ? (u32)mixture.first + slot.number - 1 : ESCAPE;
        return slot;
    }

    RANS_FN EncodeRow entry(i64 i, i32 value, bool &escaped) const {
        const Mixture<MAX_COMPONENTS> mixture = own(i);
        const u32 k = mixture.slot_of(value);
        escaped = k == 0;
        // Without a distribution a slot may be empty, and must not be divided by.
        return status ? EncodeRow() : mixture.entry(k);
    }

    RANS_FN bool can_code(i32 value) const { return value == (i16)value; }
};

// The categorical distributions of a stream's symbols from `first` on.
struct Categoricals : OwnDistributions {
    const i16 *logits;
    const u32 *powers;
    u32 size;

    RANS_FN Categoricals(const TableBlob &, const u32 *near, const PriorParts &parts,
                         i64 all, i64 stream, i64 first) {
        logits = parts.logits + (stream * all + first) * parts.size;
        powers = near;
        size = parts.size;
    }

    RANS_FN Categoricals(const PriorPass &job, const u32 *near, const Seat &seat)
        : Categoricals(job.pass.blob, near, job.parts, job.pass.n, seat.chunk->stream,
                       seat.first) {}

    RANS_FN bool has_escapes() const { return false; }

    RANS_FN Categorical own(i64 i) const {
        return Categorical(logits + i * size, size, powers);
    }

    RANS_FN Slot find(u32 i, u32 r, u32) const { return own(i).find(r); }

    RANS_FN EncodeRow entry(i64 i, i32 value, bool &) const {
        return own(i).entry(can_code(value) ? (u32)value : 0);
    }

    RANS_FN bool can_code(i32 value) const { return (u32)value < size; }
};

template <class Kind>
struct PriorCosts {
    typedef PriorSurvey Job;
    Kind kind;

    RANS_FN PriorCosts(const PriorSurvey &job, u32 stream)
        : kind(job.blob, job.blob.data, job.parts, job.n, stream, 0) {}

    RANS_FN bool price(i64 i, i32 symbol, u32 &bits, bool &escaped) const {
        kind.status = 0;
        const EncodeRow row = kind.entry(i, symbol, escaped);
        if (kind.status || !kind.can_code(symbol)) return false;
        bits = estimate(row.freq) + (escaped ? 16 << 8 : 0);
        return true;
    }
};

typedef PriorCosts<Mixtures> MixtureCosts;
typedef PriorCosts<Categoricals> CategoricalCosts;

}  // namespace rans

#endif
