# SPDX-License-Identifier: Apache-2.0
"""Residual levels that look at a few dimensions each, through learned projections.

    r₀ = z;   y = bound(A_l r_l);   i_l = choose(y);   r_{l+1} = r_l - B_l point(i_l)
    ẑ = Σ B_l point(i_l)            A_l: D -> d,  B_l: d -> D,  d of 2 … 16

Look-ups in few dimensions keep every code in use without running means or restarts;
gradients pass straight through the choice, in the d dimensions. What "choose" and
"point" are is the subclass's: learned directions (`factorized`), a grid (`finite`).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import (
    Level,
    ResidualChain,
    flatten,
    straight_through,
    unflatten,
)

RIDGE = 1e-4  # of the mean variance, for least squares


class Stage(Level):
    """One level: two projections, and the choice between them."""

    size: int
    spread = 1.0  # deviation that `fit` gives the d dimensions
    white = True  # to each of them, or to all in common

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inward = nn.Linear(channels, width)
        self.outward = nn.Linear(width, channels)

    def bound(self, y: Tensor) -> Tensor:
        """Keep projected rows (N, d) in the range of the codes."""
        return y

    @abc.abstractmethod
    def choose(self, y: Tensor) -> Tensor:
        """Codes (N,) of bounded rows (N, d)."""

    def assign(self, y: Tensor) -> Tensor:
        """Codes (N,) of a training batch: those of `choose`, unless overridden."""
        return self.choose(y)

    @abc.abstractmethod
    def point(self, index: Tensor) -> Tensor:
        """What codes (N,) stand for in d dimensions, (N, d)."""

    def loss(self, y: Tensor, point: Tensor) -> Tensor:
        """What ties rows and points together, (N,); none unless overridden."""
        return y.new_zeros(len(y))

    def start(self, y: Tensor) -> None:
        """Start the codes from bounded rows (N, d); nothing unless overridden."""

    def forward(self, rows: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.bound(self.inward(rows))
        index = (self.assign if self.training else self.choose)(y.detach())
        point = self.point(index)
        step = self.outward(straight_through(y, point))
        return step, index, self.loss(y, point)

    def decode(self, index: Tensor) -> Tensor:
        return self.outward(self.point(index))

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Project on the directions of most variance; back by least squares."""
        project_on_principal(self.inward, rows, self.spread, self.white)
        y = self.bound(self.inward(rows))
        self.start(y)
        solve_outward(self.outward, self.point(self.choose(y)), rows)


@torch.no_grad()
def project_on_principal(
    layer: nn.Linear, rows: Tensor, spread: float, white: bool = True
) -> None:
    """Make ``layer`` give the principal components of rows (N, D), most first.

    white: each has the deviation ``spread``; else their root mean square has, and
    distances keep their proportions.
    """
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((rows - mean).T.double()))
    count = layer.out_features
    variances = variances.flip(0)[:count].clamp_min(1e-12)
    if not white:
        variances = variances.mean().expand_as(variances)
    weight = directions.flip(1)[:, :count].T * (spread / variances.sqrt())[:, None]
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean.double())


@torch.no_grad()
def solve_outward(layer: nn.Linear, points: Tensor, rows: Tensor) -> None:
    """Make ``layer`` the best linear map of points (N, d) to rows (N, D)."""
    points, rows = points.double(), rows.double()
    centre, mean = points.mean(0), rows.mean(0)
    p = points - centre
    gram = p.T @ p
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-12)
    weight = torch.linalg.solve(gram, p.T @ (rows - mean)).T
    layer.weight.copy_(weight)
    layer.bias.copy_(mean - weight @ centre)


class ProjectedQuantizer(ResidualChain):
    """The residual loop around ``stages``; subclasses make them."""

    def __init__(self, channels: int, stages: Sequence[Stage]) -> None:
        super().__init__(channels)
        self.stages = nn.ModuleList(stages)
        self.sizes = tuple(stage.size for stage in stages)

    @property
    def chain(self) -> list[Stage]:
        """The stages, in the order of the levels."""
        return [cast(Stage, stage) for stage in self.stages]

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        left, planes = flatten(z), []
        for stage in self.chain[: self.count_of(levels)]:
            index = stage.choose(stage.bound(stage.inward(left)))
            left = left - stage.decode(index)
            planes.append(unflatten(index[:, None], z))
        return torch.cat(planes, 1)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Fit each level to what the levels before it leave of z (N, D)."""
        left = z.float()
        for stage in self.chain:
            stage.fit(left)
            left = left - stage.decode(stage.choose(stage.bound(stage.inward(left))))
