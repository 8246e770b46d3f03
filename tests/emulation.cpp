// SPDX-License-Identifier: Apache-2.0
//
// The CUDA kernels on a host without a GPU: the very source, its threads as fibers.
//
//   a fiber runs until it votes or waits; when all of a warp have voted (of a block,
//   wait), all go on. Who runs first changes from round to round, by a seed.
//
// So everything is checked but the device's memory model and its compiler. A vote that
// some thread of the warp never joins, or a barrier, is found as a deadlock. Slow, and
// meant for tests: emulation.py compiles and loads it. POSIX only (ucontext).

#undef _FORTIFY_SOURCE  // its longjmp takes a change of stacks for an attack
#include <setjmp.h>
#include <ucontext.h>

#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
// AddressSanitizer must know which stack is in use.
#define LEAVE_FOR(keep, bottom, size) __sanitizer_start_switch_fiber(keep, bottom, size)
#define ARRIVE(keep, bottom, size) __sanitizer_finish_switch_fiber(keep, bottom, size)
#define FORBID(at, size) ASAN_POISON_MEMORY_REGION(at, size)
#define ALLOW(at, size) ASAN_UNPOISON_MEMORY_REGION(at, size)
#else
#define LEAVE_FOR(keep, bottom, size) (void)0
#define ARRIVE(keep, bottom, size) (void)0
#define FORBID(at, size) (void)0
#define ALLOW(at, size) (void)0
#endif

namespace {

struct Place {
    unsigned x, y, z;
};
Place threadIdx, blockIdx, blockDim, gridDim;

const unsigned MAX_BLOCK = 1024, STACK = 1 << 16;
const unsigned SHARED = 228 << 10;  // bytes that the largest devices have

enum State { READY, VOTING, WAITING, DONE };
enum Outcome { FINE = 0, NO_SUCH_KERNEL = 1, DEADLOCK = 2, BAD_LAUNCH = 3 };

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool begun;
    void *frames;  // AddressSanitizer's
    State state;
    unsigned mask, votes;
    bool yes;
};

Fiber fibers[MAX_BLOCK];
std::vector<char> stacks;
ucontext_t home;
jmp_buf scheduler;
unsigned current;
void (*body)();
const void *home_stack;
size_t home_size;
void *home_frames;

// Not inlined: a jump must not find its caller's variables in registers.
__attribute__((noinline)) void pause(State state) {
    Fiber &own = fibers[current];
    own.state = state;
    if (!_setjmp(own.place)) {
        LEAVE_FOR(&own.frames, home_stack, home_size);
        _longjmp(scheduler, 1);
    }
    ARRIVE(fibers[current].frames, &home_stack, &home_size);
}

void begin() {
    ARRIVE(nullptr, &home_stack, &home_size);
    body();
    fibers[current].state = DONE;
    LEAVE_FOR(nullptr, home_stack, home_size);
    _longjmp(scheduler, 1);
}

__attribute__((noinline)) void resume(unsigned thread) {
    current = thread;
    threadIdx.x = thread;
    Fiber &fiber = fibers[thread];
    if (_setjmp(scheduler)) {
        ARRIVE(home_frames, nullptr, nullptr);
        return;
    }
    LEAVE_FOR(&home_frames, fiber.context.uc_stack.ss_sp, STACK);
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

unsigned __ballot_sync(unsigned mask, bool yes) {
    const unsigned own = current;
    fibers[own].mask = mask;
    fibers[own].yes = yes;
    pause(VOTING);
    return fibers[own].votes;
}

void __syncthreads() { pause(WAITING); }
int __popc(unsigned value) { return __builtin_popcount(value); }

template <class T>
void atomicAdd(T *at, T value) {
    *at += value;
}

template <class T>
void atomicMin(T *at, T value) {
    if (value < *at) *at = value;
}

template <class T>
void atomicXor(T *at, T value) {
    *at ^= value;
}

}  // namespace

#define __global__
#define __shared__
#define __launch_bounds__(...)
#include "device/kernels.cu"

namespace rans {
Quad shared_memory[SHARED / sizeof(Quad)];
}

namespace {

// All threads that the votes' masks name must have voted, with the same mask.
bool count_votes(unsigned warp, unsigned threads) {
    Fiber *own = fibers + 32 * warp;
    const unsigned size = threads - 32 * warp < 32 ? threads - 32 * warp : 32;
    bool any = false;
    for (unsigned k = 0; k < size; ++k) {
        if (own[k].state != VOTING) continue;
        const unsigned mask = own[k].mask;
        unsigned votes = 0;
        bool all = true;
        for (unsigned j = 0; j < 32; ++j) {
            if (!(mask >> j & 1)) continue;
            all = all && j < size && own[j].state == VOTING && own[j].mask == mask;
            if (all && own[j].yes) votes |= 1u << j;
        }
        if (!all) continue;
        for (unsigned j = 0; j < size; ++j) {
            if (!(mask >> j & 1)) continue;
            own[j].votes = votes;
            own[j].state = READY;
        }
        any = true;
    }
    return any;
}

bool open_barrier(unsigned threads) {
    bool any = false;
    for (unsigned k = 0; k < threads; ++k) {
        if (fibers[k].state == DONE) continue;
        if (fibers[k].state != WAITING) return false;
        any = true;
    }
    for (unsigned k = 0; k < threads && any; ++k)
        if (fibers[k].state == WAITING) fibers[k].state = READY;
    return any;
}

Outcome run_block(unsigned threads, unsigned &random) {
    for (unsigned k = 0; k < threads; ++k) {
        Fiber &fiber = fibers[k];
        fiber.begun = false;
        fiber.state = READY;
        fiber.context = home;
        fiber.context.uc_stack.ss_sp = stacks.data() + (size_t)k * STACK;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = 0;
        makecontext(&fiber.context, begin, 0);
    }
    for (;;) {
        random = random * 1664525u + 1013904223u;
        const unsigned start = random >> 16, stride = (random >> 8) | 1;
        unsigned ran = 0, done = 0;
        // `threads` is a power of two: an odd stride meets each of them once.
        for (unsigned k = 0; k < threads; ++k) {
            const unsigned thread = (start + k * stride) & (threads - 1);
            if (fibers[thread].state == READY) resume(thread), ++ran;
        }
        bool moved = false;
        for (unsigned w = 0; w * 32 < threads; ++w) moved |= count_votes(w, threads);
        moved |= open_barrier(threads);
        for (unsigned k = 0; k < threads; ++k) done += fibers[k].state == DONE;
        if (done == threads) return FINE;
        if (!ran && !moved) return DEADLOCK;
    }
}

rans::Pass pass;
rans::Survey survey_job;
rans::Collect collect;
rans::Checksum checksum_job;
rans::PriorPass prior_pass;
rans::PriorSurvey prior_survey;

struct Kernel {
    const char *name;
    void (*body)();
    void *args;
    size_t bytes;
};

#define OF(job, name) {#name, [] { ::name(job); }, &job, sizeof(job)}
const Kernel KERNELS[] = {
    OF(pass, decode_u8_near), OF(pass, decode_i32_near), OF(pass, decode_u8_large),
    OF(pass, decode_i32_large), OF(pass, decode_u8_far), OF(pass, decode_i32_far),
    OF(pass, encode_u8_near), OF(pass, encode_i32_near), OF(pass, encode_u8_far),
    OF(pass, encode_i32_far), OF(survey_job, survey_u8), OF(survey_job, survey_i32),
    OF(checksum_job, checksum), OF(collect, measure), OF(collect, compact),
    OF(prior_pass, decode_mixture), OF(prior_pass, decode_categorical),
    OF(prior_pass, encode_mixture), OF(prior_pass, encode_categorical),
    OF(prior_survey, survey_mixture), OF(prior_survey, survey_categorical),
};

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

// Sizes that device/layouts.py must agree with.
API int polycodec_emulated_sizeof(int which) {
    const size_t sizes[] = {sizeof(rans::Chunk),  sizeof(rans::WarpChunks),
                            sizeof(rans::Pass),   sizeof(rans::Found),
                            sizeof(rans::Survey), sizeof(rans::Collect),
                            sizeof(rans::Checksum), sizeof(rans::PriorPass),
                            sizeof(rans::PriorSurvey)};
    return which >= 0 && which < 9 ? (int)sizes[which] : -1;
}

// Run one launch to its end. Not reentrant: one launch at a time in a process.
API int polycodec_emulate(const char *name, const void *args, unsigned grid_x,
                          unsigned grid_y, unsigned threads, unsigned shared,
                          unsigned seed) {
    if (!threads || threads > MAX_BLOCK || (threads & (threads - 1)) || threads % 32 ||
        shared > SHARED)
        return BAD_LAUNCH;
    stacks.resize((size_t)MAX_BLOCK * STACK);
    getcontext(&home);
    for (const Kernel &kernel : KERNELS) {
        if (std::strcmp(kernel.name, name)) continue;
        std::memcpy(kernel.args, args, kernel.bytes);
        body = kernel.body;
        blockDim.x = threads;
        gridDim.x = grid_x, gridDim.y = grid_y;
        for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y) {
            for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x) {
                // Memory of the block before must not be of any use.
                std::memset(rans::shared_memory, 0xA5, shared);
                FORBID((char *)rans::shared_memory + shared, SHARED - shared);
                const Outcome outcome = run_block(threads, seed);
                ALLOW(rans::shared_memory, SHARED);
                if (outcome != FINE) return outcome;
            }
        }
        return FINE;
    }
    return NO_SUCH_KERNEL;
}
