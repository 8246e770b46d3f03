# SPDX-License-Identifier: Apache-2.0
"""Positional encodings of time that are the same bits on every platform.

    γ(t) = [sin(b⁰πt), cos(b⁰πt), …, sin(b^(l-1)πt), cos(b^(l-1)πt)]

At b = 1.25 and l = 80 the last phase is 4.5·10⁷ half turns: float32 is off there by
radians, and each library by others. Here t and b are fractions, the phase is reduced
by whole turns in integers, and sine and cosine are sums of float64 products, which
round alike everywhere. Mildenhall et al. 2020 (arXiv 2003.08934), equation 4; Chen et
al. 2021, NeRV (arXiv 2110.13903).
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

TERMS = 14  # of the series, up to π/4: the last is below 2^-100


@functools.lru_cache(maxsize=16)
def encoded_times(
    count: int, base: float, levels: int, *, first: int = 0, paired: bool = True
) -> Tensor:
    """Encodings (count, 2 levels) float32 of the times (k + first) / count.

    ``base``: b, as its shortest decimal says it. ``paired``: sine and cosine of a level
    side by side; otherwise all sines come first.
    """
    b = Fraction(str(base))
    phases = np.empty((count, levels))
    for level in range(levels):
        up, down = b.numerator**level, b.denominator**level * count
        for k in range(count):  # numerator / denominator, in 0 … 2 half turns
            phases[k, level] = ((k + first) * up % (2 * down)) / down
    both = [sine(phases), sine((phases + 0.5) % 2)]
    table = np.stack(both, axis=2) if paired else np.stack(both, axis=1)
    return torch.from_numpy(table.reshape(count, -1).astype(np.float32))


def sine(halves: np.ndarray) -> np.ndarray:
    """sin(π x) of float64 x in 0 … 2, by additions and multiplications only."""
    sign = np.where(halves > 1, -1.0, 1.0)
    x = np.where(halves > 1, halves - 1, halves)
    x = np.where(x > 0.5, 1 - x, x)  # 0 … 1/2: sin π x = sin π (1 - x)
    swap = x > 0.25  # sin π x = cos π (1/2 - x)
    r = math.pi * np.where(swap, 0.5 - x, x)
    square = r * r
    term_s, term_c = r.copy(), np.ones_like(r)
    sum_s, sum_c = term_s.copy(), term_c.copy()
    for k in range(1, TERMS):
        term_s = term_s * square / (-2.0 * k * (2 * k + 1))
        term_c = term_c * square / (-2.0 * k * (2 * k - 1))
        sum_s, sum_c = sum_s + term_s, sum_c + term_c
    return sign * np.where(swap, sum_c, sum_s)
