# SPDX-License-Identifier: Apache-2.0
"""Latent quantization: every dimension snaps to a few learned values of its own.

    y = 0.6 tanh(A z)  (n numbers);   i_j = argmin_m |y_j - v_jm|;   ẑ = B (v_j,i_j)_j
    loss = 0.01 mean_j (sg(y_j) - v_j,i_j)² + 0.01 mean_j (y_j - sg(v_j,i_j))²

Each dimension is one level with its own table of ``values``: the entropy model gives
each its own statistics, which are far from uniform. Dimensions are ordered by how
much they carry, so the first few are a lower rate. A value used by less than 0.1 % of
the rows moves to a random row. Hsu et al. 2023, "Disentanglement via latent
quantization" (arXiv 2305.18378).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import (
    Quantized,
    Quantizer,
    flatten,
    straight_through,
    unflatten,
)
from polycodec.codecs.quantizers.projected import (
    project_on_principal,
    solve_outward,
)
from polycodec.registry import register

RANGE = 0.6  # tanh keeps y inside, a little beyond the outermost values at ±0.5
SPREAD = 0.9  # of the projected rows before tanh: then they are nearly uniform
DEAD = 1e-3  # share of the rows below which a value moves
DECAY = 0.99


@register("quantizer/latent")
class LatentQuantizer(Quantizer):
    """``dimensions`` scalars of ``values`` learned values each.

    ``codebook`` and ``commitment`` weigh the two losses. The paper trains with weight
    decay 0.1 everywhere but on the table of values.
    """

    shares: Tensor

    def __init__(
        self,
        channels: int,
        *,
        dimensions: int = 20,
        values: int = 8,
        codebook: float = 0.01,
        commitment: float = 0.01,
    ) -> None:
        super().__init__()
        self.channels, self.weights = channels, (codebook, commitment)
        self.sizes = (values,) * dimensions
        self.inward = nn.Linear(channels, dimensions)
        self.outward = nn.Linear(dimensions, channels)
        grid = torch.linspace(-0.5, 0.5, values)
        self.values = nn.Parameter(grid.repeat(dimensions, 1))
        self.register_buffer("shares", torch.full((dimensions, values), 1 / values))

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """See :meth:`Quantizer.quantized`; dimensions that are not active are zero."""
        batch, rows = z.shape[0], flatten(z)
        levels = torch.arange(self.levels, device=z.device)
        used = (active[:, None] > levels).repeat_interleave(len(rows) // batch, 0)
        y = self._narrow(rows)
        index = self._choose(y.detach())
        value = self._look_up(index)
        codebook = (y.detach() - value).square() * used
        commitment = (y - value.detach()).square() * used
        loss = self.weights[0] * codebook + self.weights[1] * commitment
        loss = loss.sum(1).view(batch, -1).mean(1) / active.clamp_min(1)
        if self.training:
            self._follow(y.detach(), index, used)
        wide = self.outward(straight_through(y, value) * used)
        codes = unflatten(torch.where(used, index, -1), z)
        return Quantized(unflatten(wide, z), codes, loss)

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        index = self._choose(self._narrow(flatten(z)))
        return unflatten(index[:, : self.count_of(levels)], z)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        self.check_codes(codes)
        index = codes.flatten(2).transpose(1, 2).reshape(-1, codes.shape[1])
        value = index.new_zeros(len(index), self.levels).to(self.values)
        value[:, : codes.shape[1]] = self._look_up(index)
        return unflatten(self.outward(value), codes[:, :1])

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Principal components of z (N, D), values at their quantiles."""
        rows = z.float()
        project_on_principal(self.inward, rows, SPREAD)
        y = self._narrow(rows)
        count = self.values.shape[1]
        ranks = ((torch.arange(count) + 0.5) / count * len(y)).long().to(y.device)
        self.values.copy_(y.sort(0).values[ranks].T)
        solve_outward(self.outward, self._look_up(self._choose(y)), rows)

    def _narrow(self, rows: Tensor) -> Tensor:
        return torch.tanh(self.inward(rows)) * RANGE

    def _choose(self, y: Tensor) -> Tensor:
        """Indexes (N, n) of the nearest values; rows of values need no order."""
        return (y[:, :, None] - self.values).abs().argmin(2)

    def _look_up(self, index: Tensor) -> Tensor:
        """Values (N, l) of the indexes (N, l) of the first l dimensions."""
        values = self.values[: index.shape[1]]
        return values.T.gather(0, index)

    @torch.no_grad()
    def _follow(self, y: Tensor, index: Tensor, used: Tensor) -> None:
        """Running shares of each value; one that is dead moves to a random row."""
        dimensions, count = self.shares.shape
        flat = (index + torch.arange(dimensions, device=index.device) * count)[used]
        seen = torch.bincount(flat, minlength=dimensions * count)
        seen = seen.view_as(self.shares).to(self.shares)
        rows = seen.sum(1, keepdim=True)
        share = torch.where(rows > 0, seen / rows.clamp_min(1), self.shares)
        self.shares.lerp_(share, 1 - DECAY)
        dead = (self.shares < DEAD).nonzero()
        if len(dead):
            picked = torch.randint(len(y), (len(dead),), device=y.device)
            self.values[dead[:, 0], dead[:, 1]] = y[picked, dead[:, 0]]
            self.shares[dead[:, 0], dead[:, 1]] = 1 / count
