# SPDX-License-Identifier: Apache-2.0
"""Residual blocks and masked attention around two changes of resolution.

    g_a   x ─ conv3 ↓2 ─ Res ─ Down ─ Attn ─ Res ─ Down ─ Res ─ z
          H             H/2         H/4               H/8
    g_s   z ─ Res ─ Up ─ Attn ─ Res ─ Up ─ Res ─ conv3 ↑2 ─ x̂

    Res     x + conv3(silu(conv3(silu(x))))          a 1x1 beside it where widths differ
    Down    conv3(gdn(conv3 ↓2(silu(x)))) + conv3 ↓2(x)         Up: its mirror image
    Attn    x + trunk(x) · sigmoid(mask(x))         ``depth`` Res each, mask ends in 1x1

Zhu et al. 2022, "Unified multivariate Gaussian mixture for efficient neural image
compression" (McQuic, arXiv 2203.10897), as its code of spring 2022 has them; attention
as a mask of convolutions is that of Cheng et al. 2020 (arXiv 2001.01568). Borders
repeat their last row: mirrors, which the paper has, do not exist for maps of one
position, and need images padded to multiples of 128.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.base import ImageTransform
from polycodec.codecs.transforms.image.conv import GDN
from polycodec.codecs.transforms.image.reach import Step, conv, reach, shuffle
from polycodec.registry import register


def conv3(a: int, b: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution (B, a, h, w) -> (B, b, h/stride, w/stride)."""
    return nn.Conv2d(a, b, 3, stride, 1, padding_mode="replicate")


def up3(a: int, b: int) -> nn.Sequential:
    """A 3x3 convolution and a shuffle: (B, a, h, w) -> (B, b, 2 h, 2 w)."""
    return nn.Sequential(conv3(a, 4 * b), nn.PixelShuffle(2))


class Beside(nn.Module):
    """``body`` with a shortcut beside it; the results are added."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


def block(a: int, b: int | None = None) -> Beside:
    """Res: two convolutions, (B, a, h, w) -> (B, b, h, w)."""
    b = a if b is None else b
    body = nn.Sequential(nn.SiLU(), conv3(a, b), nn.SiLU(), conv3(b, b))
    return Beside(body, nn.Identity() if a == b else nn.Conv2d(a, b, 1))


def down(channels: int) -> Beside:
    """Down: half the resolution."""
    c = channels
    body = nn.Sequential(nn.SiLU(), conv3(c, c, 2), GDN(c), conv3(c, c))
    return Beside(body, conv3(c, c, 2))


def up(channels: int) -> Beside:
    """Up: twice the resolution."""
    c = channels
    body = nn.Sequential(nn.SiLU(), up3(c, c), GDN(c, inverse=True), conv3(c, c))
    return Beside(body, up3(c, c))


class Attention(nn.Module):
    """A trunk weighed by a mask, both of ``depth`` blocks; shapes stay."""

    def __init__(self, channels: int, depth: int = 3) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(block(channels) for _ in range(depth)))
        self.mask = nn.Sequential(
            *(block(channels) for _ in range(depth)), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.trunk(x) * torch.sigmoid(self.mask(x))
        return out


@register("transform/attention")
class AttentionTransform(ImageTransform):
    """The pair g_a, g_s of stride 8. ``depth``: blocks of a branch of attention."""

    def __init__(self, channels: int, *, depth: int = 3) -> None:
        super().__init__(channels, 8)
        c = channels
        self.analysis = nn.Sequential(
            conv3(3, c, 2),  # (B, C, H/2, W/2)
            block(c),
            down(c),  # (B, C, H/4, W/4)
            Attention(c, depth),
            block(c),
            down(c),  # (B, C, H/8, W/8)
            block(c),
        )
        self.synthesis = nn.Sequential(
            block(c),
            up(c),
            Attention(c, depth),
            block(c),
            up(c),
            block(c),
            up3(c, 3),
        )
        self.depth = depth

    def g_a(self, x: Tensor, level: Tensor) -> Tensor:
        """Prepared signals (B, 3, H, W) -> z (B, C, H/8, W/8); they become -1 … 1."""
        z: Tensor = self.analysis(2 * x)
        return z

    def g_s(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """The reverse."""
        x_hat: Tensor = self.synthesis(z_hat) / 2
        return x_hat

    def reach(self) -> tuple[int, int]:
        one, halved = [conv(3)], [conv(3, 2)]
        doubled: list[Step] = [conv(3), shuffle(2)]
        around = (2 * self.depth + 2) * one  # Attn and Res
        pair = 2 * one
        analysis = [*halved, *pair, *halved, *one, *around, *halved, *one, *pair]
        synthesis = [*pair, *doubled, *one, *around, *doubled, *one, *pair, *doubled]
        return reach(analysis, synthesis, self.stride, self.grid)
