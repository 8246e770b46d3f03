# SPDX-License-Identifier: Apache-2.0
"""Probabilities to integer frequencies, at the least cost in bits.

    minimise  - Σ p_k log2(f_k / 2^P)    with  f_k >= 1,  Σ f_k = 2^P

One more unit for slot k saves p_k log2((f_k + 1) / f_k) bits, a saving that only
shrinks as f_k grows. So moving single units from where they cost least to where
they save most ends in the optimum, whatever the starting point.
"""

from __future__ import annotations

import numpy as np


def round_frequencies(weights: np.ndarray, total: int) -> np.ndarray:
    """Return integers >= 1 that sum to ``total`` and fit ``weights`` best.

    weights: (K,) float, not negative, not all zero, K <= total. Returns (K,) int64.
    """
    p = weights / weights.sum()
    f = np.maximum(np.floor(p * total), 1.0)
    excess = int(f.sum()) - total
    for _ in range(-excess):
        f[np.argmax(_saving(p, f))] += 1
    for _ in range(excess):
        f[np.argmin(_price(p, f))] -= 1
    # Each exchange lowers the cost, and there are finitely many roundings; the
    # margin keeps float noise from swapping two equal slots for ever.
    while True:
        saving, price = _saving(p, f), _price(p, f)
        up, down = int(np.argmax(saving)), int(np.argmin(price))
        if up == down or saving[up] <= price[down] * (1 + 1e-9):
            return f.astype(np.int64)
        f[up] += 1
        f[down] -= 1


def _saving(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the bits saved by one unit more, per slot."""
    return p * np.log2((f + 1) / f)


def _price(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the bits lost by one unit less, per slot; a slot at 1 cannot give."""
    with np.errstate(divide="ignore"):
        return np.where(f > 1, p * np.log2(f / np.maximum(f - 1, 1)), np.inf)
