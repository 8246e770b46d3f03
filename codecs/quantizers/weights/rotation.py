# SPDX-License-Identifier: Apache-2.0
"""A random rotation that makes any weights look Gaussian: signs, then Hadamard.

    x = H S w / 16,   H the Hadamard matrix of order 256 (Sylvester),  S = diag(±1)
    w = S H x / 16                                         for H H = 256

Every number of x is a sum of 256 numbers of w with random signs: outliers are shared
out, and trellis codes may count on the distribution they are made for. Integers stay
integers under H, and 16 is a power of two: undoing it is exact.

Tseng et al. 2024, "QTIP" (arXiv 2406.11235), section 2; Lee and Song 2025, "Q-Palette"
(arXiv 2509.20214), which rotates the inputs of a layer. Here a flattened tensor is
rotated in pieces: kernels of convolutions have no inputs of such sizes.
"""

from __future__ import annotations

import numpy as np

ORDER = 256  # BITSTREAM: 4^4, so that its root is a power of two
ROOT = 16


def signs(seed: int, n: int) -> np.ndarray:
    """Return n random signs ±1, int32; the same for a seed everywhere.

    The top bits of SplitMix64's output for the counters 1 … n from ``seed``
    (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    """
    counter = np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed << 32)
    x = counter * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return 1 - 2 * (x >> np.uint64(63)).astype(np.int32)


def hadamard(x: np.ndarray) -> np.ndarray:
    """Return H x for the last axis of x (..., 256), of its own type."""
    shape, half = x.shape, ORDER // 2
    while half:
        pair = x.reshape(*shape[:-1], -1, 2, half)
        a, b = pair[..., 0, :], pair[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(shape)
        half //= 2
    return x


def rotated(w: np.ndarray, seed: int) -> np.ndarray:
    """Return pieces (n, 256) of w flattened and filled up with zeros, rotated."""
    flat = np.zeros(-(-w.size // ORDER) * ORDER)
    flat[: w.size] = w.reshape(-1)
    flat = flat * signs(seed, flat.size)
    return hadamard(flat.reshape(-1, ORDER)) / ROOT


def turned_back(x: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Return 16 w (n,) of integers x (pieces, 256): `rotated` undone, in integers."""
    flat = hadamard(x).reshape(-1)
    return (flat * signs(seed, flat.size))[:n]
