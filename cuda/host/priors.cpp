// SPDX-License-Identifier: Apache-2.0
//
// Priors in portable code: for every lane count, and for what the kernels leave.
//
// A slot's number is its value here, or NO_VALUE for an escape, since each distribution
// has values of its own.

#include "portable.h"

namespace rans {
namespace {

template <u32 K>
RANS_FN Mixture<K> mixture_at(const RansPrior &p, i64 at) {
    Mixture<K> mixture(p.phi, K);
    for (u32 j = 0; j < K; ++j) {
        const i64 k = p.n * j + at;
        mixture.add(j, p.means[k], p.scales[p.bins[k]], (u32)p.weights[k]);
    }
    mixture.close();
    return mixture;
}

bool bins_fit(const RansPrior &p, i64 begin, i64 end) {
    u32 largest = 0;
    for (i64 j = 0; j < p.size; ++j)
        for (i64 i = p.n * j + begin; i < p.n * j + end; ++i)
            largest = larger(largest, (u32)p.bins[i]);
    return begin >= end || largest < (u32)p.count;
}

// The tables of a step (core.h): the index of a lane's table is the lane itself.
template <u32 K>
struct Mixtures {
    const RansPrior &p;
    i64 i;  // where the step begins

    RANS_FN Slot find(u32 lane, u32 r, u32) const {
        const Mixture<K> mixture = mixture_at<K>(p, i + lane);
        Slot slot = mixture.find(r);
        slot.number = slot.number ? (u32)mixture.first + slot.number - 1 : NO_VALUE;
        return slot;
    }
};

struct Categoricals {
    const RansPrior &p;
    i64 i;
    FindValue fast;

    RANS_FN Slot find(u32 lane, u32 r, u32) const {
        if (fast) return fast(p, i + lane, r);
        const Categorical own(p.logits + (i + lane) * p.size, (u32)p.size, p.powers);
        return own.find(r);
    }
};

// What decode_run asks for; a lane's index is the lane itself, and slots are values.
template <u32 N, class Tables>
struct Own {
    Tables tables;
    u32 lane[N];

    explicit Own(const Tables &from) : tables(from) {
        for (u32 k = 0; k < N; ++k) lane[k] = k;
    }
    const u32 *at(i64 i) {
        tables.i = i;
        return lane;
    }
    i32 value(const u32 *, u32, u32 number) const { return (i32)number; }
};

template <u32 N, class Tables>
Status decode_with(const PriorJob &job, const Tables &tables, Run run) {
    return decode_run<N, PRIOR_PRECISION>(*job.l, Own<N, Tables>(tables), 0, NO_VALUE,
                                          job.symbols, run);
}

#define FOR_COMPONENTS(count, call) \
    switch (count) {                \
        case 1: return call(1);     \
        case 2: return call(2);     \
        case 3: return call(3);     \
        default: return call(4);    \
    }

template <u32 N>
Status decode_lanes(const PriorJob &job, Run run, FindValue find) {
    if (job.p->kind == 1) {
        const Categoricals tables = {*job.p, 0, find};
        return decode_with<N>(job, tables, run);
    }
#define WITH_COMPONENTS(K) decode_with<N>(job, Mixtures<K>{*job.p, 0}, run)
    FOR_COMPONENTS(job.p->size, WITH_COMPONENTS)
}

template <u32 K>
i64 mixture_rows(PriorRowsJob &job, i64 begin, i64 end) {
    const RansPrior &p = *job.p;
    for (i64 i = begin; i < end; ++i) {
        if (job.symbols[i] != (i16)job.symbols[i] || !bins_fit(p, i, i + 1)) return i;
        const Mixture<K> mixture = mixture_at<K>(p, i);
        const u32 k = mixture.slot_of(job.symbols[i]);
        job.rows[i] = mixture.entry(k);
        job.cost += estimate(job.rows[i].freq);
        if (k) continue;
        job.cost += 16 << 8;
        if (job.escaped < job.room) job.escapes[job.escaped] = i;
        ++job.escaped;
    }
    return -1;
}

i64 categorical_rows(PriorRowsJob &job, i64 begin, i64 end, EntryOfValue fast) {
    const RansPrior &p = *job.p;
    for (i64 i = begin; i < end; ++i) {
        const u32 value = (u32)job.symbols[i];
        if (value >= (u32)p.size) return i;
        if (fast) {
            job.rows[i] = fast(p, i, value);
        } else {
            const Categorical own(p.logits + i * p.size, (u32)p.size, p.powers);
            job.rows[i] = own.entry(value);
        }
        job.cost += estimate(job.rows[i].freq);
    }
    return -1;
}

}  // namespace

Status finish_prior(const PriorJob &job, Run run, FindValue find) {
    if (job.p->kind == 0 && !bins_fit(*job.p, run.begin, run.end)) return BAD_INDEX;
#define WITH_PRIOR(N) decode_lanes<N>(job, run, find)
    FOR_LANES(job.l->lanes, WITH_PRIOR)
}

i64 finish_prior_rows(PriorRowsJob &job, i64 begin, i64 end, EntryOfValue entry) {
    if (job.p->kind == 1) return categorical_rows(job, begin, end, entry);
#define ROWS_OF(K) mixture_rows<K>(job, begin, end)
    FOR_COMPONENTS(job.p->size, ROWS_OF)
}

}  // namespace rans
