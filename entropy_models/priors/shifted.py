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
from polycodec.entropy_models.base import Shape, TablePrior
from polycodec.entropy_models.priors.scales import normal_mass, soft_clamp
from polycodec.entropy_models.priors.tables import normal_pmf

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


class Whole(TablePrior):
    """Plain integers, counted from whole numbers."""

    hashed = True
    thrifty = False  # rounded to the nearest, whatever that costs

    def checked(self, indexes: Tensor) -> Tensor:
        # BITSTREAM: 256 whole parts + index
        return torch.as_tensor(self.offsets).to(torch.int32) * 256 + indexes

    @property
    def means(self) -> Tensor | float:
        """The offsets: a whole number is subtracted, rounding does not notice."""
        return self.offsets


@dataclass(eq=False)
class Shifted(Whole):
    """Normal distributions of plain integers, ``mean`` and ``index`` (B, C, h, w)."""

    mean: Tensor
    index: Tensor
    tables: TableSet | None = None

    @property
    def device(self) -> torch.device:
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
        return self.placed[1]

    def bits(self, v: Tensor) -> Tensor:
        """Under the continuous densities."""
        far = (v.float() - (self.mean.float() - self.offsets)).abs()
        # What escapes cost; a floor instead would give outliers no gradient.
        rest = TAIL * torch.exp(-far / TAIL_REACH)
        mass = normal_mass(far, sigma_of(self.index))
        return -torch.log2(mass * (1 - RARE) + rest)


@dataclass(eq=False)
class Placed(Whole):
    """`Shifted` on its grids: ``whole`` float and ``table`` uint8, (B, C, h, w)."""

    whole: Tensor
    table: Tensor
    tables: TableSet | None

    @property
    def device(self) -> torch.device:
        return self.whole.device

    @property
    def offsets(self) -> Tensor:
        return self.whole

    def indexes(self, shape: Shape) -> Tensor:
        return self.table

    def bits(self, v: Tensor) -> Tensor:
        """By the integer tables, no gradient."""
        return self.table_bits(v.detach()).float()


def shifted_tables(counts: np.ndarray | None = None) -> TableSet:
    """The 256 tables; run once, at export, and stored.

    ``counts`` (256, 2 REACH + 3): how often each symbol met each table, the ends
    holding all beyond (`statistics`); the densities are then those frequencies
    with PSEUDO_COUNTS of the normal one.
    """
    pmfs, minimum, escape = [], [], []
    for k in range(SCALES * PLACES):
        sigma = SIGMA_MIN * math.exp(k // PLACES * STEP)
        density = normal_pmf((k % PLACES - PLACES // 2) / PLACES, sigma, REACH)
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
