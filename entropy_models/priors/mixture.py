# SPDX-License-Identifier: Apache-2.0
"""Mixtures of Gaussians with fractional means: floats to train, integers to code.

    p(v) = sum_j w_j (Φ((v + ½ - m_j) / σ_j) - Φ((v - ½ - m_j) / σ_j)),   j = 1 … K <= 4

    training   means, continuous scale indexes, log2 of weights   differentiable
    coding     means in 1/64, scale bins, weights in 1/256        polycodec.cuda.Mixture

Values are rounded to whole numbers, not around a mean: several means leave no single
one to subtract. What a network emits for the weights is log2 in 1/32 bit; integers make
weights of it (`shares`), so that the only floats that a decoder depends on are values
on grids. Cheng, Sun, Takeuchi, Katto 2020 (arXiv 2001.01568).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from polycodec import cuda
from polycodec.cuda import BatchMixture, ScaleSet
from polycodec.cuda.priors.categorical import LOGIT_UNIT, POWERS
from polycodec.cuda.priors.mixture import MEAN_LIMIT, MEAN_UNIT, WEIGHT_UNIT
from polycodec.entropy_models.base import DistributionPrior
from polycodec.entropy_models.priors.scales import (
    LIKELIHOOD_FLOOR,
    LOG_STEP,
    SCALE_BINS,
    SCALE_MIN,
    bin_of,
    normal_mass,
    sigma_of,
)

LOGIT_LIMIT = 1 << 15  # in 1/32 bit


def scale_set() -> ScaleSet:
    """The 64 scales of `Gaussian` for mixtures; run once, at export, and stored."""
    return ScaleSet.from_scales(SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP))


def weights_of(logits: Tensor, least: int = 1) -> Tensor:
    """Weights (B, K, ...) int64 that sum to 256; polycodec.cuda.shares for tensors.

    logits: (B, K, ...) int64, log2 in 1/32 bit. ``least``: 1, of each weight; or 0:
    components below about 1/512 do not count, so what is nearly sure costs nothing.
    """
    d = logits.amax(dim=1, keepdim=True) - logits
    whole = torch.div(d, LOGIT_UNIT, rounding_mode="floor")
    powers = torch.from_numpy(POWERS.astype(np.int64)).to(d.device)
    e = powers[d - LOGIT_UNIT * whole] >> whole.clamp(max=31)
    sums, rest = e.cumsum(dim=1), WEIGHT_UNIT - least * logits.shape[1]
    half = (1 - least) * (sums[:, -1:] >> 1)  # with 0: rounded, else rounded down
    below = torch.div(sums * rest + half, sums[:, -1:], rounding_mode="floor")
    first = torch.zeros_like(below[:, :1])
    return below.diff(dim=1, prepend=first) + least


@dataclass(eq=False)
class Mixture(DistributionPrior):
    """Mixtures of K Gaussians for (B, C, h, w) values.

    centres: (B, K, C, h, w) float, the components' means, in symbols
    index:   (B, K, C, h, w) float, scale 0.11 · e^(index · step) as of `Gaussian`
    logits:  (B, K, C, h, w) float, log2 of the weights, of any offset
    scales:  what codes them (`scale_set`), stored with the weights; None: training
    sure:    (B, C, h, w), where the value is `whole`; None: nowhere
    least:   of each weight that is coded with, see `weights_of`
    """

    centres: Tensor
    index: Tensor
    logits: Tensor
    scales: ScaleSet | None = None
    sure: Tensor | None = None
    least: int = 1
    hashed = True
    thrifty = True

    @property
    def device(self) -> torch.device:
        return self.centres.device

    @cached_property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means int32, scale bins uint8, weights int16, (B, K, C·h·w) on the grids."""
        means = torch.floor(self.centres * MEAN_UNIT + 0.5)
        means = means.clamp(-MEAN_LIMIT, MEAN_LIMIT).to(torch.int32)
        bins = bin_of(self.index)
        if self.sure is not None:
            sure = self.sure.unsqueeze(1)
            means = torch.where(sure, MEAN_UNIT * self.whole.unsqueeze(1), means)
            means, bins = means.to(torch.int32), bins.masked_fill(sure, 0)
        logits = torch.floor(self.logits * LOGIT_UNIT + 0.5)
        logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT - 1).to(torch.int64)
        weights = weights_of(logits, self.least).to(torch.int16)
        means, bins = means.flatten(2).contiguous(), bins.flatten(2).contiguous()
        return means, bins, weights.flatten(2).contiguous()

    @property
    def whole(self) -> Tensor:
        """The whole number next to the first mean, int32 (B, C, h, w)."""
        mean = torch.floor(self.centres[:, 0].detach() + 0.5)
        return mean.clamp(-MEAN_LIMIT // MEAN_UNIT, MEAN_LIMIT // MEAN_UNIT).int()

    def certain(self, where: Tensor) -> Mixture:
        """See :meth:`Prior.certain`: of `whole`, for a hundredth of a percent of a bit.

        Every window of the coder has an escape, which keeps its slot.
        """
        return dataclasses.replace(self, sure=where)

    def settled(self, value: Tensor) -> Tensor:
        if self.sure is None:
            return value
        return value.where(~self.sure, self.whole.to(value.dtype))

    @property
    def centre(self) -> Tensor:
        """The whole number next to the mean of each mixture, (B, C, h, w)."""
        weights = torch.softmax(self.logits * math.log(2), dim=1)
        return torch.round((weights * self.centres).sum(dim=1)).detach()

    def distributions(self) -> list[cuda.Mixture]:
        """What codes the values of each item of the batch, on the host."""
        rows = zip(*(part.cpu().numpy() for part in self.parameters), strict=True)
        return [cuda.Mixture(self._frozen, *row) for row in rows]

    def on_device(self) -> BatchMixture:
        """What codes the values of all items where they lie."""
        return BatchMixture(self._frozen, *self.parameters)

    def bits(self, v: Tensor) -> Tensor:
        """Bits of values ``v`` (B, C, h, w) under the continuous densities."""
        far = (v.float().unsqueeze(1) - self.centres.float()).abs()
        mass = normal_mass(far, sigma_of(self.index.float()))
        weights = torch.softmax(self.logits.float() * math.log(2), dim=1)
        p = (weights * mass).sum(dim=1)
        bits = -torch.log2(p.clamp_min(LIKELIHOOD_FLOOR))
        return bits if self.sure is None else bits.masked_fill(self.sure, 0.0)

    @property
    def _frozen(self) -> ScaleSet:
        assert self.scales is not None, "the model has no scales yet"
        return self.scales
