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

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.priors.gaussian import soft_clamp

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


@dataclass
class Shifted:
    """Normal distributions of plain integers, ``means`` and ``index`` (B, C, h, w)."""

    mean: Tensor
    index: Tensor
    tables: TableSet | None = None
    fixed = False  # computed: their hash travels with the stream
    plain = True  # values are rounded to the nearest, whatever that costs

    @property
    def device(self) -> torch.device:
        """Where decoded values are wanted."""
        return self.mean.device

    @property
    def offsets(self) -> Tensor:
        """Whole parts of the means: what the symbols are counted from."""
        return place(self.mean.detach(), self.index.detach())[0]

    means = offsets  # a whole number is subtracted: rounding does not notice

    def indexes(self, shape: tuple[int, ...]) -> Tensor:
        """The table of every element, uint8 (B, C, h, w)."""
        return place(self.mean, self.index)[1]

    def bits(self, v: Tensor) -> Tensor:
        """Bits of ``v``, values less their offsets, under the continuous density."""
        far = (v.float() - (self.mean.float() - self.offsets)).abs()
        sigma = sigma_of(self.index)
        upper = torch.special.ndtr((0.5 - far) / sigma)
        lower = torch.special.ndtr((-0.5 - far) / sigma)
        # What escapes cost; a floor instead would give outliers no gradient.
        rest = TAIL * torch.exp(-far / TAIL_REACH)
        return -torch.log2((upper - lower) * (1 - RARE) + rest)


@dataclass
class Placed:
    """`Shifted` on its grids: ``offsets`` float and ``table`` uint8, (B, C, h, w)."""

    offsets: Tensor
    table: Tensor
    tables: TableSet
    fixed, plain = False, True

    @property
    def device(self) -> torch.device:
        """Where decoded values are wanted."""
        return self.offsets.device

    def indexes(self, shape: tuple[int, ...]) -> Tensor:
        """The table of every element."""
        return self.table


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


class ShiftedCounter:
    """A coder that codes nothing: it counts which symbols meet which table."""

    def __init__(self) -> None:
        self.counts = np.zeros((SCALES * PLACES, 2 * REACH + 3), np.int64)

    def code(self, value: Tensor, prior: Shifted, shape: tuple[int, ...]) -> Tensor:
        """Count ``value`` of ``shape`` (B, C, h, w); return it rounded."""
        rounded = torch.round(value.float())
        symbol = (rounded - prior.offsets).clamp(-REACH - 1, REACH + 1).long()
        slot = symbol + REACH + 1 + self.counts.shape[1] * prior.indexes(shape).long()
        found = torch.bincount(slot.flatten(), minlength=self.counts.size)
        self.counts += found.cpu().numpy().reshape(self.counts.shape)
        return rounded
