# SPDX-License-Identifier: Apache-2.0
"""How integers of weights are range coded: rows with scales, a shape for all of them.

    row r   scale σ_r, one of 64 in quarter octaves      coded first, as steps of a walk
    value   (1 - a) N(m, σ_r) + a N(m, b σ_r)            a, b: one of a few shapes

Mixtures are evaluated in integers while coding (cuda/priors), so there is no table to
be stored: a small tensor pays a few bytes beside its values.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from polycodec.cuda import Mixture, ScaleSet, StreamDecoder, StreamEncoder

BINS = 64


class Shape(NamedTuple):
    """A share ``heavy`` / 256 of the values has a scale of ``bins`` bins more."""

    heavy: int
    bins: int


# BITSTREAM: the last one is for rows that differ less from each other than inside.
SHAPES = (Shape(0, 0), Shape(64, 3), Shape(48, 5), Shape(32, 8))


@functools.cache
def scales() -> ScaleSet:
    """Return the 64 scales σ = (4 … 7) 2^(i - 5), in integers.  # BITSTREAM

    Divisions and products of small integers are the same everywhere. A window reaches
    6 σ; what is farther out is an escape.
    """
    sigma = _sigma()
    reciprocal = np.floor(2 * 2**20 / sigma + 0.5).astype(np.int64)
    return ScaleSet(reciprocal, np.minimum(384 * sigma + 64, 2**21).astype(np.int64))


def _sigma() -> np.ndarray:
    i = np.arange(BINS)
    return np.ldexp(4.0 + i % 4, i // 4 - 5)


def nearest_bins(sigma: np.ndarray) -> np.ndarray:
    """Return the bins (n,) int64 of scales (n,) > 0."""
    known = _sigma()
    return np.searchsorted(np.sqrt(known[1:] * known[:-1]), sigma)


def row_bins(rms: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the bins of rows with such a root mean square (n,), given a shape."""
    share = shape.heavy / 256
    wide = 1 - share + share * 4 ** (shape.bins / 4)
    return nearest_bins(np.maximum(rms, 1e-9) / np.sqrt(wide))


def bits(
    values: np.ndarray, bins: np.ndarray, shape: Shape, means: np.ndarray | float = 0.0
) -> float:
    """Return about what values (R, C) cost, in bits; bins (R,), means like values."""
    z = torch.from_numpy(values - means)
    total = torch.zeros_like(z)
    share = shape.heavy / 256
    for part, more in ((1 - share, 0), (share, shape.bins)):
        if part:
            sigma = _sigma()[np.minimum(bins + more, BINS - 1)]
            root = torch.from_numpy(sigma * 2**0.5)[:, None]
            total += part * (((z + 0.5) / root).erf() - ((z - 0.5) / root).erf())
    # Half of the sum of erf's is the probability; a slot has 2^-15 at least.
    return float(-(total / 2 + 2.0**-15).log2().sum())


def prior(
    bins: np.ndarray, columns: int, shape: Shape, means: np.ndarray | None = None
) -> Mixture:
    """Return the prior of a pass of (R, C) values; means (R C,) in 1/64."""
    # Filled in place: of millions of weights this is a good part of loading them.
    size = 2 if shape.heavy else 1, bins.size * columns
    indexes, weights = np.empty(size, np.uint8), np.empty(size, np.int16)
    both = np.stack([bins, np.minimum(bins + shape.bins, BINS - 1)])[: size[0]]
    indexes.reshape(*both.shape, columns)[:] = both[..., None]
    weights[0] = 256 - shape.heavy
    weights[1:] = shape.heavy
    first = np.zeros(size, np.int32)
    if means is not None:
        first[:] = means
    return Mixture.trusted(scales(), first, indexes, weights)


def put_bins(encoder: StreamEncoder, bins: np.ndarray) -> None:
    """Append the pass of the rows' bins (R,)."""
    encoder.put_prior(np.diff(bins, prepend=0), _walk(len(bins)))


def get_bins(decoder: StreamDecoder, rows: int) -> np.ndarray:
    """Return the rows' bins (R,), any of which may be outside 0 … 63."""
    return np.cumsum(decoder.get_prior(_walk(rows)).astype(np.int64))


@functools.lru_cache(16)
def _walk(rows: int) -> Mixture:
    bins = np.full(rows, 12)  # BITSTREAM: σ = 1 for most steps, 8 for the first
    bins[:1] = 24
    return prior(bins, 1, Shape(48, 5))
