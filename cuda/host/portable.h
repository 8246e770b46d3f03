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

// A chunk's part of a pass. `source` has the `tables` of a step from symbol i on, their
// indexes at(i), and the value of lane k's slot; the slot `escape` stands for one of the
// side list. P: the precision, or 0 where it is known later.
template <u32 N, u32 P, class Source>
Status decode_run(const RansLanes &l, Source source, u32 later, u32 escape, i32 *symbols,
                  Run run) {
    const u32 precision = P ? P : later;
    const i64 chunk = run.chunk;
    u32 x[N], number[N];
    for (u32 k = 0; k < N; ++k) x[k] = l.states[chunk * N + k];
    CheckedWords words = {l.words + l.word[chunk], l.words + l.word_end[chunk], false};
    Status status = FINE;
    for (i64 i = run.begin; i < run.end && status == FINE; i += N) {
        const u32 active = run.end - i < (i64)N ? (u32)(run.end - i) : N;
        const auto table = source.at(i);
        if (active == N && words.end - words.at >= (i64)N) {
            FastWords fast = {words.at};
            decode_step<HostLanes<N> >(source.tables, precision, table, N, x, number,
                                       fast);
            words.at = fast.at;
        } else {
            decode_step<HostLanes<N> >(source.tables, precision, table, active, x, number,
                                       words);
        }
        u32 escapes = 0;
        for (u32 k = 0; k < active; ++k) {
            symbols[i + k] = source.value(table, k, number[k]);
            escapes |= number[k] == escape;
        }
        for (u32 k = 0; escapes && k < active; ++k) {
            if (number[k] != escape) continue;
            if (l.side_next[chunk] >= l.side_end[chunk]) {
                status = SIDE_RAN_OUT;
                break;
            }
            symbols[i + k] = l.side[l.side_next[chunk]++];
        }
        // A mini stream goes on without words: its states are small by then.
        if (words.ran_out && !l.mini) status = WORDS_RAN_OUT;
    }
    for (u32 k = 0; k < N; ++k) l.states[chunk * N + k] = x[k];
    l.word[chunk] = words.at - l.words;
    return status;
}

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
