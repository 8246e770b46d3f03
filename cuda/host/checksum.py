# SPDX-License-Identifier: Apache-2.0
"""CRC-32C, the checksum of streams and files.

    crc(a + b) = shift(crc(a), len(b)) ^ crc(b)

The polynomial is Castagnoli's 0x1EDC6F41, reflected: the one that x86 (SSE4.2)
and Arm carry as an instruction. The C library computes it where there is one;
otherwise NumPy runs many rows of the data side by side and folds the rows'
checksums with the equation above, which holds because a CRC is linear over
GF(2): moving it past n zero bytes is a 32 x 32 bit matrix.

Reference: RFC 3720, appendix B.4 (test vectors).
"""

from __future__ import annotations

import functools

import numpy as np

from polycodec.cuda.host.library import library

POLYNOMIAL = 0x82F63B78  # BITSTREAM: 0x1EDC6F41 with its bits reversed
_SMALL = 2048  # bytes; below, a plain loop is faster than NumPy's call overhead


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC-32C of ``data``, continued from ``value``.

    ``crc32c(b, crc32c(a)) == crc32c(a + b)``, as with :func:`zlib.crc32`.
    """
    if not memoryview(data).c_contiguous:
        data = bytes(data)
    found = library()
    return crc32c_numpy(data, value) if found is None else found.crc32c(data, value)


def crc32c_numpy(data: bytes | memoryview, value: int = 0) -> int:
    """Do :func:`crc32c` without the C library."""
    octets = np.frombuffer(data, dtype=np.uint8)
    state = (value ^ 0xFFFFFFFF) & 0xFFFFFFFF
    if octets.size >= _SMALL:
        # About as many rows as columns: both loops below are then short.
        width = 1 << (int(octets.size).bit_length() // 2)
        rows = octets.size // width
        block = octets[: rows * width].reshape(rows, width)
        state = _fold(state, _crc_rows(block), width)
        octets = octets[rows * width :]
    table = _byte_table().tolist()
    for octet in octets.tolist():
        state = table[(state ^ octet) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def _crc_rows(rows: np.ndarray) -> np.ndarray:
    """Return raw checksums, started at 0, of all ``rows`` (R, W) uint8 at once."""
    table = _byte_table()
    state = np.zeros(rows.shape[0], dtype=np.uint32)
    for column in np.ascontiguousarray(rows.T):
        state = table[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    return state


def _fold(state: int, checksums: np.ndarray, width: int) -> int:
    """Continue ``state`` over rows of ``width`` bytes and known raw checksums."""
    shift = _shift_tables(width)
    for checksum in checksums.tolist():
        state = (
            shift[0][state & 0xFF]
            ^ shift[1][(state >> 8) & 0xFF]
            ^ shift[2][(state >> 16) & 0xFF]
            ^ shift[3][state >> 24]
            ^ checksum
        )
    return state


@functools.lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    """Return the checksum of each single byte, (256,) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table.astype(np.uint32)


@functools.lru_cache(maxsize=32)
def _shift_tables(count: int) -> list[list[int]]:
    """Move a raw checksum past ``count`` zero bytes: one table for each byte."""
    table = _byte_table()
    # All 4 x 256 single-byte states run through the zeros side by side.
    octets = np.arange(256, dtype=np.uint32)[None, :]
    state = octets << (8 * np.arange(4, dtype=np.uint32))[:, None]
    for _ in range(count):
        state = table[state & 0xFF] ^ (state >> np.uint32(8))
    return state.tolist()
