# SPDX-License-Identifier: Apache-2.0
"""Levels, and one set of weights for all of them: channel scales that depend on it.

    y_gained = y · g(level)      g(level) = exp( interpolate( log g_k ) )

A level is a float in [0, knots - 1]. Between two knots the logarithms are mixed
linearly, so the rate is continuous. The latent has a gain and an inverse gain (Cui
et al. 2021, "Asymmetric gained deep image compression", arXiv 2003.02012); the same
layer inside a transform lets its features know the rate too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.errors import ModelError, UsageError


class Levels(nn.Module):
    """The levels of a codec: whole numbers 1 … L."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        if not 1 <= levels <= 255:
            raise ModelError(f"levels is {levels}; expected 1 to 255 rates")
        self.levels = levels

    def level_of(self, quality: float) -> float:
        """The level of a quality in 0 … 100."""
        return 1 + round(quality / 100 * (self.levels - 1))

    def check(self, level: float) -> float:
        """The level; UsageError for one that does not exist."""
        if not (1 <= level <= self.levels and level == int(level)):
            raise UsageError(f"level is {level}; expected 1 to {self.levels}")
        return int(level)


class RateScale(nn.Module):
    """Multiply (B, C, h, w) by a learned, level-dependent factor per channel.

    One knot is one rate: there is nothing to learn then, and nothing changes.
    """

    log_scale: Tensor

    def __init__(self, channels: int, knots: int) -> None:
        super().__init__()
        self.knots = knots
        if knots > 1:
            self.log_scale = nn.Parameter(torch.zeros(knots, channels))

    def factor(self, level: Tensor) -> Tensor:
        """Factors of ``level`` (B,) in [0, knots - 1]: (B, C, 1, 1)."""
        last = self.knots - 1
        level = level.clamp(0, last)
        low = level.floor().clamp(max=last - 1).long()
        mix = (level - low).unsqueeze(1)
        log_scale = torch.lerp(self.log_scale[low], self.log_scale[low + 1], mix)
        return torch.exp(log_scale)[..., None, None]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return x * self.factor(level).to(x.dtype) if self.knots > 1 else x
