# SPDX-License-Identifier: Apache-2.0
"""The scales that priors choose from, and densities of values under them.

    σ(index) = 0.11 · e^(index · step),   index 0 … 63,   σ = 0.11 … 64

A network emits the index itself, a float while training: no logarithm and no comparison
of floats stands between it and the range coder.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

SCALE_MIN, SCALE_MAX, SCALE_BINS = 0.11, 64.0, 64  # BITSTREAM
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_BINS - 1)
LIKELIHOOD_FLOOR = 1e-9


class _Clamp(torch.autograd.Function):
    """Clamp whose gradient still passes when it points back into the range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        blocked = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(blocked, 0.0), None, None


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; gradients that lead back inside are kept."""
    return _Clamp.apply(x, low, high)


def normal_mass(far: Tensor, sigma: Tensor) -> Tensor:
    """Probability that a normal variable rounds to a value at distance ``far`` >= 0.

    Φ((½ - far)/σ) - Φ((-½ - far)/σ): on that side of the mean both terms keep their
    digits.
    """
    upper = torch.special.ndtr((0.5 - far) / sigma)
    return upper - torch.special.ndtr((-0.5 - far) / sigma)


def sigma_of(index: Tensor) -> Tensor:
    """Deviations of continuous scale indexes; beyond the ends those of the ends."""
    return SCALE_MIN * torch.exp(soft_clamp(index, 0.0, SCALE_BINS - 1.0) * LOG_STEP)


def bin_of(index: Tensor) -> Tensor:
    """The scale, uint8 in 0 … 63, next to a continuous index."""
    return torch.floor(index + 0.5).clamp(0, SCALE_BINS - 1).to(torch.uint8)
