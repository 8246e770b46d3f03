# SPDX-License-Identifier: Apache-2.0
"""Trellis-coded weights: 1 to 5 bits each in quarter steps, nothing to entropy code.

    w ─ rotated ─► pieces of 256, scaled ─ viterbi ─► k bits a step
    ŵ = S H CODE[state] · scale

Whole bits take one number a step, halves two, quarters the neighbouring halves in
turn. A setting is the number of quarter bits.

Tseng et al. 2024, "QTIP" (arXiv 2406.11235); Lee and Song 2025, "Q-Palette" (arXiv
2509.20214): fractional bits. Of the latter are missing: 16-bit states by default, codes
of pairs from a table, and kernels that multiply by coded weights: a codec decodes its
weights once, when it is loaded.
"""

from __future__ import annotations

import struct

import numpy as np

from polycodec.codecs.quantizers.weights.base import Offer, WeightQuantizer, damaged
from polycodec.codecs.quantizers.weights.rotation import (
    ORDER,
    ROOT,
    rotated,
    turned_back,
)
from polycodec.codecs.quantizers.weights.viterbi import SPREAD, code, search, states
from polycodec.registry import register

QUARTERS = tuple(range(4, 21))
GROUP = 4  # BITSTREAM: pieces that share a scale
HEAD = struct.Struct("<BBHb")  # BITSTREAM: quarters, L, seed, exponent of the scales
# At so many quarter bits: by how much the code is widened, and the mean squared error
# that is left of unit Gaussian numbers; measured, docs/checks/trellis.py.
_TUNED = (4, 6, 8, 10, 12, 16, 20), (0.9, 0.97, 1.03, 1.08, 1.1, 1.15, 1.2)
GAIN = dict(zip(QUARTERS, np.interp(QUARTERS, *_TUNED), strict=True))
_LEFT = (
    *(0.27991, 0.21370, 0.14583, 0.11057, 0.07461, 0.05738, 0.04029, 0.02988, 0.01930),
    *(0.01578, 0.01225, 0.00863, 0.00501, 0.00409, 0.00319, 0.00227, 0.00134),
)
MSE = dict(zip(QUARTERS, _LEFT, strict=True))


@register("weights/trellis")
class TrellisQuantizer(WeightQuantizer):
    """``bits``: L of a state, 9 to 16; a search takes 2^L operations a number."""

    def __init__(self, bits: int = 12, seed: int = 1) -> None:
        self.bits, self.seed = bits, seed

    def offers(self, w: np.ndarray) -> list[Offer]:
        n, energy = -(-w.size // ORDER), float(np.square(w).sum())
        rest = HEAD.size + -(-n // GROUP)
        return [Offer(q, n * q * ORDER / 32 + rest, energy * MSE[q]) for q in QUARTERS]

    def encode(self, w: np.ndarray, setting: int) -> bytes:
        x = rotated(w, self.seed)
        pieces = np.arange(len(x)) // GROUP
        energy = np.bincount(pieces, np.square(x).mean(1)) / np.bincount(pieces)
        # Fifteen octaves below the largest there is nothing to be heard.
        wanted = np.sqrt(energy) * GAIN[setting] / SPREAD
        top = int(np.ceil(np.log2(max(float(wanted.max()), 1e-30)))) - 20
        scale = _coded_scale(wanted / 2.0**top)
        unit = _scale(scale)[pieces] * 2.0**top
        out = [HEAD.pack(setting, self.bits, self.seed, top), scale.tobytes()]
        fresh = [b""] * len(x)
        for rows, new, numbers in _parts(setting, len(x)):
            y = x[rows] / np.maximum(unit[rows, None], 1e-300)
            found = search(y.astype(np.float32), self.bits, new, numbers)
            for row, bits in zip(rows, _packed(found, new), strict=True):
                fresh[row] = bits
        return b"".join(out + fresh)

    def decode(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        size = shape[0] * shape[1]
        n = -(-size // ORDER)
        if len(data) < HEAD.size:
            raise damaged(f"{len(data)} bytes of a trellis")
        quarters, bits, seed, top = HEAD.unpack_from(data)
        if quarters not in QUARTERS or not 10 <= bits <= 16:
            raise damaged(f"a trellis of {quarters} quarter bits and {bits}-bit states")
        groups = -(-n // GROUP)
        at = HEAD.size + groups
        parts = _parts(quarters, n)
        width = np.zeros(n, np.int64)
        for rows, new, numbers in parts:
            width[rows] = ORDER * new // (8 * numbers)
        if at + int(width.sum()) != len(data):
            raise damaged(f"{len(data)} bytes for {size} weights of a trellis")
        start = at + np.cumsum(width) - width
        octets = np.frombuffer(data, np.uint8)
        values = np.empty((n, ORDER), np.int32)
        for rows, new, numbers in parts:
            span = np.arange(ORDER * new // (8 * numbers))
            fresh = _unpacked(octets[start[rows, None] + span], new)
            path = states(fresh, bits, new)
            values[rows] = code(bits, numbers)[path].reshape(-1, ORDER)
        unit = _scale(octets[HEAD.size : at]).repeat(GROUP * ORDER)[:size]
        whole = turned_back(values, seed, size) * unit
        return (whole * (2.0**top / ROOT)).reshape(shape)


def _parts(quarters: int, n: int) -> list[tuple[np.ndarray, int, int]]:
    """Of n pieces at so many quarter bits: which ones, new bits, numbers of a step.

    Up to 3 bits neighbouring halves take turns, above whole bits do: with 2^12 states
    two numbers a step then gain nothing.  # BITSTREAM
    """
    if quarters > 12:
        kinds = [(quarters // 4 + (i < quarters % 4), 1) for i in range(4)]
    else:
        halves = [(quarters + i % 2) // 2 for i in range(4)]
        kinds = [(h // 2, 1) if h % 2 == 0 else (h, 2) for h in halves]
    kinds = (kinds * -(-n // 4))[:n]
    return [
        (np.flatnonzero([own == kind for own in kinds]), *kind)
        for kind in sorted(set(kinds))
    ]


def _scale(coded: np.ndarray) -> np.ndarray:
    """Scales float64 of bytes: 16 to 31, shifted by 0 to 15."""
    return np.ldexp(16.0 + (coded & 15), (coded >> 4).astype(np.int32))


def _coded_scale(scale: np.ndarray) -> np.ndarray:
    """Nearest bytes of scales (n,) up to 2^20."""
    known = _scale(np.arange(256, dtype=np.uint8))
    edges = (known[1:] + known[:-1]) / 2
    return np.searchsorted(edges, scale).astype(np.uint8)


def _packed(fresh: np.ndarray, new: int) -> list[bytes]:
    """Bytes of each row of (n, steps) numbers of ``new`` bits, high bits first."""
    shifts = np.arange(new - 1, -1, -1)
    bits = (fresh[..., None].astype(np.int32) >> shifts) & 1
    return [row.tobytes() for row in np.packbits(bits.reshape(len(fresh), -1), axis=1)]


def _unpacked(octets: np.ndarray, new: int) -> np.ndarray:
    bits = np.unpackbits(octets, axis=1).reshape(len(octets), -1, new)
    return bits @ (1 << np.arange(new - 1, -1, -1)).astype(np.int32)
