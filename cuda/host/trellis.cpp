// SPDX-License-Identifier: Apache-2.0
//
// The search for trellis-coded weights (codecs/quantizers/weights/viterbi.py says what it
// is and where it comes from). Only encoders need it: what it finds is checked by nobody,
// and rounding may differ between processors.
//
//   cost'[q << k | r] = min_j cost[j << (L - k) | q] + sum_v (x_v - code_v[q << k | r])^2

#include "host.h"

#include <algorithm>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

#if RANS_X86
#define WITH_AVX2 __attribute__((target("avx2")))
#else
#define WITH_AVX2
#endif

using rans::i32;
using rans::i64;
using rans::u8;

namespace {

struct Trellis {
    i32 steps, numbers, bits, fresh;
    const float *code;  // (numbers, 2^bits)
};

struct Room {
    std::vector<float> cost, next, least;
    std::vector<i32> best, path;
    std::vector<u8> back;
};

// One step for all states. `which`: (2^(L-k)) the best j of each q, or null at first.
template <int K>
inline __attribute__((always_inline)) void step(const Trellis &t, const float *x,
                                                Room &room, u8 *which) {
    const i32 many = 1 << K, few = 1 << (t.bits - K);
    float *__restrict least = room.least.data(), *__restrict next = room.next.data();
    const float *__restrict cost = room.cost.data();
    i32 *__restrict best = room.best.data();
    if (which) {
        for (i32 q = 0; q < few; ++q) {
            float low = cost[q];
            i32 from = 0;
            for (i32 j = 1; j < many; ++j) {
                const float other = cost[j * few + q];
                from = other < low ? j : from;
                low = other < low ? other : low;
            }
            least[q] = low, best[q] = from;
        }
        for (i32 q = 0; q < few; ++q) which[q] = (u8)best[q];
        for (i32 q = 0; q < few; ++q)
            for (i32 r = 0; r < many; ++r) next[q * many + r] = least[q];
    } else {
        for (i32 s = 0; s < 1 << t.bits; ++s) next[s] = cost[s];
    }
    for (i32 v = 0; v < t.numbers; ++v) {
        const float *__restrict code = t.code + ((i64)v << t.bits);
        const float value = x[v];
        for (i32 s = 0; s < 1 << t.bits; ++s) {
            const float d = value - code[s];
            next[s] += d * d;
        }
    }
    room.cost.swap(room.next);
}

// The best path of `steps` steps, from step `first` on in a circle; `ends`: the bits that
// it begins and ends with, or -1.
template <int K>
inline __attribute__((always_inline)) void viterbi(const Trellis &t, const float *x,
                                                   i32 first, i32 ends, Room &room) {
    const i32 all = 1 << t.bits, many = 1 << K, few = all >> K;
    const float inf = std::numeric_limits<float>::infinity();
    std::fill(room.cost.begin(), room.cost.end(), ends < 0 ? 0.0f : inf);
    if (ends >= 0) std::fill_n(room.cost.begin() + ends * many, many, 0.0f);
    for (i32 i = 0; i < t.steps; ++i) {
        const i32 at = (first + i) % t.steps;
        step<K>(t, x + (i64)at * t.numbers, room,
                i ? room.back.data() + (i64)(i - 1) * few : nullptr);
    }
    i32 state = ends < 0 ? 0 : ends;
    const i32 stride = ends < 0 ? 1 : few;
    for (i32 s = state; s < all; s += stride)
        if (room.cost[s] < room.cost[state]) state = s;
    for (i32 i = t.steps - 1;; --i) {
        room.path[i] = state;
        if (!i) break;
        const i32 low = state >> K;
        state = low + room.back[(i64)(i - 1) * few + low] * few;
    }
}

template <int K>
inline __attribute__((always_inline)) void closed(const Trellis &t, const float *x,
                                                  u8 *out, Room &room) {
    const i32 half = t.steps / 2;
    viterbi<K>(t, x, t.steps - half, -1, room);
    viterbi<K>(t, x, 0, room.path[half] >> K, room);
    for (i32 i = 0; i < t.steps; ++i) out[i] = (u8)(room.path[i] & ((1 << K) - 1));
}

inline __attribute__((always_inline)) void dispatch(const Trellis &t, const float *x,
                                                    u8 *out, Room &room) {
    switch (t.fresh) {
        case 1: closed<1>(t, x, out, room); break;
        case 2: closed<2>(t, x, out, room); break;
        case 3: closed<3>(t, x, out, room); break;
        case 4: closed<4>(t, x, out, room); break;
        case 5: closed<5>(t, x, out, room); break;
        default: closed<6>(t, x, out, room); break;
    }
}

void plain(const Trellis &t, const float *x, u8 *out, Room &room) {
    dispatch(t, x, out, room);
}

WITH_AVX2 void wide(const Trellis &t, const float *x, u8 *out, Room &room) {
    dispatch(t, x, out, room);
}

void searched(const Trellis &t, const float *x, u8 *out, i64 begin, i64 end) {
    const size_t all = (size_t)1 << t.bits;
    Room room;
    room.cost.resize(all), room.next.resize(all);
    room.least.resize(all >> t.fresh), room.best.resize(all >> t.fresh);
    room.back.resize((size_t)t.steps * (all >> t.fresh));
    room.path.resize(t.steps);
#if RANS_X86
    __builtin_cpu_init();
    const bool vectors = __builtin_cpu_supports("avx2");
#else
    const bool vectors = false;
#endif
    for (i64 n = begin; n < end; ++n) {
        const float *own = x + n * t.steps * t.numbers;
        (vectors ? wide : plain)(t, own, out + n * t.steps, room);
    }
}

}  // namespace

// x: (n, steps, numbers); code: (numbers, 2^bits); out: (n, steps), `fresh` bits each.
API void polycodec_trellis(const float *x, i64 n, i32 steps, i32 numbers, i32 bits,
                           i32 fresh, const float *code, u8 *out, i32 threads) {
    const Trellis t = {steps, numbers, bits, fresh, code};
    const i64 number = std::max<i64>(1, std::min<i64>({threads, n, 64}));
    std::vector<std::thread> others;
    i64 begin = 0;
    for (i64 k = 1; k < number; ++k) {
        const i64 end = n * k / number;
        try {
            others.emplace_back(searched, t, x, out, begin, end);
        } catch (const std::system_error &) {
            searched(t, x, out, begin, end);  // the system has no more threads
        }
        begin = end;
    }
    searched(t, x, out, begin, n);
    for (std::thread &other : others) other.join();
}
