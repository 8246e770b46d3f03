# SPDX-License-Identifier: Apache-2.0
"""Normal distributions around predicted means, coded by 64 zero-mean tables.

    v = y - mean rounded to 1/16        p(v) = Φ((½ - |v|)/σ) - Φ((-½ - |v|)/σ)

Values are rounded around the mean: a latent becomes its mean plus an integer. Ballé,
Minnen, Singh, Hwang, Johnston 2018 (arXiv 1802.01436), appendix 6.1, and Minnen, Ballé,
Toderici 2018 (arXiv 1809.02736).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Shape, TablePrior
from polycodec.entropy_models.coders import straight_through
from polycodec.entropy_models.priors.scales import (
    LIKELIHOOD_FLOOR,
    bin_of,
    normal_mass,
    sigma_of,
)

MEAN_GRID = 16  # BITSTREAM: means are multiples of 1/16
MEAN_LIMIT = 2**15  # in grid units


@dataclass(eq=False)
class Gaussian(TablePrior):
    """Normal distributions around ``mean`` with scale ``index``, both (B, C, h, w).

    mean: in symbols; index: continuous, see `scales`; both floats.
    """

    mean: Tensor
    index: Tensor
    tables: TableSet | None = None
    sure: Tensor | None = None  # where the value is the mean, whatever the scale
    hashed = True
    thrifty = True

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def means(self) -> Tensor:
        return self.mean

    @cached_property
    def grid(self) -> Tensor:
        """The means as whole multiples of 1/16, float32."""
        scaled = torch.floor(self.mean.detach() * MEAN_GRID + 0.5)
        return scaled.clamp(-MEAN_LIMIT, MEAN_LIMIT).float()

    @property
    def offsets(self) -> Tensor:
        return self.grid / MEAN_GRID

    @cached_property
    def bins(self) -> Tensor:
        """The table of every element, uint8 (B, C, h, w)."""
        return self.unless_sure(bin_of(self.index.detach()))

    def certain(self, where: Tensor) -> Gaussian:
        """See :meth:`Prior.certain`: of the mean, by table 0, which says one symbol."""
        return dataclasses.replace(self, sure=where)

    def settled(self, value: Tensor) -> Tensor:
        if self.sure is None:
            return value
        return value.where(~self.sure, straight_through(self.offsets, self.mean))

    def unless_sure(self, x: Tensor) -> Tensor:
        """x, and 0 where this prior is certain."""
        return x if self.sure is None else x.masked_fill(self.sure, 0)

    def indexes(self, shape: Shape) -> Tensor:
        return self.bins

    def checked(self, indexes: Tensor) -> Tensor:
        # BITSTREAM: 256 means + index
        return self.grid.to(torch.int32) * 256 + indexes

    def bits(self, v: Tensor) -> Tensor:
        """Under the continuous density."""
        mass = normal_mass(v.float().abs(), sigma_of(self.index.float()))
        return self.unless_sure(-torch.log2(mass.clamp_min(LIKELIHOOD_FLOOR)))
