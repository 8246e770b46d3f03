// SPDX-License-Identifier: Apache-2.0
//
// The range coder on the host behind a plain C ABI, which library.py loads with ctypes:
// choice of kernels, threads, reports.
//
// Chunks are independent. A thread takes neighbouring ones, two at a time, through a
// kernel; the portable coder finishes what a kernel leaves.

#include "host.h"

#include <functional>
#include <system_error>
#include <thread>

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

using namespace rans;

namespace {

const i32 ABI = 5;  // abi.py has the same number; library.py refuses another one
const i32 MAX_THREADS = 64;

// The order of library.SIMD, on x86 or on AArch64.
enum Simd { SCALAR = 0, WITH_AVX2 = 1, WITH_AVX512 = 2, WITH_NEON = 1 };

i32 best_simd() {
#if RANS_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return SCALAR;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vbmi2") &&
        __builtin_cpu_supports("bmi2"))
        return WITH_AVX512;
    return WITH_AVX2;
#elif RANS_NEON
    return WITH_NEON;  // no AArch64 processor is without it
#else
    return SCALAR;
#endif
}

// The kernels for `simd`, but never more than the processor can do.
Kernels choose(i32 simd, i32 lanes) {
    Kernels none = {32, 0, 0, 0, 0, 0, 0, 0, 0, false};
#if RANS_X86
    const i32 best = best_simd();
    const Kernels &chosen = (simd < best ? simd : best) == WITH_AVX512 ? AVX512 : AVX2;
    if (simd >= WITH_AVX2 && best >= WITH_AVX2 && lanes >= chosen.least_lanes)
        return chosen;
#elif RANS_NEON
    if (simd >= WITH_NEON && lanes >= NEON.least_lanes) return NEON;
#endif
    (void)simd, (void)lanes;
    return none;
}

// The symbols [begin, end) of a pass that belong to a chunk.
Run run_of(i64 n, i64 chunk, i64 chunks, i64 lanes) {
    const i64 steps = (n + lanes - 1) / lanes;
    const i64 share = (steps + chunks - 1) / chunks * lanes;
    Run run;
    run.chunk = chunk;
    run.begin = share * chunk < n ? share * chunk : n;
    run.end = n - run.begin < share ? n : run.begin + share;
    return run;
}

struct Decode {
    DecodeJob job;
    Kernels kernels;

    const RansLanes &lanes() const { return *job.l; }
    i64 size() const { return job.n; }

    Status start(Run &) const { return FINE; }

    void advance(Run *runs, i32 count) const {
        const RansTables &t = *job.t;
        if (kernels.decode && (t.packed || t.wide || (t.folded && kernels.folded)))
            kernels.decode(job, runs, count);
    }

    Status finish(Run run) const { return finish_decode(job, run); }
};

struct Encode {
    EncodeJob job;
    Kernels kernels;

    const RansLanes &lanes() const { return *job.l; }
    i64 size() const { return job.n; }

    // The last step comes first. It may be partial, and kernels code whole steps only.
    Status start(Run &run) const {
        const i64 partial = (run.end - run.begin) % job.l->lanes;
        const Run last = {run.chunk, run.end - partial, run.end};
        run.end -= partial;
        return partial ? finish_encode(job, last) : FINE;
    }

    void advance(Run *runs, i32 count) const {
        if (kernels.encode) kernels.encode(job, runs, count);
    }

    Status finish(Run run) const { return finish_encode(job, run); }
};

struct DecodePrior {
    PriorJob job;
    Kernels kernels;

    const RansLanes &lanes() const { return *job.l; }
    i64 size() const { return job.p->n; }

    Status start(Run &) const { return FINE; }

    void advance(Run *runs, i32 count) const {
        if (kernels.decode_prior && job.p->kind == 0)
            kernels.decode_prior(job, runs, count);
    }

    Status finish(Run run) const { return finish_prior(job, run, kernels.find_value); }
};

// Code the chunks [begin, end) in order. A report has the status in its low 3 bits and
// the chunk's number above them.
template <class Work>
i64 code_chunks(const Work &work, i64 begin, i64 end) {
    const RansLanes &l = work.lanes();
    for (i64 chunk = begin; chunk < end; chunk += 2) {
        const i32 count = end - chunk >= 2 ? 2 : 1;
        Run runs[2];
        Status started[2];
        for (i32 k = 0; k < count; ++k) {
            runs[k] = run_of(work.size(), chunk + k, l.chunks, l.lanes);
            started[k] = work.start(runs[k]);
        }
        if (count == 2 && started[0] == FINE && started[1] == FINE) work.advance(runs, 2);
        for (i32 k = 0; k < count; ++k) {
            // The first chunk's error counts, on one thread as on many.
            if (started[k] == FINE) work.advance(runs + k, 1);
            const Status status = started[k] == FINE ? work.finish(runs[k]) : started[k];
            if (status != FINE) return ((chunk + k) << 3) | status;
        }
    }
    return FINE;
}

template <class Work>
struct Task {
    const Work *work;
    i64 begin, end, report;
    std::thread thread;

    void operator()() { report = code_chunks(*work, begin, end); }
};

// How many chunks have symbols of a pass: a stream may have more chunks than those.
i64 chunks_with_symbols(i64 n, const RansLanes &l) {
    const i64 steps = (n + l.lanes - 1) / l.lanes;
    const i64 share = (steps + l.chunks - 1) / l.chunks;
    return share ? (steps + share - 1) / share : 0;
}

// Code all chunks on `threads` threads, this one included. Threads live for one call:
// starting one takes about 10 us, and a later fork finds none.
template <class Work>
i64 code_all(const Work &work, i32 threads) {
    const i64 chunks = chunks_with_symbols(work.size(), work.lanes());
    i64 number = threads < MAX_THREADS ? threads : MAX_THREADS;
    if (number > chunks) number = chunks;
    if (number <= 1) return code_chunks(work, 0, chunks);
    Task<Work> tasks[MAX_THREADS];
    for (i64 k = 0; k < number; ++k) {
        tasks[k].work = &work;
        tasks[k].begin = chunks * k / number;
        tasks[k].end = chunks * (k + 1) / number;
    }
    for (i64 k = 1; k < number; ++k) {
        try {
            tasks[k].thread = std::thread(std::ref(tasks[k]));
        } catch (const std::system_error &) {
            tasks[k]();  // the system has no more threads
        }
    }
    tasks[0]();
    i64 report = FINE;
    for (i64 k = number; k-- > 0;) {
        if (tasks[k].thread.joinable()) tasks[k].thread.join();
        if (tasks[k].report != FINE) report = tasks[k].report;  // the first one's stays
    }
    return report;
}

// Rows that do not exist cost nothing.
template <class Row>
u64 sum_costs(const RansTables &t, const Row *rows, i64 begin, i64 n) {
    const u32 end = t.first[t.count];
    const u16 *costs = t.costs;
    u64 sum = 0;
    for (i64 i = begin; i < n; ++i) sum += rows[i] < end ? costs[rows[i]] : 0;
    return sum;
}

bool sane(const RansTables *t, const RansLanes *l, i64 n) {
    return t && l && n >= 0 && t->precision >= 8 && t->precision <= 15 &&
           t->count >= 1 && l->chunks >= 1 && l->lanes >= 1 && l->lanes <= 32 &&
           !(l->lanes & (l->lanes - 1));
}

bool sane(const RansPrior *p) {
    if (!p || p->n < 0 || p->size < 1) return false;
    if (p->kind == 1) return p->size <= (i32)MAX_VALUES;
    return p->kind == 0 && p->size <= (i32)MAX_COMPONENTS && p->count >= 1;
}

// All rows of a pass; -1, or the first symbol that cannot be coded.
i64 all_rows(RowsJob &job, i64 n, i32 simd) {
    const Kernels kernels = choose(simd, 32);
    const bool able = kernels.rows && job.t->range;
    i64 bad = -1;
    for (i64 i = 0; i < n && bad < 0;) {
        i64 end = n;
        if (able) {
            i = kernels.rows(job, i, n);
            // It stopped at a group with an escape: let it go on after that group.
            end = n - i < 16 ? n : i + 16;
        }
        bad = finish_rows(job, i, end);
        i = end;
    }
    return bad;
}

}  // namespace

API i32 polycodec_abi(void) { return ABI; }

// Sizes of the structures that abi.py mirrors, in the order of its list; -1 at the end.
API i32 polycodec_sizeof(i32 which) {
    const size_t sizes[] = {sizeof(RansTables), sizeof(RansLanes), sizeof(RansPrior),
                            sizeof(EncodeRow), sizeof(Scale)};
    return which >= 0 && which < 5 ? (i32)sizes[which] : -1;
}

// The best that this processor can do: 0 portable code only; 1 AVX2, 2 AVX-512; 1 NEON.
API i32 polycodec_simd(void) { return best_simd(); }

// Find the row of each symbol in its table, and the escapes' places. Returns -1, or the
// position of the first symbol that cannot be coded.
API i64 polycodec_rows(const RansTables *t,
                       const i32 *symbols,   // (n)
                       const void *indexes,  // (n) u8 or i32
                       i32 index_bytes,      // 1 or 4
                       i64 n, i32 simd,
                       void *rows,           // (n) u16 or u32 out
                       i32 row_bytes,        // 2, if the set has 2^16 rows at most, or 4
                       i64 *escapes,         // (room)
                       i64 room,
                       i64 *escaped) {       // how many, also beyond the room
    RowsJob job = {t, symbols, indexes, index_bytes, rows, row_bytes, escapes, room, 0};
    const i64 bad = all_rows(job, n, simd);
    *escaped = job.escaped;
    return bad;
}

// The cost of rows in 1/256 bit.
API u64 polycodec_cost(const RansTables *t,
                       const void *rows,  // (n) from polycodec_rows
                       i32 row_bytes, i64 n, i32 simd) {
    const EncodeJob job = {t, 0, rows, row_bytes, n};
    const Kernels kernels = choose(simd, 32);
    u64 cost = 0;
    const i64 begin = kernels.cost ? kernels.cost(job, cost) : 0;
    return cost + (row_bytes == 2 ? sum_costs(*t, (const u16 *)rows, begin, n)
                                  : sum_costs(*t, (const u32 *)rows, begin, n));
}

// Encode one pass; the passes come last one first. Returns a report.
API i64 polycodec_encode_pass(const RansTables *t,
                              const void *rows,  // (n) from polycodec_rows
                              i32 row_bytes, i64 n,
                              const RansLanes *l, i32 simd, i32 threads) {
    if (!sane(t, l, n) || (row_bytes != 2 && row_bytes != 4)) return BAD_CALL;
    const Encode work = {{t, l, rows, row_bytes, n}, choose(simd, l->lanes)};
    return code_all(work, threads);
}

// Decode the next pass. Returns a report.
API i64 polycodec_decode_pass(const RansTables *t,
                              const void *indexes,  // (n) u8 or i32
                              i32 index_bytes,      // 1 or 4
                              i64 n,
                              const RansLanes *l, i32 simd, i32 threads,
                              i32 *symbols) {       // (n) out
    if (!sane(t, l, n)) return BAD_CALL;
    const Decode work = {{t, l, indexes, index_bytes, n, symbols}, choose(simd, l->lanes)};
    return code_all(work, threads);
}

// Find a prior's entry for each symbol, their cost in 1/256 bit, and the escapes' places.
// Returns -1, or the position of the first symbol that cannot be coded: 0, if the call
// itself is bad.
API i64 polycodec_prior_rows(const RansPrior *p,
                             const i32 *symbols,  // (p->n)
                             i32 simd,
                             EncodeRow *rows,     // (p->n)
                             u64 *cost,
                             i64 *escapes,        // (room)
                             i64 room,
                             i64 *escaped) {
    if (!sane(p)) return 0;
    const Kernels kernels = choose(simd, 32);
    PriorRowsJob job = {p, symbols, rows, 0, escapes, room, 0};
    i64 bad = -1;
    for (i64 i = 0; i < p->n && bad < 0;) {
        i64 end = p->n;
        if (kernels.prior_rows && p->kind == 0) {
            i = kernels.prior_rows(job, i, end);
            end = end - i < 16 ? end : i + 16;  // these hold what stopped it
        }
        bad = finish_prior_rows(job, i, end, kernels.entry_of_value);
        i = end;
    }
    *cost = job.cost;
    *escaped = job.escaped;
    return bad;
}

// Decode the next pass, p->n symbols. Returns a report.
API i64 polycodec_decode_prior(const RansPrior *p, const RansLanes *l, i32 simd,
                               i32 threads, i32 *symbols) {  // (p->n) out
    RansTables any = RansTables();
    any.precision = (i32)PRIOR_PRECISION, any.count = 1;
    if (!sane(p) || !sane(&any, l, p->n)) return BAD_CALL;
    Kernels kernels = choose(simd, l->lanes);
    kernels.find_value = choose(simd, 32).find_value;  // it does one symbol at a time
    const DecodePrior work = {{p, l, symbols}, kernels};
    return code_all(work, threads);
}
