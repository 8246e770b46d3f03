# SPDX-License-Identifier: Apache-2.0
"""S2LIC's transforms: residual SwinV2 blocks between strided convolutions.

    g_a   x ─ E ─ conv5 ↓2 ─ R1 ─ conv3 ↓2 ─ R2 ─ conv3 ↓2 ─ R3 ─ conv3 ↓2 ─ y
          H             H/2           H/4           H/8           H/16
    g_s   y ─ up3 ↑2 ─ R3 ─ up3 ↑2 ─ R2 ─ up3 ↑2 ─ R1 ─ conv3, shuffle 2 ─ E ─ x̂

    R     x + SwinV2 blocks, windows of 8 x 8, every second one shifted by 4
    E     x + 0.2 · dense( conv1 conv3 conv1 ( dense x ) ),     starts as x

S2LIC is Wang et al. 2024 (arXiv 2403.14471), whose layers were not published: depths,
heads and the shares of branches that are left out while training are those of its model
file, the blocks SwinV2's (Liu et al. 2022, arXiv 2111.09883): cosine attention, a
learned temperature, a bias from a small network on logarithmic offsets, and norms after
the attention. The dense enhancement is that of Xie et al. 2021 (arXiv 2108.03690). The
model file has one module for both of its directions; there it is two networks, one for
each, as it is here.

Positions beyond the edge are masked, also where a shift puts none: a result depends on
the image alone, never on how it was padded, and tiles come out as the whole does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.image import reach
from polycodec.codecs.transforms.image.mixing import Double, Stage, Stages
from polycodec.codecs.transforms.image.shortcuts import ShortcutTransform, beside
from polycodec.errors import ModelError
from polycodec.registry import register

SIDE = 8  # positions of a window, along each axis
MASKED = -1e4  # a logit that no softmax counts, and that is not infinite


def log_offsets(side: int) -> Tensor:
    """Logarithmic offsets (2 side - 1, 2 side - 1, 2) inside a window."""
    line = torch.arange(1.0 - side, side) * (8 / (side - 1))
    line = line.sign() * (line.abs() + 1).log2() / 3
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)


def offset_index(side: int) -> Tensor:
    """Which of the flattened offsets lies between two positions, (side², side²)."""
    at = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offset = at[:, None] - at[None] + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]


class WindowAttention(nn.Module):
    """SwinV2's cosine attention inside windows: (n, side², C) -> the same."""

    offsets: Tensor
    index: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ModelError(
                f"{heads} heads; expected a divisor of {channels} channels"
            )
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.log_tau = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.bias = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False)
        )
        self.register_buffer("offsets", log_offsets(SIDE), persistent=False)
        self.register_buffer("index", offset_index(SIDE), persistent=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """there: (n, side²), which positions exist."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (n, heads, side², C / heads) each
        tau = self.log_tau.clamp(max=math.log(100.0)).exp()
        q = F.normalize(q, dim=-1) * tau.to(q.dtype)
        bias = 16 * self.bias(self.offsets).flatten(0, 1).sigmoid()[self.index]
        mask = bias.movedim(-1, 0) + (~there[:, None, None]) * MASKED
        out = F.scaled_dot_product_attention(
            q, F.normalize(k, dim=-1), v, attn_mask=mask.to(q.dtype), scale=1.0
        )
        return self.out(out.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """One SwinV2 block on (B, h, w, C), its windows shifted by ``shift``."""

    def __init__(self, channels: int, heads: int, shift: int, drop: float) -> None:
        super().__init__()
        self.shift, self.drop = shift, drop
        self.attention = WindowAttention(channels, heads)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.norm1(self._attend(x)))
        return x + self._kept(self.norm2(self.mlp(x)))

    def _attend(self, x: Tensor) -> Tensor:
        batch, h, w, _ = x.shape
        below, right = -(h + self.shift) % SIDE, -(w + self.shift) % SIDE
        pad = (self.shift, right, self.shift, below)
        there = F.pad(torch.ones(1, h, w, 1, device=x.device), (0, 0, *pad))
        rows, columns = there.shape[1] // SIDE, there.shape[2] // SIDE
        windows = _cut(F.pad(x, (0, 0, *pad)))
        present = _cut(there).squeeze(-1).bool().repeat(batch, 1)
        out = self.attention(windows, present)
        out = out.view(batch, rows, columns, SIDE, SIDE, -1).transpose(2, 3)
        out = out.reshape(batch, rows * SIDE, columns * SIDE, -1)
        return out[:, self.shift : self.shift + h, self.shift : self.shift + w]

    def _kept(self, x: Tensor) -> Tensor:
        """Stochastic depth: leave a branch out of some items while training."""
        if not self.training or not self.drop:
            return x
        keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * keep.to(x.dtype) / (1 - self.drop)


def _cut(x: Tensor) -> Tensor:
    """(B, rows, columns, C), multiples of a window -> (windows, side², C)."""
    x = x.unflatten(2, (-1, SIDE)).unflatten(1, (-1, SIDE)).transpose(2, 3)
    return x.flatten(0, 2).flatten(1, 2)


class ResidualSwin(nn.Module):
    """x + SwinV2 blocks of x, on (B, C, h, w); ``drops``: of each block."""

    def __init__(self, channels: int, heads: int, drops: Sequence[float]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinBlock(channels, heads, SIDE // 2 * (i % 2), drop)
                for i, drop in enumerate(drops)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x.movedim(1, -1)).movedim(-1, 1)


class Dense(nn.Module):
    """Five 3x3 convolutions, each of all before it: (B, a, h, w) -> (B, b, h, w)."""

    def __init__(self, a: int, b: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(a + i * growth, growth, 3, padding=1) for i in range(4)
        )
        self.last = nn.Conv2d(a + 4 * growth, b, 3, padding=1)
        for value in self.parameters():
            if value.ndim > 1:
                nn.init.xavier_normal_(value, gain=0.1)
            else:
                nn.init.zeros_(value)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.cat([x, F.leaky_relu(conv(x), 0.2)], dim=1)
        return self.last(x)


class Enhancement(nn.Module):
    """x + 0.2 · a dense network of x, on pixels (B, 3, H, W); starts as x."""

    def __init__(self, growth: int, width: int) -> None:
        super().__init__()
        last = Dense(width, 3, growth)
        self.net = nn.Sequential(
            Dense(3, width, growth),
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, 3, padding=1),
            nn.Conv2d(width, width, 1),
            last,
        )
        nn.init.zeros_(last.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.net(x)


@register("transform/swin")
class SwinTransform(ShortcutTransform):
    """The pair g_a, g_s of S2LIC.

    ``width``: N of the paper; ``depths``, ``heads``: of the residual blocks at H/2,
    H/4, H/8; ``growth``: of the dense enhancement, 0 leaves it out; ``dense``: its
    width; ``drop``: share of branches left out while training, from 0 at the first
    block to all of it at the last; ``shortcut``: linear wavelet shortcuts.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 192,
        depths: Sequence[int] = (1, 2, 3),
        heads: Sequence[int] = (4, 8, 16),
        growth: int = 32,
        dense: int = 64,
        drop: float = 0.1,
        shortcut: bool = False,
        knots: int = 8,
    ) -> None:
        super().__init__(channels, 16)
        N, M = width, channels
        self.depths, self.enhanced = tuple(depths), growth > 0
        # As the model file has it: two blocks that are not there count as well.
        last = sum(depths) + 1
        drops = [drop * i / last for i in range(last + 1)]
        ahead, back = iter(drops), iter(drops[2:])

        def enhancement() -> list[nn.Module]:
            return [Enhancement(growth, dense)] if growth else []

        sizes = list(zip(depths, heads, strict=True))
        analysis: list[nn.Module] = []
        before = [*enhancement(), nn.Conv2d(3, N, 5, 2, 2)]
        for depth, count in sizes:
            blocks = ResidualSwin(N, count, list(itertools.islice(ahead, depth)))
            analysis.append(Stage([*before, blocks], N, knots))
            before = [nn.Conv2d(N, N, 3, 2, 1)]
        latents, pixels = nn.Conv2d(N, M, 3, 2, 1), Double(N, 3)
        analysis.append(Stage([latents], M, 1))
        synthesis: list[nn.Module] = []
        for a, (depth, count) in zip((M, N, N), reversed(sizes), strict=True):
            blocks = ResidualSwin(N, count, list(itertools.islice(back, depth)))
            double = nn.ConvTranspose2d(a, N, 3, 2, 1, 1)
            synthesis.append(Stage([double, blocks], N, knots))
        synthesis.append(Stage([pixels, *enhancement()], 3, 1))
        self.ends = latents, pixels.conv
        widths = [3, N, N, N, M]
        down = beside(shortcut, widths, [2] * 4)
        up = beside(shortcut, widths[::-1], [2] * 4, up=True)
        self.g_a, self.g_s = Stages(analysis, down), Stages(synthesis, up)

    @property
    def period(self) -> int:
        """Windows of 8 x 8 positions, the widest of H/8."""
        return 8 * SIDE

    def reach(self) -> tuple[int, int]:
        """See :meth:`ImageTransform.reach`."""
        blocks = [
            [reach.windows(SIDE, SIDE // 2 * (i % 2)) for i in range(depth)]
            for depth in self.depths
        ]
        enhancement = [reach.conv(3)] * 11 if self.enhanced else []
        analysis = [*enhancement, reach.conv(5, 2), *blocks[0]]
        for inner in blocks[1:]:
            analysis += [reach.conv(3, 2), *inner]
        analysis.append(reach.conv(3, 2))
        synthesis: list[reach.Step] = []
        for inner in reversed(blocks):
            synthesis += [reach.transposed(3), *inner]
        synthesis += [reach.conv(3), reach.shuffle(2), *enhancement]
        return reach.reach(analysis, synthesis, self.stride, self.period)
