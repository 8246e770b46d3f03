// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of the range coder, once for all back ends.
//
//   encode   x' = (x / f) * 2^P + x % f + b      state x, frequency f, first slot b
//   decode   r  = x' % 2^P,  x = f * (x' / 2^P) + r - b
//
// N lanes code N neighbouring symbols per step and share one stream of 16-bit words.
// A policy W says what a lane is, so that the same source is a loop over an array on the
// host (host/portable.h) and one thread for each lane on a device (device/kernels.h):
//
//   W::held                   lanes that one caller holds (host: N, device: 1)
//   W::lane(k)                number of the k-th held lane, growing with k
//   W::refill(x, active, in)  the active lanes that fell below 2^16 take the next words
//                             in ascending order (host: a loop; device: ballot, popc)
//   W::spill(full, x, out)    the reverse, lane by lane: a full one writes its low word;
//                             words go downwards, the highest lane writes first
//
// reference.py says the same in NumPy, FORMAT.md in words. This file includes no header
// and allocates nothing: NVRTC compiles it as it is.

#ifndef POLYCODEC_RANS_CORE_H
#define POLYCODEC_RANS_CORE_H

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define RANS_FN __device__ __forceinline__
#elif defined(_MSC_VER)
#define RANS_FN __forceinline
#else
#define RANS_FN inline __attribute__((always_inline))
#endif

namespace rans {

typedef unsigned char u8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8,
              "the format counts in 16, 32 and 64 bits");

const u32 LOWER = 1u << 16;  // BITSTREAM: states live in [LOWER, 2^32)

// One row of a table as the encoder reads it: 8 bytes, one load.
struct EncodeRow {
    u16 start;       // sum of the frequencies before
    u16 freq;        // 1 .. 2^P, and P <= 15
    u32 reciprocal;  // floor(2^32 / freq); 2^32 - 1 for freq 1
};

// What a decoding step must know about the slot that it hit.
struct Slot {
    u32 number;  // slot in its table; 0 is the escape
    u32 freq;
    u32 bias;    // r - start
};

// All tables in one array of 2^P words each: a single read per symbol.
//   word = number (8 bits) | freq - 1 (12) | bias (12)
// freq - 1, so that a symbol may own all 2^12. Needs P <= 12 and 256 slots at most.
struct PackedTables {
    const u32 *words;

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        const u32 word = words[(table << precision) + r];
        Slot slot;
        slot.number = word & 0xFF;
        slot.freq = ((word >> 8) & 0xFFF) + 1;
        slot.bias = word >> 20;
        return slot;
    }
};

// Two levels: the leading bits of r give a slot to start from, a short walk over the
// slots' starts finds the right one. Small, and good for any precision and size.
struct SearchedTables {
    const u16 *starts;  // per table: start of every slot, then 2^P
    const u16 *guess;   // per table: 2^guess_bits slots, none beyond the right one
    const u32 *first;   // (tables) place of each table in `starts`
    u32 guess_bits;     // <= precision

    RANS_FN Slot find(u32 table, u32 r, u32 precision) const {
        const u16 *start = starts + first[table];
        const u32 bucket = r >> (precision - guess_bits);
        u32 number = guess[(table << guess_bits) + bucket];
        while (start[number + 1] <= r) ++number;  // the last entry, 2^P, ends it
        Slot slot;
        slot.number = number;
        slot.freq = (u32)start[number + 1] - start[number];
        slot.bias = r - start[number];
        return slot;
    }
};

// One step of decoding: one symbol for each of the lanes below `active`.
// x, number: (W::held); table: (active) table index of each lane's symbol.
template <class W, class Tables, class Index, class Words>
RANS_FN void decode_step(const Tables &tables, u32 precision, const Index *table,
                         u32 active, u32 *x, u32 *number, Words &in) {
    const u32 mask = (1u << precision) - 1;
    for (u32 k = 0; k < W::held; ++k) {
        const u32 lane = W::lane(k);
        if (lane >= active) break;
        const Slot slot = tables.find((u32)table[lane], x[k] & mask, precision);
        // freq <= 2^P, so the product stays below 2^32.
        x[k] = slot.freq * (x[k] >> precision) + slot.bias;
        number[k] = slot.number;
    }
    // In a second loop, so that the compiler can vectorise the first one.
    W::refill(x, active, in);
}

// One step of encoding, the exact inverse, hence from the last lane to the first.
// x: (W::held); row: (active) table row of each lane's symbol.
template <class W, class Words>
RANS_FN void encode_step(const EncodeRow *rows, u32 precision, const u32 *row,
                         u32 active, u32 *x, Words &out) {
    for (u32 k = W::held; k-- > 0;) {
        const u32 lane = W::lane(k);
        const bool on = lane < active;
        const EncodeRow e = rows[on ? row[lane] : 0];
        // x' < 2^32 asks for x < freq * 2^(32 - P); so written freq = 2^P fits.
        u32 v = x[k];
        const bool full = on && (v >> (32 - precision)) >= e.freq;
        W::spill(full, v, out);
        if (!on) continue;
        // The reciprocal is rounded down: the quotient is right or one too small.
        u32 q = (u32)(((u64)v * e.reciprocal) >> 32);
        q += v - q * e.freq >= e.freq;
        // (v / f) * 2^P + v % f + b, with one multiplication
        x[k] = v + q * ((1u << precision) - e.freq) + e.start;
    }
}

}  // namespace rans

#endif
