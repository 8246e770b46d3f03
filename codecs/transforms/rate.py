# SPDX-License-Identifier: Apache-2.0
"""One set of weights, every rate: channel scales that depend on the level.

    y_gained = y · g(level)      g(level) = exp( interpolate( log g_k ) )

A level is a float in [0, knots - 1]. Between two knots the logarithms are mixed
linearly, so the rate is continuous. The latent has a gain and an inverse gain (Cui
et al. 2021, "Asymmetric gained deep image compression", arXiv 2003.02012); the same
layer inside a transform lets its features know the rate too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RateScale(nn.Module):
    """Multiply (B, C, h, w) by a learned, level-dependent factor per channel."""

    def __init__(self, channels: int, knots: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(knots, channels))

    def factor(self, level: Tensor) -> Tensor:
        """Factors of ``level`` (B,) in [0, knots - 1]: (B, C, 1, 1)."""
        last = self.log_scale.shape[0] - 1
        level = level.clamp(0, last)
        low = level.floor().clamp(max=max(last - 1, 0)).long()
        mix = (level - low).unsqueeze(1)
        high = (low + 1).clamp(max=last)
        log_scale = torch.lerp(self.log_scale[low], self.log_scale[high], mix)
        return torch.exp(log_scale)[..., None, None]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return x * self.factor(level).to(x.dtype)


class _Unscaled(nn.Module):
    """Takes a level, as RateScale does, and leaves the features as they are."""

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return x


def rate_scale(channels: int, knots: int) -> nn.Module:
    """A `RateScale`, or nothing where there is one rate only (``knots`` 1)."""
    return RateScale(channels, knots) if knots > 1 else _Unscaled()
