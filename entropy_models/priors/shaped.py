# SPDX-License-Identifier: Apache-2.0
"""Generalised normal distributions: a mean, a scale, and how heavy the tails are.

    p(x) ∝ exp( -(|x - mean| / a)^β ),    β = 2 normal, 1 Laplace, below that heavier

Latents of photographs have heavier tails than a normal density of equal deviation; a
network that says how heavy codes them in fewer bits. Zhang et al. 2024, "Generalized
Gaussian model for learned image compression" (arXiv 2411.19320). Here β is one of four,
so that 256 integer tables code every element; while training, densities of the two next
ones are mixed, which is differentiable in all three numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Counter, Prior
from polycodec.entropy_models.priors.density import Density, Tables
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.scales import (
    LIKELIHOOD_FLOOR,
    LOG_STEP,
    SCALE_BINS,
    SCALE_MIN,
    bin_of,
    sigma_of,
    soft_clamp,
)
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.entropy_models.priors.tables import LARGEST, even_tables
from polycodec.registry import register

BETAS = (0.7, 1.0, 1.4, 2.0)  # BITSTREAM
# The width a of deviation 1 for each β: sqrt(Γ(1/β) / Γ(3/β)).
WIDTHS = tuple(math.sqrt(math.gamma(1 / b) / math.gamma(3 / b)) for b in BETAS)
NEAREST = 1e-6  # the root of zero has no gradient


def above(edge: Tensor, beta: Tensor, width: Tensor) -> Tensor:
    """Probability of more than ``edge``; far edges keep their digits."""
    power = (edge.abs().clamp_min(NEAREST) / width) ** beta
    half = 0.5 * torch.special.gammaincc(1 / beta, power)
    return torch.where(edge < 0, 1 - half, half)


def shaped_mass(far: Tensor, sigma: Tensor, shape: Tensor) -> Tensor:
    """Probability of a value at distance ``far`` >= 0 of the mean.

    shape: whole numbers, which of BETAS; all of one size.
    """
    shape = shape.long()
    beta = torch.tensor(BETAS, dtype=far.dtype, device=far.device)[shape]
    width = torch.tensor(WIDTHS, dtype=far.dtype, device=far.device)[shape] * sigma
    return above(far - 0.5, beta, width) - above(far + 0.5, beta, width)


@dataclass(eq=False)
class Shaped(Gaussian):
    """Generalised normal distributions; ``shape``: continuous, 0 … 3, as ``index``."""

    shape: Tensor = None  # type: ignore[assignment]  # behind fields with defaults

    @cached_property
    def bins(self) -> Tensor:
        """The table of every element, uint8: 64 shape + scale."""
        shape = torch.floor(self.shape.detach() + 0.5).clamp(0, len(BETAS) - 1)
        bins = shape.to(torch.uint8) * SCALE_BINS + bin_of(self.index.detach())
        return self.unless_sure(bins)

    def bits(self, v: Tensor) -> Tensor:
        far, sigma = v.float().abs(), sigma_of(self.index.float())
        shape = soft_clamp(self.shape.float(), 0.0, len(BETAS) - 1.0)
        low = shape.detach().floor().clamp(max=len(BETAS) - 2)
        mixed = torch.lerp(
            shaped_mass(far, sigma, low),
            shaped_mass(far, sigma, low + 1),
            shape - low,
        )
        return self.unless_sure(-torch.log2(mixed.clamp_min(LIKELIHOOD_FLOOR)))


def shaped_tables(counts: np.ndarray | None = None) -> TableSet:
    """The 256 tables, P = 12; run once, at export. ``counts``: as `gaussian_tables`."""
    far = torch.arange(LARGEST + 2, dtype=torch.float64)
    densities = []
    for shape in range(len(BETAS)):
        for k in range(SCALE_BINS):
            sigma = torch.full_like(far, SCALE_MIN * math.exp(k * LOG_STEP))
            mass = shaped_mass(far, sigma, torch.full_like(far, shape)).numpy()
            mass[-1] = max(0.5 - mass[0] / 2 - mass[1:-1].sum(), 0.0)  # the tail
            densities.append(np.concatenate([mass[:0:-1], mass]))
    return even_tables(densities, counts)


@register("prior/shaped")
class ShapedDensity(Density):
    """A mean, a scale and one of four shapes, rounded around the mean."""

    outputs = 3

    def of(self, raw: Tensor, tables: Tables | None) -> Prior:
        mean, index, shape = raw.chunk(3, dim=1)
        assert tables is None or isinstance(tables, TableSet)
        return Shaped(mean, index, tables, shape=shape)

    def doubt(self, raw: Tensor) -> Tensor:
        return raw.chunk(3, dim=1)[1]

    def start(self, index: Tensor) -> Tensor:
        zero = torch.zeros_like(index)
        return torch.cat([zero, index, zero + 2.5])  # near normal

    def tables(self, counter: Counter | None = None) -> Tables:
        assert counter is None or isinstance(counter, TableCounter)
        return shaped_tables(None if counter is None else counter.counts)

    def counter(self) -> Counter:
        return TableCounter(Shaped, len(BETAS) * SCALE_BINS, LARGEST)
