// SPDX-License-Identifier: Apache-2.0
//
// What scalar.cpp and priors.cpp share: a lane is an element of an array, and every word
// is checked before use.

#ifndef POLYCODEC_RANS_PORTABLE_H
#define POLYCODEC_RANS_PORTABLE_H

#include "host.h"

namespace rans {

// A chunk's words; decoding goes up, encoding down, both to `end`.
struct CheckedWords {
    u16 *at;
    u16 *end;
    bool ran_out;

    void refill(u32 &x) {
        if (x >= LOWER) return;
        if (at == end) {
            ran_out = true;
            return;
        }
        x = (x << 16) | *at++;
    }

    void spill(bool full, u32 &x) {
        if (!full) return;
        if (at == end) {
            ran_out = true;
            return;
        }
        *--at = (u16)x;
        x >>= 16;
    }
};

// The same for a step that cannot run out, because there is a word for every lane. Which
// lanes need one is random, so a jump would often be mispredicted: every lane reads or
// writes a word, and a mask decides whether it counts.
struct FastWords {
    u16 *at;

    void refill(u32 &x) {
        const u32 need = x < LOWER;
        x ^= (x ^ ((x << 16) | *at)) & (0u - need);
        at += need;
    }

    void spill(bool full, u32 &x) {
        at[-1] = (u16)x;  // if it does not count, the next lane overwrites it
        at -= full;
        x >>= (u32)full << 4;
    }
};

template <u32 N>
struct HostLanes {
    static const u32 held = N;
    static u32 lane(u32 k) { return k; }

    template <class Words>
    static void refill(u32 *x, u32 active, Words &in) {
        for (u32 k = 0; k < active; ++k) in.refill(x[k]);
    }

    template <class Words>
    static void spill(bool full, u32 &x, Words &out) {
        out.spill(full, x);
    }
};

#define FOR_LANES(lanes, call)      \
    switch (lanes) {                \
        case 1: return call(1);     \
        case 2: return call(2);     \
        case 4: return call(4);     \
        case 8: return call(8);     \
        case 16: return call(16);   \
        case 32: return call(32);   \
        default: return BAD_CALL;   \
    }

}  // namespace rans

#endif
