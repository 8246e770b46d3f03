# SPDX-License-Identifier: Apache-2.0
"""Residual-bottleneck transforms that never work at full resolution.

    g_a   x ─ unshuffle 4 ─ conv3 ─ RB… ─ conv3 ↓2 ─ RB… ─ conv3 ↓2 ─ RB… ─ y
          H        H/4        a           H/8   b           H/16  M
    g_s   y ─ RB… ─ 1x1, shuffle 2 ─ RB… ─ 1x1, shuffle 2 ─ RB… ─ conv3, shuffle 4

    RB    x + 1x1( relu( conv3( relu( 1x1(x) ) ) ) ),   half the width inside

The residual bottleneck is ELIC's (He et al. 2022, arXiv 2203.10886). Starting at a
quarter of the resolution keeps memory traffic, which is what a CPU waits for, at 8
values per pixel and layer where a stride-2 stem of 128 channels has 32. Level
scales between the stages tell the features the rate (`rate.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.rate import RateScale
from polycodec.registry import register


class ResidualBottleneck(nn.Module):
    """x + 1x1(relu(conv3(relu(1x1 x)))) on (B, C, h, w), C/2 channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)
        # Blocks start as small corrections: a deep stack then trains from step 1.
        nn.init.normal_(self.expand.weight, std=0.02 * inner**-0.5)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        t = F.relu(self.reduce(x), inplace=True)
        t = F.relu(self.conv(t), inplace=True)
        return x + self.expand(t)


def blocks(channels: int, count: int) -> nn.Sequential:
    """Stack residual bottlenecks of one width."""
    return nn.Sequential(*(ResidualBottleneck(channels) for _ in range(count)))


class Analysis(nn.Module):
    """g_a: (B, 3, H, W) -> (B, M, H/16, W/16)."""

    def __init__(
        self, M: int, widths: Sequence[int], depths: Sequence[int], knots: int
    ) -> None:
        super().__init__()
        a, b = widths
        self.stem = nn.Conv2d(48, a, 3, padding=1)
        self.stage1, self.scale1 = blocks(a, depths[0]), RateScale(a, knots)
        self.down1 = nn.Conv2d(a, b, 3, 2, 1)
        self.stage2, self.scale2 = blocks(b, depths[1]), RateScale(b, knots)
        self.down2 = nn.Conv2d(b, M, 3, 2, 1)
        self.stage3 = blocks(M, depths[2])

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(x, 4))  # (B, a, H/4, W/4)
        x = self.down1(self.scale1(self.stage1(x), level))  # (B, b, H/8, W/8)
        x = self.down2(self.scale2(self.stage2(x), level))  # (B, M, H/16, W/16)
        return self.stage3(x)


class Synthesis(nn.Module):
    """g_s: (B, M, H/16, W/16) -> (B, 3, H, W)."""

    def __init__(
        self, M: int, widths: Sequence[int], depths: Sequence[int], knots: int
    ) -> None:
        super().__init__()
        a, b = widths
        self.stage3 = blocks(M, depths[2])
        self.up2 = nn.Conv2d(M, 4 * b, 1)
        self.scale2, self.stage2 = RateScale(b, knots), blocks(b, depths[1])
        self.up1 = nn.Conv2d(b, 4 * a, 1)
        self.scale1, self.stage1 = RateScale(a, knots), blocks(a, depths[0])
        self.head = nn.Conv2d(a, 48, 3, padding=1)

    def forward(self, y_hat: Tensor, level: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.up2(self.stage3(y_hat)), 2)  # (B, b, H/8, W/8)
        x = self.stage2(self.scale2(x, level))
        x = F.pixel_shuffle(self.up1(x), 2)  # (B, a, H/4, W/4)
        x = self.stage1(self.scale1(x, level))
        return F.pixel_shuffle(self.head(x), 4)  # (B, 3, H, W)


@register("transform/residual")
class ResidualTransform(nn.Module):
    """The pair g_a, g_s. ``depths``: blocks at H/4, H/8, H/16, g_a then g_s."""

    stride = 16

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int] = (128, 192),
        analysis_depths: Sequence[int] = (2, 3, 1),
        synthesis_depths: Sequence[int] = (2, 4, 2),
        knots: int = 8,
    ) -> None:
        super().__init__()
        self.channels, self.knots = channels, knots
        self.g_a = Analysis(channels, widths, analysis_depths, knots)
        self.g_s = Synthesis(channels, widths, synthesis_depths, knots)
        # How far a result looks to each side, the halo of a tile. A conv3 reaches one
        # position of its own resolution: 4, 8 or 16 pixels, 1/4, 1/2 or 1 latent.
        e1, e2, e3 = analysis_depths
        self.analysis_reach = 4 * (e1 + 2) + 8 * (e2 + 1) + 16 * e3  # pixels
        d1, d2, d3 = synthesis_depths
        self.synthesis_reach = d3 + -(-(2 * d2 + d1 + 1) // 4)  # latents
