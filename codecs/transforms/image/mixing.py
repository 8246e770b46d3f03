# SPDX-License-Identifier: Apache-2.0
"""The transforms of the MLIC family: strided residual blocks with GDN, blocks between.

    g_a   x ─ ↓ ─ B ─ ↓ ─ B ─ ↓ ─ B ─ conv3 ↓2 ─ y            widths N, y of M
          H    H/2     H/4     H/8         H/16
    g_s   y ─ B ─ ↑ ─ B ─ ↑ ─ B ─ ↑ ─ B ─ conv3, shuffle 2 ─ x̂

    ↓    gdn( conv3( gelu( conv3 ↓2 ) ) ) + 1x1 ↓2
    ↑    igdn( conv3( gelu( conv3, shuffle 2 ) ) ) + (conv3, shuffle 2)
    B    MLIC++ (Jiang, Wang 2023, arXiv 2307.15421): x + gelu(conv3(gelu(conv3 x)))
         MLICv2 (Jiang et al. 2025, arXiv 2504.19119): two blocks of simple token mixing

    mixing   x + 1x1( dw5( v + gelu(1x1(gelu(dw3 v))) ) ),        v = norm(x)
             then x + u · sigmoid( 1x1(gelu(dw3(gelu(1x1(norm u))))) ),  u = norm(x)

Simple token mixing keeps the form of an attention block without attention: depthwise
convolutions mix tokens, a gate mixes channels; 4 d² + 56 d parameters. Its layout is
that of a reproduction which works from the paper: the authors published no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.image import reach
from polycodec.codecs.transforms.image.conv import GDN
from polycodec.codecs.transforms.image.shortcuts import (
    ShortcutTransform,
    beside,
    through,
)
from polycodec.codecs.transforms.rate import RateScale
from polycodec.errors import UsageError
from polycodec.registry import register


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w), at every position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def depthwise(channels: int, kernel: int) -> nn.Conv2d:
    """A convolution of each channel by itself."""
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


class Residual(nn.Module):
    """x + gelu(conv3(gelu(conv3 x))), MLIC++'s block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.conv2(F.gelu(self.conv1(x))))


class Mixing(nn.Module):
    """One block of simple token mixing on (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.near, self.point = depthwise(channels, 3), nn.Conv2d(channels, channels, 1)
        self.mix, self.out = depthwise(channels, 5), nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelNorm(channels)
        self.gate = Gate(channels)

    def forward(self, x: Tensor) -> Tensor:
        v = self.norm1(x)
        v = v + F.gelu(self.point(F.gelu(self.near(v))))
        x = x + self.out(self.mix(v))
        u = self.norm2(x)
        return x + u * self.gate(u).sigmoid()


class Gate(nn.Sequential):
    """norm, 1x1, gelu, dw3, gelu, 1x1: the logits of a gate for each value."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            ChannelNorm(channels),
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            depthwise(channels, 3),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1),
        )


def mixing_pair(channels: int) -> nn.Module:
    """Two blocks, which stand where MLIC++ has one residual block."""
    return nn.Sequential(Mixing(channels), Mixing(channels))


# A block of each name, and the convolutions that it looks through.
BLOCKS: dict[str, tuple[Callable[[int], nn.Module], list[reach.Step]]] = {
    "residual": (Residual, [reach.conv(3)] * 2),
    "mixing": (mixing_pair, [reach.conv(3), reach.conv(5), reach.conv(3)] * 2),
}


class Down(nn.Module):
    """(B, a, h, w) -> (B, b, h/2, w/2)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, 2, 1)
        self.conv2 = nn.Conv2d(b, b, 3, padding=1)
        self.norm = GDN(b)
        self.skip = nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Every second position first: the gradient of a 1x1 of stride 2 writes outside
        # its memory in torch 2.11 (oneDNN, channels last, few channels).
        skip = self.skip(x[..., ::2, ::2])
        return self.norm(self.conv2(F.gelu(self.conv1(x)))) + skip


class Double(nn.Sequential):
    """conv3, shuffle 2: (B, a, h, w) -> (B, b, 2 h, 2 w)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(nn.Conv2d(a, 4 * b, 3, padding=1), nn.PixelShuffle(2))

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast("nn.Conv2d", self[0])


class Up(nn.Module):
    """(B, a, h, w) -> (B, b, 2 h, 2 w)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.up, self.skip = Double(a, b), Double(a, b)
        self.conv = nn.Conv2d(b, b, 3, padding=1)
        self.norm = GDN(b, inverse=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.gelu(self.up(x)))) + self.skip(x)


class Stage(nn.Module):
    """Layers in their order, then the level's scale."""

    def __init__(self, layers: list[nn.Module], channels: int, knots: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.scale = RateScale(channels, knots)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.scale(self.layers(x), level)


class Stages(nn.Module):
    """g_a or g_s: stages, and linear shortcuts beside them if asked for."""

    def __init__(self, stages: Iterable[nn.Module], shortcuts: nn.ModuleList) -> None:
        super().__init__()
        self.stages, self.shortcuts = nn.ModuleList(stages), shortcuts

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return through(self.stages, self.shortcuts, x, level)


@register("transform/mixing")
class MixingTransform(ShortcutTransform):
    """The pair g_a, g_s of MLIC++ and MLICv2.

    ``width``: N of the papers; ``blocks``: residual (MLIC++) or mixing (MLICv2);
    ``shortcut``: linear wavelet shortcuts beside the stages (`shortcuts.py`). With
    ``knots`` 1 the pair is that of the papers, for one rate.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 192,
        blocks: str = "mixing",
        shortcut: bool = False,
        knots: int = 8,
    ) -> None:
        super().__init__(channels, 16)
        if blocks not in BLOCKS:
            raise UsageError(
                f"blocks is '{blocks}'; expected one of {', '.join(BLOCKS)}"
            )
        block, self._steps = BLOCKS[blocks]
        N, M = width, channels

        def stage(layers: list[nn.Module], out: int) -> Stage:
            return Stage(layers, out, knots if out == N else 1)

        analysis = [stage([Down(a, N), block(N)], N) for a in (3, N, N)]
        latents, pixels = nn.Conv2d(N, M, 3, 2, 1), Double(N, 3)
        analysis.append(stage([latents], M))
        synthesis = [stage([block(a), Up(a, N)], N) for a in (M, N, N)]
        synthesis.append(stage([block(N), pixels], 3))
        self.ends = latents, pixels.conv
        widths = [3, N, N, N, M]
        down = beside(shortcut, widths, [2] * 4)
        up = beside(shortcut, widths[::-1], [2] * 4, up=True)
        self.g_a, self.g_s = Stages(analysis, down), Stages(synthesis, up)

    def reach(self) -> tuple[int, int]:
        """See :meth:`ImageTransform.reach`."""
        down = [reach.conv(3, 2), reach.conv(3), *self._steps]
        double = [reach.conv(3), reach.shuffle(2)]
        up = [*self._steps, *double, reach.conv(3)]
        analysis = [*down * 3, reach.conv(3, 2)]
        synthesis = [*up * 3, *self._steps, *double]
        return reach.reach(analysis, synthesis, self.stride, self.stride)
