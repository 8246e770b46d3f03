# SPDX-License-Identifier: Apache-2.0
"""Integer frequency tables from continuous densities; run once, at export.

The decoder never repeats any of this: tables travel with the weights. Two rules
make them tight for low rates, where most latents cost next to nothing:

* a scale so small that a nonzero value is rarer than half a table unit gets the
  table of one symbol, which costs exactly 0 bits (the encoder then clamps to it);
* the alphabet of every other scale ends where an escape becomes cheaper than the
  slots the tail would need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from polycodec.cuda import TableSet
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN

GAUSSIAN_PRECISION = 12  # BITSTREAM: one packed 32-bit word per slot and state
FACTORIZED_PRECISION = 14  # BITSTREAM
ESCAPE_BITS = 16
# Five times the largest scale. With 127 the widest tables sent 4.7 % of their symbols
# through 16-bit escapes: 430 bytes of one 49 kB photograph.
LARGEST = 320
# Fitted to 16 photographs and tried on 8 others, the tables save 2.4 % of the bytes
# with 30,000 and 2.3 % with 300.
PSEUDO_COUNTS = 30_000


def gaussian_tables(counts: np.ndarray | None = None, reach: int = LARGEST) -> TableSet:
    """The 64 zero-mean tables, P = 12, of scales 0.11 … 64 in equal log steps.

    ``counts`` (64, 2 LARGEST + 3): how often each symbol met each table, the ends
    holding all beyond (`statistics`). The densities are then those
    frequencies, made even in sign, with PSEUDO_COUNTS of the normal one: latents have
    heavier tails than a normal density, and a thrifty encoder leaves more zeros.
    ``reach``: largest symbol of a table; up to 127, decoders take half the memory.
    """
    sigmas = (SCALE_MIN * math.exp(k * LOG_STEP) for k in range(SCALE_BINS))
    densities = [normal_pmf(0.0, sigma, LARGEST) for sigma in sigmas]
    return even_tables(densities, counts, reach)


def even_tables(
    densities: Sequence[np.ndarray], counts: np.ndarray | None, reach: int = LARGEST
) -> TableSet:
    """Tables, P = 12, of even densities of -LARGEST-1 … LARGEST+1; see above."""
    pmfs, minimum, escape = [], [], []
    for k, density in enumerate(densities):
        if counts is not None:
            even = (counts[k] + counts[k, ::-1]) / 2
            density = even + PSEUDO_COUNTS * density
            density = density / density.sum()
        pmf, tail = _best_alphabet(density, reach)
        pmfs.append(pmf)
        minimum.append(-(len(pmf) // 2))
        escape.append(tail)
    return TableSet.from_pmfs(pmfs, minimum, GAUSSIAN_PRECISION, escape)


def certain_first(tables: TableSet) -> TableSet:
    """The same tables, but the first of the symbol 0 alone, which costs no bits."""
    arrays = tables.to_arrays()
    rest = arrays["freqs"][int(arrays["sizes"][0]) :]
    certain = np.array([0, 1 << tables.precision], rest.dtype)  # no escape
    arrays["freqs"] = np.concatenate([certain, rest])
    for name, first in (("sizes", 2), ("minimum", 0)):
        arrays[name] = np.concatenate([[first], arrays[name][1:]])
    return TableSet.from_arrays(arrays)


def tables_of_pmfs(pmfs: np.ndarray, minimum: int) -> TableSet:
    """Tables, P = 14, of per-channel pmfs (C, K) whose first value is ``minimum``.

    Each channel keeps the range outside which less than 2^-16 lies.
    """
    rows, starts, tails = [], [], []
    for pmf in np.asarray(pmfs, np.float64):
        # A density that lies outside the range keeps one symbol, and escapes.
        keep = np.flatnonzero(pmf > min(2.0**-17, pmf.max() / 2))
        low, high = int(keep[0]), int(keep[-1])
        rows.append(pmf[low : high + 1])
        starts.append(minimum + low)
        tails.append(max(1.0 - float(pmf[low : high + 1].sum()), 2.0**-16))
    return TableSet.from_pmfs(rows, starts, FACTORIZED_PRECISION, tails)


def normal_pmf(mean: float, sigma: float, reach: int) -> np.ndarray:
    """Probabilities of -reach-1 … reach+1, the ends holding the tails."""
    edges = (np.arange(-reach, reach + 2) - 0.5 - mean) / sigma
    # On both sides of the mean by the tail that keeps its digits.
    below = np.array([0.5 * math.erfc(-e / math.sqrt(2)) for e in edges])
    above = np.array([0.5 * math.erfc(e / math.sqrt(2)) for e in edges])
    inner = np.where(edges[1:] < 0, np.diff(below), -np.diff(above))
    return np.concatenate([[below[0]], inner, [above[-1]]])


def _best_alphabet(pmf: np.ndarray, largest: int) -> tuple[np.ndarray, float | None]:
    """The symmetric range of least cost: (its probabilities, escape probability)."""
    unit = 2.0**-GAUSSIAN_PRECISION
    middle = LARGEST + 1
    if 1 - pmf[middle] < unit / 2:
        return np.ones(1), None

    def alphabet(reach: int) -> tuple[np.ndarray, float]:
        inside = pmf[middle - reach : middle + reach + 1]
        return inside, max(1.0 - float(inside.sum()), 1e-12)

    def cost(choice: tuple[np.ndarray, float]) -> float:
        both, tail = np.append(*choice), choice[1]
        sizes = np.maximum(both, unit)
        return -(both * np.log2(sizes / sizes.sum())).sum() + tail * ESCAPE_BITS

    return min(map(alphabet, range(largest + 1)), key=cost)
