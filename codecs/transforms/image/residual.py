# SPDX-License-Identifier: Apache-2.0
"""Residual-bottleneck transforms that never work at full resolution.

    g_a   x ─ unshuffle 4 ─ conv3 ─ RB… ─ conv3 ↓2 ─ RB… ─ conv3 ↓2 ─ RB… ─ y
          H        H/4        a           H/8   b           H/16  M
    g_s   y ─ RB… ─ 1x1, shuffle 2 ─ RB… ─ 1x1, shuffle 2 ─ RB… ─ conv3, shuffle 4

    RB    x + 1x1( relu( conv3( relu( 1x1(x) ) ) ) ),   half the width inside
    Linear wavelet shortcuts beside the three resolutions if asked for (`shortcuts.py`).

The residual bottleneck is ELIC's (He et al. 2022, arXiv 2203.10886). Starting at a
quarter of the resolution keeps memory traffic, which is what a CPU waits for, at 8
values per pixel and layer where a stride-2 stem of 128 channels has 32. Level
scales between the stages tell the features the rate (`rate.py`).

Before the first step `initialise` turns the convolutions into the Karhunen-Loève
transform of 16 x 16 blocks: C = E[v vᵀ] = A Λ Aᵀ, and the K axes of largest variance
are the best K linear coordinates. Of the 768 axes of held-out photographs 192 keep
36.6 dB, 256 keep 40.1 and 320 keep 43.8: training starts from a working codec. Where
there are shortcuts, these are that transform, and next to nothing is added to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.image.shortcuts import (
    ShortcutTransform,
    beside,
    principal_axes,
    through,
)
from polycodec.codecs.transforms.rate import RateScale
from polycodec.registry import register


class ResidualBottleneck(nn.Module):
    """x + 1x1(relu(conv3(relu(1x1 x)))) on (B, C, h, w), C/2 channels inside.

    ``slope``: of what is negative.
    """

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        inner = channels // 2
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)
        # Blocks start as small corrections: a deep stack then trains from step 1.
        nn.init.normal_(self.expand.weight, std=0.02 * inner**-0.5)
        assert self.expand.bias is not None
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        t = F.leaky_relu(self.reduce(x), self.slope, inplace=True)
        t = F.leaky_relu(self.conv(t), self.slope, inplace=True)
        return x + self.expand(t)


def blocks(channels: int, count: int, slope: float) -> nn.Sequential:
    """Stack residual bottlenecks of one width."""
    return nn.Sequential(*(ResidualBottleneck(channels, slope) for _ in range(count)))


class Analysis(nn.Module):
    """g_a: (B, 3, H, W) -> (B, M, H/16, W/16)."""

    def __init__(
        self,
        M: int,
        widths: Sequence[int],
        depths: Sequence[int],
        knots: int,
        shortcut: bool,
        slope: float,
    ) -> None:
        super().__init__()
        a, b = widths
        self.stem = nn.Conv2d(48, a, 3, padding=1)
        self.stage1, self.scale1 = blocks(a, depths[0], slope), RateScale(a, knots)
        self.down1 = nn.Conv2d(a, b, 3, 2, 1)
        self.stage2, self.scale2 = blocks(b, depths[1], slope), RateScale(b, knots)
        self.down2 = nn.Conv2d(b, M, 3, 2, 1)
        self.stage3 = blocks(M, depths[2], slope)
        self.shortcuts = beside(shortcut, [3, a, b, M], [4, 2, 2])

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        stages = [self.first, self.second, self.third]
        return through(stages, self.shortcuts, x, level)

    def first(self, x: Tensor, level: Tensor) -> Tensor:
        """Returns (B, a, H/4, W/4)."""
        return self.scale1(self.stage1(self.stem(F.pixel_unshuffle(x, 4))), level)

    def second(self, x: Tensor, level: Tensor) -> Tensor:
        """Returns (B, b, H/8, W/8)."""
        return self.scale2(self.stage2(self.down1(x)), level)

    def third(self, x: Tensor, level: Tensor) -> Tensor:
        """Returns (B, M, H/16, W/16)."""
        return self.stage3(self.down2(x))


class Synthesis(nn.Module):
    """g_s: (B, M, H/16, W/16) -> (B, 3, H, W)."""

    def __init__(
        self,
        M: int,
        widths: Sequence[int],
        depths: Sequence[int],
        knots: int,
        shortcut: bool,
        slope: float,
    ) -> None:
        super().__init__()
        a, b = widths
        self.stage3 = blocks(M, depths[2], slope)
        self.up2 = nn.Conv2d(M, 4 * b, 1)
        self.scale2, self.stage2 = RateScale(b, knots), blocks(b, depths[1], slope)
        self.up1 = nn.Conv2d(b, 4 * a, 1)
        self.scale1, self.stage1 = RateScale(a, knots), blocks(a, depths[0], slope)
        self.head = nn.Conv2d(a, 48, 3, padding=1)
        self.shortcuts = beside(shortcut, [M, b, a, 3], [2, 2, 4], up=True)

    def forward(self, y_hat: Tensor, level: Tensor) -> Tensor:
        stages = [self.third, self.second, self.first]
        return through(stages, self.shortcuts, y_hat, level)

    def third(self, y_hat: Tensor, level: Tensor) -> Tensor:
        """Returns (B, b, H/8, W/8)."""
        x = F.pixel_shuffle(self.up2(self.stage3(y_hat)), 2)
        return self.stage2(self.scale2(x, level))

    def second(self, x: Tensor, level: Tensor) -> Tensor:
        """Returns (B, a, H/4, W/4)."""
        return self.stage1(self.scale1(F.pixel_shuffle(self.up1(x), 2), level))

    def first(self, x: Tensor, level: Tensor) -> Tensor:
        """Returns (B, 3, H, W)."""
        return F.pixel_shuffle(self.head(x), 4)


@register("transform/residual")
class ResidualTransform(ShortcutTransform):
    """The pair g_a, g_s. ``depths``: blocks at H/4, H/8, H/16, g_a then g_s.

    ``shortcut``: linear wavelet shortcuts. ``slope``: of the activation below 0. With
    0, a ReLU, units that are never positive learn nothing and decay, for good: after
    50,000 steps all blocks of g_a below H/4 had vanished so. A slope keeps them.
    """

    g_a: Analysis
    g_s: Synthesis

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int] = (128, 192),
        analysis_depths: Sequence[int] = (2, 3, 1),
        synthesis_depths: Sequence[int] = (2, 4, 2),
        shortcut: bool = False,
        slope: float = 0.0,
        knots: int = 8,
    ) -> None:
        super().__init__(channels, 16)
        self.depths = tuple(analysis_depths), tuple(synthesis_depths)
        self.g_a = Analysis(channels, widths, analysis_depths, knots, shortcut, slope)
        self.g_s = Synthesis(channels, widths, synthesis_depths, knots, shortcut, slope)
        self.ends = self.g_a.down2, self.g_s.head

    def reach(self) -> tuple[int, int]:
        """See :meth:`ImageTransform.reach`.

        A conv3 reaches one position of its own resolution: 4, 8 or 16 pixels, 1/4, 1/2
        or 1 latent.
        """
        (e1, e2, e3), (d1, d2, d3) = self.depths
        analysis = 4 * (e1 + 2) + 8 * (e2 + 1) + 16 * e3
        return analysis, d3 + -(-(2 * d2 + d1 + 1) // 4)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> bool:
        """Make g_a the Karhunen-Loève transform of x (B, 3, H, W), g_s its inverse.

        The stages hold 48 (4 x 4 pixels), 192 (8 x 8) and M (16 x 16) axes, each stage
        the axes of 2 x 2 positions of the one before. Widths must have room for them.
        """
        if super().initialise(x):
            return True
        g_a, g_s = self.g_a, self.g_s
        a, b = g_a.stem.out_channels, g_a.down1.out_channels
        if a < 48 or b < 192 or self.channels > 768:
            return False
        u = F.pixel_unshuffle(x, 4)  # (B, 48, H/4, W/4)
        first = principal_axes(u, 48)
        u = F.pixel_unshuffle(torch.einsum("bchw,kc->bkhw", u, first), 2)
        second = principal_axes(u, 192)  # (192, 4 x 48), channels slowest
        v = F.pixel_unshuffle(torch.einsum("bchw,kc->bkhw", u, second), 2)
        third = principal_axes(v, self.channels)  # (M, 4 x 192)
        g_a.stem.weight[:48] = 0
        g_a.stem.weight[:48, :, 1, 1] = first
        g_s.head.weight[:, :48] = 0
        g_s.head.weight[:, :48, 1, 1] = first.T
        _set_down(g_a.down1, second, 48)
        _set_down(g_a.down2, third, 192)
        _set_up(g_s.up1, second, 48)
        _set_up(g_s.up2, third, 192)
        # Channels beyond the axes start small: they add to a working codec.
        g_a.stem.weight[48:] *= 0.1
        g_s.head.weight[:, 48:] *= 0.1
        for layer in (g_a.stem, g_a.down1, g_a.down2, g_s.up1, g_s.up2, g_s.head):
            assert layer.bias is not None
            layer.bias.zero_()
        return True


def _set_down(layer: nn.Conv2d, axes: Tensor, channels: int) -> None:
    """Write (K, 4 channels) axes of 2 x 2 positions into a conv3 of stride 2."""
    layer.weight *= 0.1
    layer.weight[: len(axes), :channels] = 0
    # With padding 1 the taps 1 and 2 lie on rows 2i and 2i + 1.
    taps = axes.view(len(axes), channels, 2, 2)
    layer.weight[: len(axes), :channels, 1:, 1:] = taps


def _set_up(layer: nn.Conv2d, axes: Tensor, channels: int) -> None:
    """Write the transpose of `_set_down` into a 1x1 before a pixel shuffle."""
    layer.weight *= 0.1
    layer.weight[: 4 * channels, : len(axes), 0, 0] = axes.T
