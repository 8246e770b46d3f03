# SPDX-License-Identifier: Apache-2.0
"""Gaussians around any mean for plain integers, coded by one of 256 tables.

    value n ~ N(m, σ):   c = round(m to 1/8),  whole part c0, eighths j = 0 … 7
                         symbol n - c0  in table  8 · scale + j

           j = 0     4     7
    c0 - ½ ├─┼─┼─┼─┼─┼─┼─┤ c0 + ⅜      a table for each place of m between integers

The mean is never subtracted before rounding, so an integer follows from its latent
alone and from nothing that was coded before. What that costs against rounding around
the mean is nothing at all in distortion, and in rate 1/16 of a step of mean error.
Every table has an escape: any integer of 16 bits can be coded, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Counter, Prior, Shape, TablePrior
from polycodec.entropy_models.priors.scales import normal_mass, soft_clamp
from polycodec.entropy_models.priors.statistics import count_pairs

PLACES = 8  # BITSTREAM: places of a mean between two integers
SCALES, SIGMA_MIN, SIGMA_MAX = 32, 0.12, 20.0  # BITSTREAM
STEP = math.log(SIGMA_MAX / SIGMA_MIN) / (SCALES - 1)
MEAN_LIMIT = 4096.0  # BITSTREAM: means are clamped to this
PRECISION = 12  # BITSTREAM
RARE = 2.0 ** -(PRECISION + 1)  # symbols as rare as half a unit go to the escape
REACH = 128  # symbols -REACH … REACH have slots at most, and are counted
TAIL, TAIL_REACH = RARE / 16, 8.0  # while training: density of escapes, its decay
PSEUDO_COUNTS = 3000  # of the normal density, beside what was counted


def sigma_of(index: Tensor) -> Tensor:
    """Deviations of continuous scale indexes in 0 … 31."""
    index = soft_clamp(index.float(), 0.0, SCALES - 1.0)
    return SIGMA_MIN * torch.exp(index * STEP)


def place(means: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """(whole parts float, tables uint8) of means and scale indexes, any equal shape."""
    eighths = torch.floor(means.clamp(-MEAN_LIMIT, MEAN_LIMIT) * PLACES + 0.5)
    whole = torch.floor((eighths + PLACES // 2) / PLACES)
    scale = torch.floor(index + 0.5).clamp(0, SCALES - 1)
    table = PLACES * scale + (eighths - PLACES * whole) + PLACES // 2
    return whole, table.to(torch.uint8)


class _Whole(TablePrior):
    """Plain integers, counted from whole numbers."""

    hashed = True
    thrifty = False  # rounded to the nearest, whatever that costs

    def checked(self, indexes: Tensor) -> Tensor:
        """See :meth:`TablePrior.checked`.  # BITSTREAM: 256 whole parts + index"""
        return torch.as_tensor(self.offsets).to(torch.int32) * 256 + indexes

    @property
    def means(self) -> Tensor | float:
        """The offsets: a whole number is subtracted, rounding does not notice."""
        return self.offsets


@dataclass(eq=False)
class Shifted(_Whole):
    """Normal distributions of plain integers, ``mean`` and ``index`` (B, C, h, w)."""

    mean: Tensor
    index: Tensor
    tables: TableSet | None = None

    @property
    def device(self) -> torch.device:
        """See :meth:`Prior.device`."""
        return self.mean.device

    @cached_property
    def placed(self) -> tuple[Tensor, Tensor]:
        """Whole parts of the means, float, and tables, uint8."""
        return place(self.mean.detach(), self.index.detach())

    @property
    def offsets(self) -> Tensor:
        """Whole parts of the means: what the symbols are counted from."""
        return self.placed[0]

    def indexes(self, shape: Shape) -> Tensor:
        """See :meth:`TablePrior.indexes`."""
        return self.placed[1]

    def bits(self, v: Tensor) -> Tensor:
        """See :meth:`Prior.bits`; under the continuous densities."""
        far = (v.float() - (self.mean.float() - self.offsets)).abs()
        # What escapes cost; a floor instead would give outliers no gradient.
        rest = TAIL * torch.exp(-far / TAIL_REACH)
        mass = normal_mass(far, sigma_of(self.index))
        return -torch.log2(mass * (1 - RARE) + rest)


@dataclass(eq=False)
class Placed(_Whole):
    """`Shifted` on its grids: ``whole`` float and ``table`` uint8, (B, C, h, w)."""

    whole: Tensor
    table: Tensor
    tables: TableSet | None

    @property
    def device(self) -> torch.device:
        """See :meth:`Prior.device`."""
        return self.whole.device

    @property
    def offsets(self) -> Tensor:
        """See :meth:`Prior.offsets`."""
        return self.whole

    def indexes(self, shape: Shape) -> Tensor:
        """See :meth:`TablePrior.indexes`."""
        return self.table

    def bits(self, v: Tensor) -> Tensor:
        """See :meth:`Prior.bits`; by the integer tables, no gradient."""
        return self.table_bits(v.detach()).float()


def shifted_tables(counts: np.ndarray | None = None) -> TableSet:
    """The 256 tables; run once, at export, and stored.

    ``counts`` (256, 2 REACH + 3): how often each symbol met each table, the ends
    holding all beyond (`ShiftedCounter`); the densities are then those frequencies
    with PSEUDO_COUNTS of the normal one.
    """
    pmfs, minimum, escape = [], [], []
    for k in range(SCALES * PLACES):
        density = _pmf(k)
        if counts is not None:
            density = counts[k] + PSEUDO_COUNTS * density
            density = density / density.sum()
        inner = density[1:-1]
        kept = np.flatnonzero(inner >= RARE)
        low, high = int(kept[0]), int(kept[-1])
        pmfs.append(inner[low : high + 1])
        minimum.append(low - REACH)
        escape.append(max(1.0 - float(pmfs[-1].sum()), RARE))
    return TableSet.from_pmfs(pmfs, minimum, PRECISION, escape)


def _pmf(table: int) -> np.ndarray:
    """Probabilities of -REACH-1 … REACH+1, the ends holding the tails."""
    sigma = SIGMA_MIN * math.exp(table // PLACES * STEP)
    mean = (table % PLACES - PLACES // 2) / PLACES
    edges = (np.arange(-REACH, REACH + 2) - 0.5 - mean) / sigma
    # On both sides by the tail that keeps its digits.
    below = np.array([0.5 * math.erfc(-e / math.sqrt(2)) for e in edges])
    above = np.array([0.5 * math.erfc(e / math.sqrt(2)) for e in edges])
    inner = np.where(edges[1:] < 0, np.diff(below), -np.diff(above))
    return np.concatenate([[below[0]], inner, [above[-1]]])


class ShiftedCounter(Counter):
    """Counts which symbols meet which table."""

    def __init__(self) -> None:
        self.counts = np.zeros((SCALES * PLACES, 2 * REACH + 3), np.int64)

    @property
    def total(self) -> int:
        """See :meth:`Counter.total`."""
        return int(self.counts.sum())

    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """Count ``value`` of ``shape`` (B, C, h, w); return it rounded."""
        assert value is not None and isinstance(prior, _Whole)
        rounded = torch.round(value.float())
        symbol = (rounded - prior.offsets).clamp(-REACH - 1, REACH + 1).long()
        count_pairs(self.counts, prior.indexes(shape), symbol + REACH + 1)
        return rounded
