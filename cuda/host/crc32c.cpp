// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli): with the processor's instruction where there is one, found at
// run time on x86, else eight bytes at a time through tables. checksum.py has the
// definition and the NumPy version.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

namespace {

const uint32_t POLYNOMIAL = 0x82F63B78u;  // 0x1EDC6F41 with its bits reversed

// of[k][b]: the checksum of byte b followed by k zero bytes. The compiler makes it, so
// that no thread ever sees it half made.
struct Tables {
    uint32_t of[8][256];
    constexpr Tables() : of() {
        for (uint32_t b = 0; b < 256; ++b) {
            uint32_t c = b;
            for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? POLYNOMIAL : 0);
            of[0][b] = c;
        }
        for (uint32_t b = 0; b < 256; ++b)
            for (int k = 1; k < 8; ++k)
                of[k][b] = of[0][of[k - 1][b] & 0xFF] ^ (of[k - 1][b] >> 8);
    }
};
constexpr Tables TABLES;

uint32_t by_tables(const uint8_t *data, size_t size, uint32_t c) {
    for (; size >= 8; data += 8, size -= 8) {
        c ^= (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
             (uint32_t)data[3] << 24;
        c = TABLES.of[7][c & 0xFF] ^ TABLES.of[6][c >> 8 & 0xFF] ^
            TABLES.of[5][c >> 16 & 0xFF] ^ TABLES.of[4][c >> 24] ^
            TABLES.of[3][data[4]] ^ TABLES.of[2][data[5]] ^ TABLES.of[1][data[6]] ^
            TABLES.of[0][data[7]];
    }
    for (; size > 0; ++data, --size) c = TABLES.of[0][(c ^ *data) & 0xFF] ^ (c >> 8);
    return c;
}

#if defined(__GNUC__) && defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t by_instruction(const uint8_t *data,
                                                          size_t size, uint32_t c) {
    uint64_t wide = c;
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t eight;
        memcpy(&eight, data, 8);
        wide = __builtin_ia32_crc32di(wide, eight);
    }
    c = (uint32_t)wide;
    for (; size > 0; ++data, --size) c = __builtin_ia32_crc32qi(c, *data);
    return c;
}

bool has_instruction() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}
#else
uint32_t by_instruction(const uint8_t *data, size_t size, uint32_t c) {
    return by_tables(data, size, c);
}

bool has_instruction() { return false; }
#endif

}  // namespace

// plain: 1 leaves the instruction out, so that tests reach both ways.
API uint32_t polycodec_crc32c(const uint8_t *data, size_t size, uint32_t value,
                              int plain) {
    const uint32_t c = ~value;
    return ~(has_instruction() && !plain ? by_instruction(data, size, c)
                                         : by_tables(data, size, c));
}
