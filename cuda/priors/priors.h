// SPDX-License-Identifier: Apache-2.0
//
// Distributions evaluated while coding, in integers, once for all back ends: mixtures of
// Gaussians (mixture.py has the formulas) and categorical ones (categorical.py).
//
//   slot k owns [c(k), c(k + 1)) of the 2^15
//   encode   value -> slot -> c(k), c(k + 1)
//   decode   r -> the slot with c(k) <= r < c(k + 1), by a search
//
// Whatever the parameters' values: no read leaves PHI or POWERS, every search ends, and
// what it finds is c(lower) <= r < c(upper). Like core.h, this file includes no other
// header and allocates nothing.

#ifndef POLYCODEC_RANS_PRIORS_H
#define POLYCODEC_RANS_PRIORS_H

#include "../core.h"

namespace rans {

// BITSTREAM: everything in this block; mixture.py and categorical.py say the same.
const u32 PRIOR_PRECISION = 15;
const u32 PRIOR_WHOLE = 1u << PRIOR_PRECISION;
const u32 MAX_COMPONENTS = 4;
const u32 WINDOW_BITS = 12;
const i32 Z_LIMIT = 576;  // PHI has 2 * Z_LIMIT + 1 entries
const u32 Z_SHIFT = 20;
const u32 MAX_VALUES = 4096;
const i32 MEAN_LIMIT = 1 << 21;

// A bin of scales, 16 bytes.
struct Scale {
    i32 reciprocal;  // 2^20 * 2 / sigma
    i32 limit;       // (Z_LIMIT << 20) / reciprocal: where PHI ends, in 1/64
    i32 reach;       // of a component's window, in 1/64
    i32 unused;
};

template <class T>
RANS_FN T smaller(T a, T b) {
    return a < b ? a : b;
}

template <class T>
RANS_FN T larger(T a, T b) {
    return a > b ? a : b;
}

RANS_FN u32 bit_length(u32 value) {
    u32 bits = 0;
    for (u32 half = 16; half; half >>= 1) {
        if (value >> half) {
            value >>= half;
            bits += half;
        }
    }
    return bits + value;  // what is left is 0 or 1
}

// About -log2(freq / 2^15) in 1/256 bit (integer_cdf.py).
RANS_FN u32 estimate(u32 freq) {
    const u32 exponent = bit_length(freq) - 1;
    const u32 m = ((freq << 8) >> exponent) & 255;
    return ((PRIOR_PRECISION - exponent) << 8) - m - ((m * (256 - m) * 88) >> 16);
}

// floor(2^32 / freq), which for 1 does not fit: 2^32 - 1.
RANS_FN u32 reciprocal_of(u32 freq) {
    const u32 q = 0xFFFFFFFFu / freq;
    return q + (freq > 1 && (freq & (freq - 1)) == 0);
}

RANS_FN EncodeRow entry_of(u32 start, u32 end) {
    EncodeRow row;
    row.start = (u16)start;
    row.freq = (u16)(end - start);
    row.reciprocal = reciprocal_of(end - start);
    return row;
}

// One symbol's mixture of `count` components, MOST at most; where that number is known
// the compiler has loops of constant length. Sums and differences wrap, so that no value
// is undefined.
template <u32 MOST>
struct Mixture {
    i32 mean[MOST];
    i32 reciprocal[MOST];
    i32 limit[MOST];
    u32 weight[MOST];
    u32 components;
    u32 bits;   // the window has 2^bits slots
    i32 first;  // slot 1's value; slot 0 is the escape
    const u16 *phi;
    i32 low, high;  // of the window while components are added, in 1/64

    RANS_FN Mixture(const u16 *table, u32 count) {
        phi = table;
        components = count;
        low = 0x7FFFFFFF, high = -0x7FFFFFFF;
    }

    // j is a constant in unrolled loops, so a device keeps the arrays in registers.
    RANS_FN void add(u32 j, i32 at, const Scale &scale, u32 share) {
        mean[j] = at;
        reciprocal[j] = scale.reciprocal;
        limit[j] = scale.limit;
        weight[j] = share;
        if (!share) return;
        low = smaller(low, (i32)((u32)at - (u32)scale.reach));
        high = larger(high, (i32)((u32)at + (u32)scale.reach));
    }

    RANS_FN void close() {
        const i32 a = (i32)((u32)low + 32) >> 6, b = (i32)((u32)high + 32) >> 6;
        const u32 wanted = (u32)b - (u32)a + 1;
        bits = bit_length(larger(smaller(wanted, (1u << WINDOW_BITS) - 1), 1u));
        first = (i32)((u32)a - (u32)((i32)((1u << bits) - 1 - wanted) >> 1));
    }

    // c(k) for slots inside, 0 < k < 2^bits
    RANS_FN u32 below(u32 k) const {
        const u32 edge = 64 * ((u32)first + k - 1) - 32;
        u32 sum = 0;
#pragma unroll
        for (u32 j = 0; j < MOST; ++j) {
            if (j >= components) continue;
            i32 e = (i32)(edge - (u32)mean[j]);
            e = larger(smaller(e, limit[j]), -limit[j]);
            // |e * reciprocal| <= Z_LIMIT << 20
            const u32 z = (u32)(e * reciprocal[j]) + ((u32)Z_LIMIT << Z_SHIFT) +
                          (1u << (Z_SHIFT - 1));
            sum += weight[j] * phi[z >> Z_SHIFT];
        }
        // 16 bits are all of it when the weights' sum is 256.
        const u32 f = (sum >> 8) & 0xFFFF;
        return ((f * (PRIOR_WHOLE - (1u << bits))) >> 16) + k;
    }

    // A value's slot; 0: it is outside.
    RANS_FN u32 slot_of(i32 value) const {
        const u32 k = (u32)value - (u32)first + 1;
        return k >> bits ? 0 : k;
    }

    RANS_FN EncodeRow entry(u32 k) const {
        const u32 start = k ? below(k) : 0;
        return entry_of(start, (k + 1) >> bits ? PRIOR_WHOLE : below(k + 1));
    }

    RANS_FN Slot find(u32 r) const {
        u32 k = 0, start = 0, end = PRIOR_WHOLE;
        for (u32 step = (1u << bits) >> 1; step; step >>= 1) {
            // Both ways are equally likely, so a jump would often be mispredicted: masks.
            const u32 c = below(k + step), up = 0u - (u32)(c <= r);
            k += step & up;
            start ^= (start ^ c) & up;
            end ^= (end ^ c) & ~up;
        }
        Slot slot;
        slot.number = k;
        slot.freq = end - start;
        slot.bias = r - start;
        return slot;
    }
};

// One symbol's categorical distribution.
struct Categorical {
    const i16 *logits;
    const u32 *powers;  // (32)
    u32 values, sum;
    i32 most;

    RANS_FN u32 power(u32 k) const {
        const u32 d = (u32)(most - logits[k]);
        return powers[d & 31] >> smaller(d >> 5, 31u);
    }

    RANS_FN Categorical(const i16 *row, u32 count, const u32 *table) {
        logits = row;
        powers = table;
        values = count;
        most = row[0];
        for (u32 k = 1; k < count; ++k) most = larger(most, (i32)row[k]);
        sum = 0;  // at most 4096 * 2^18
        for (u32 k = 0; k < count; ++k) sum += power(k);
    }

    // c(k) of the sum of the powers before
    RANS_FN u32 below(u32 k, u32 before) const {
        return (u32)((u64)before * (PRIOR_WHOLE - values) / sum) + k;
    }

    RANS_FN EncodeRow entry(u32 k) const {
        u32 before = 0;
        for (u32 j = 0; j < k; ++j) before += power(j);
        return entry_of(below(k, before), below(k + 1, before + power(k)));
    }

    // c(k) <= r without a division, for k <= r:
    // before * (2^15 - A) < (r - k + 1) * sum
    RANS_FN bool reaches(u32 k, u32 before, u32 r) const {
        return k <= r &&
               (u64)before * (PRIOR_WHOLE - values) < (u64)(r - k + 1) * sum;
    }

    RANS_FN Slot slot(u32 k, u32 before, u32 r) const {
        const u32 start = below(k, before);
        Slot found;
        found.number = k;
        found.freq = below(k + 1, before + power(k)) - start;
        found.bias = r - start;
        return found;
    }

    RANS_FN Slot find(u32 r) const {
        u32 before = 0, k = 0;
        for (; k + 1 < values; ++k) {
            const u32 next = before + power(k);
            if (!reaches(k + 1, next, r)) break;
            before = next;
        }
        return slot(k, before, r);
    }
};

}  // namespace rans

#endif
