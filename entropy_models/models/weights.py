# SPDX-License-Identifier: Apache-2.0
"""Weights of a network: every tensor under a normal distribution of its own.

    codes c (P,) of T tensors     c = w / step, rounded
    per tensor   bin      of its deviation, of the 64 of `scales`
                 mean     in sixteenths of that deviation
                 spike    share of codes that are zero beyond it, in sixteenths

    rows of T numbers ── each row under a normal distribution, sent before it
    codes ── N(mean, deviation), or spike · [0] + (1 - spike) · N of the others

Mean and deviation are those of the codes, and the coder has the very numbers that
training counted with: consistent entropy minimization (Zhang et al. 2024,
arXiv 2402.18152, section 3.4). Here they are in the stream, on grids, where the authors
count 32 bits each; two densities are tried for a tensor, and the cheaper one is taken:
one normal, or for pruned tensors one with a spike. Left out: their Laplace option.

The deviation is of c² with mean² / n added: of a tensor of few values, of which one
mean would say all, the values say themselves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import ScaleSet, TableSet
from polycodec.cuda.priors.categorical import LOGIT_UNIT
from polycodec.cuda.priors.mixture import MEAN_UNIT
from polycodec.entropy_models.base import Coder, EntropyModel, Shape
from polycodec.entropy_models.priors.categorical import Indexed
from polycodec.entropy_models.priors.mixture import Mixture, scale_set
from polycodec.entropy_models.priors.scales import (
    LOG_STEP,
    SCALE_BINS,
    SCALE_MIN,
    soft_clamp,
)
from polycodec.registry import register

MEANS = 16  # BITSTREAM: steps of a mean in a deviation, about
SHARES = 16  # BITSTREAM: steps of the share of zeros
HEAD_BINS = 32, 49  # BITSTREAM: mean, and bin of the deviation, of a row's own bin
HEAD_MEANS = 0, 63  # BITSTREAM: the same of its own mean
WIDTHS = 64, 63  # BITSTREAM: the same of a width
LEAST = 1e-5  # deviation
WORTH = 8  # bits that a spike must save
# log2 of shares k / 16, on the grid of the coder; 0 is never used.
LOG_SHARES = [
    round(LOGIT_UNIT * math.log2(max(k, 1) / SHARES)) / LOGIT_UNIT
    for k in range(SHARES + 1)
]


@functools.cache
def _bytes() -> TableSet:
    """One table of 256 equal parts."""  # BITSTREAM
    return TableSet.from_pmfs([np.ones(256)], minimum=[0], precision=8)


# Codes the T numbers of a row, or reads them: (value (1, T) or None, T) -> (1, T).
Numbers = Callable[[Tensor | None, int], Tensor]


class Weights(Mixture):
    """A mixture whose values are whole already: nothing is saved by changing one."""

    thrifty = False


@register("entropy/weights")
class WeightsModel(EntropyModel):
    """Codes of T tensors in one row (1, 1, P).

    ``size`` of `code` is (1, n_1, …, n_T), the numbers of values of the tensors.
    """

    units: Tensor
    shares: Tensor
    codes = "weights of networks"

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        scales = scale_set()
        self.tables = {"scales": scales}
        # Of a mean, in 1/64, by the bin of its deviation: 4 σ of the coder's integers.
        unit = [max(1, (1 << 23) * 4 // MEANS // int(r)) for r in scales.reciprocal]
        self.register_buffer("units", torch.tensor(unit).float(), persistent=False)
        shares = torch.tensor(LOG_SHARES)
        self.register_buffer("shares", shares, persistent=False)

    def update(self) -> None:
        """Nothing to build: the scales are there from the start."""
        return

    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        rate: Any = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`EntropyModel.code`; y (1, 1, P), P the sum of the sizes.

        z: the spikes (1, 1, T) in 1/16, zeros for one normal density each, as training
        counts; unless given, `spikes` of y.
        """
        lengths, values = size[1:], None if y is None else y[0]
        row: Tensor | None = None
        if values is not None:
            row = (self.spikes(values, lengths) if z is None else z[0]).float()
        row = self.row(coder, row, len(lengths)).clamp(0, SHARES - 1)

        def numbers(value: Tensor | None, count: int) -> Tensor:
            return self.row(coder, value, count)

        means, bins = self._described(values, row, lengths, numbers)
        owner = self._owners(lengths)
        out = torch.zeros(1, sum(lengths), device=self.units.device)
        for spiked in (False, True):
            at = ((row[0, owner] > 0) == spiked).nonzero().flatten()
            if len(at):
                own = owner[at]
                prior = self._prior(means[:, own], bins[:, own], row[:, own], spiked)
                value = None if values is None else values[:, at]
                out = out.index_copy(1, at, coder.code(value, prior, (1, len(at))))
        return out[None]

    def number(self, coder: Coder, value: Tensor | None) -> Tensor:
        """Code a whole number above 0, (1, 1), that is below 200 as a rule."""
        return self._fixed(coder, value, WIDTHS)

    def octets(self, coder: Coder, row: Tensor | None, count: int) -> Tensor:
        """Code bytes, (1, count) of 0 … 255, at 8 bits each."""
        index = torch.zeros(1, 1, dtype=torch.int32, device=self.units.device)
        return coder.code(row, Indexed(_bytes(), index), (1, count))

    @torch.no_grad()
    def spikes(self, values: Tensor, lengths: Shape) -> Tensor:
        """Zeros beyond the normal density, (1, T) in 1/16 of a tensor, of codes (1, P).

        Where a density with a spike costs fewer bits than the normal one; 0 elsewhere.
        """
        share, normal, spiked = self._costs(values, lengths)
        return torch.where(spiked + WORTH < normal, share, 0.0)

    @torch.no_grad()
    def bits(self, values: Tensor, lengths: Shape) -> Tensor:
        """What codes (1, P) of each tensor cost, (T,), under the cheaper density."""
        _, normal, spiked = self._costs(values, lengths)
        return torch.minimum(normal, spiked + WORTH)[0]

    def _costs(self, values: Tensor, lengths: Shape) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes that tensors could have, and bits without and with them; (1, T)."""
        codes, owner = torch.round(values), self._owners(lengths)
        zeros = self._sums((codes == 0).float(), lengths)
        share = torch.round(SHARES * zeros / self._counts(lengths))
        share = share.clamp(1, SHARES - 1)

        def rounded(value: Tensor | None, count: int) -> Tensor:
            assert value is not None
            return torch.round(value)

        costs = []
        for row, spiked in ((torch.zeros_like(share), False), (share, True)):
            means, bins = self._described(codes, row, lengths, rounded)
            own = means[:, owner], bins[:, owner], row[:, owner]
            costs.append(self._sums(self._prior(*own, spiked).bits(codes), lengths))
        return share, costs[0], costs[1]

    def row(self, coder: Coder, row: Tensor | None, count: int) -> Tensor:
        """Code T numbers (1, T) under a normal density that is sent before them."""
        heads = iter((HEAD_BINS, HEAD_MEANS))

        def numbers(value: Tensor | None, count: int) -> Tensor:
            return self._fixed(coder, value, next(heads))

        means, bins = self._described(row, None, (count,), numbers)
        prior = self._prior(means.expand(1, count), bins.expand(1, count))
        return coder.code(row, prior, (1, count))

    def _fixed(
        self, coder: Coder, value: Tensor | None, head: tuple[int, int]
    ) -> Tensor:
        """Code one number (1, 1) under a normal density that is always the same."""
        mean, index = (torch.full_like(self.units[None, :1], n) for n in head)
        return coder.code(value, self._prior(mean * MEAN_UNIT, index), (1, 1))

    def _described(
        self,
        values: Tensor | None,
        spikes: Tensor | None,
        lengths: Shape,
        numbers: Numbers,
    ) -> tuple[Tensor, Tensor]:
        """Means in 1/64 and bins of T tensors, (1, T), as ``numbers`` codes them.

        Zeros of a tensor with a spike do not count.
        """
        bins = means = deviation = None
        if values is not None:
            owner, weight = self._owners(lengths), torch.ones_like(values)
            if spikes is not None:
                zero = (spikes[:, owner] > 0) & (torch.round(values) == 0)
                weight = weight.masked_fill(zero, 0.0)
            count = self._sums(weight, lengths).clamp_min(1)
            means = self._sums(weight * values, lengths) / count
            square = weight * (values - means[:, owner]).square()
            square = (self._sums(square, lengths) + means.square()) / count
            deviation = (square + LEAST**2).sqrt()
            bins = torch.log(deviation / SCALE_MIN) / LOG_STEP
            bins = soft_clamp(bins, 0.0, SCALE_BINS - 1.0)
        bins = numbers(bins, len(lengths))
        at = bins.detach().clamp(0, SCALE_BINS - 1).long()
        unit = self.units[at]
        if means is not None:
            means = means * MEAN_UNIT / unit
        return numbers(means, len(lengths)) * unit, bins

    def _prior(
        self,
        means: Tensor,
        bins: Tensor,
        spikes: Tensor | None = None,
        spiked: bool = False,
    ) -> Weights:
        """Densities of values: (1, n) means in 1/64, bins, and spikes if ``spiked``."""
        scales = self.tables["scales"]
        assert isinstance(scales, ScaleSet)
        centre, index = means[:, None] / MEAN_UNIT, bins[:, None]
        logits = torch.zeros_like(centre)
        if spiked:
            assert spikes is not None
            share = spikes.long()[:, None]
            logits = self.shares[torch.cat([SHARES - share, share], 1)]
            centre = torch.cat([centre, torch.zeros_like(centre)], 1)
            index = torch.cat([index, torch.zeros_like(index)], 1)
        return Weights(centre, index, logits, scales)

    def _owners(self, lengths: Shape) -> Tensor:
        """The tensor that each of the P values belongs to, (P,) int64."""
        counts = torch.tensor(lengths, device=self.units.device)
        return torch.repeat_interleave(counts)

    def _counts(self, lengths: Shape) -> Tensor:
        return torch.tensor(lengths, device=self.units.device).float()[None]

    def _sums(self, values: Tensor, lengths: Shape) -> Tensor:
        """Sums (1, T) over each tensor of values (1, P)."""
        zero = torch.zeros(1, len(lengths), device=values.device)
        return zero.index_add(1, self._owners(lengths), values)
