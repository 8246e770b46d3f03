# SPDX-License-Identifier: Apache-2.0
"""How likely each integer is: small objects made by a network's output.

A prior knows three things: what to subtract before rounding (`means`), how many
bits a value costs while training (`bits`), and which integer table codes it
(`tables`, `indexes`). The coders in `coders.py` need nothing else.

    Gaussian    64 zero-mean tables, log-spaced scales 0.11 … 64, nearest in log;
                the network emits the table index itself: no log, no comparison
                of floats stands between it and the range coder.
    Factorized  one table per channel, learned without a parametric form.

Ballé, Minnen, Singh, Hwang, Johnston 2018 (arXiv 1802.01436), appendix 6.1, and
Minnen, Ballé, Toderici 2018 (arXiv 1809.02736).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from polycodec.cuda import TableSet
    from polycodec.entropy_models.priors.factorized import FactorizedPrior

SCALE_MIN, SCALE_MAX, SCALE_BINS = 0.11, 64.0, 64  # BITSTREAM
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_BINS - 1)
MEAN_GRID = 16  # BITSTREAM: means are multiples of 1/16
MEAN_LIMIT = 2**15  # in grid units
LIKELIHOOD_FLOOR = 1e-9


class _Clamp(torch.autograd.Function):
    """Clamp whose gradient still passes when it points back into the range."""

    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        blocked = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(blocked, 0.0), None, None


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; gradients that lead back inside are kept."""
    return _Clamp.apply(x, low, high)


def gaussian_bits(v: Tensor, index: Tensor) -> Tensor:
    """Bits of values at distance ``v`` from the mean under scale ``index``.

    p(v) = Φ((½ - |v|)/σ) - Φ((-½ - |v|)/σ),   σ = 0.11 · e^(index · step)
    """
    sigma = SCALE_MIN * torch.exp(soft_clamp(index, 0.0, SCALE_BINS - 1.0) * LOG_STEP)
    v = v.abs()
    upper = torch.special.ndtr((0.5 - v) / sigma)
    lower = torch.special.ndtr((-0.5 - v) / sigma)
    return -torch.log2((upper - lower).clamp_min(LIKELIHOOD_FLOOR))


@dataclass
class Gaussian:
    """Normal distributions around ``means`` with table ``index``, both (B, C, h, w)."""

    means: Tensor
    index: Tensor
    tables: TableSet | None = None
    fixed = False  # indexes are computed: their hash travels with the stream

    @property
    def device(self) -> torch.device:
        """Where decoded values are wanted."""
        return self.means.device

    def indexes(self, shape: tuple[int, ...]) -> Tensor:
        """The table of every element, uint8 (B, C, h, w)."""
        return torch.floor(self.index + 0.5).clamp(0, SCALE_BINS - 1).to(torch.uint8)

    @property
    def offsets(self) -> Tensor:
        """Means on their grid: what the decoder adds back, exactly."""
        low, high = -float(MEAN_LIMIT), float(MEAN_LIMIT)
        scaled = torch.floor(self.means * MEAN_GRID + 0.5).clamp(low, high)
        return scaled.float() / MEAN_GRID

    def bits(self, v: Tensor) -> Tensor:
        """Bits of ``v = y - means`` under the continuous density, same shape."""
        return gaussian_bits(v.float(), self.index.float())


@dataclass
class Factorized:
    """One learned distribution per channel of a (B, C, h, w) tensor."""

    model: FactorizedPrior
    tables: TableSet | None = None
    fixed = True  # indexes follow from the shape alone

    @property
    def device(self) -> torch.device:
        """Where decoded values are wanted."""
        return self.model.biases[0].device

    @property
    def means(self) -> float:
        """Zero: values are rounded to plain integers."""
        return 0.0

    @property
    def offsets(self) -> float:
        """Zero, as the means."""
        return 0.0

    def indexes(self, shape: tuple[int, ...]) -> Tensor:
        """The channel number of every element of ``shape`` (B, C, h, w), int32."""
        channels = torch.arange(shape[1], dtype=torch.int32, device=self.device)
        return channels.view(1, -1, 1, 1).expand(shape)

    def bits(self, v: Tensor) -> Tensor:
        """Bits of ``v = z - median``, same shape."""
        return self.model.bits(v.float())
