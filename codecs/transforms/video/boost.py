# SPDX-License-Identifier: Apache-2.0
"""HNeRV-Boost: the decoder is told the time at every stage, and its blocks are sines.

    γ(t) ─ 1×1 ─ sin ─ 1×1 ─ sin ─► z_t ──────┬───────────────────────┐
    e_t  ─ 1×1 ─ sin ─ TAT ─ [conv ─ shuffle ─ sin ─ TAT] × stages ─ conv ─► frame

    TAT(x) = x + conv(affine_z(GELU(conv(affine_z(x)))))
    affine_z(x) = x ⊙ (1 + γ) + β,   γ = W₂ ReLU(W₁ z),  β = V₂ ReLU(V₁ z)

Zhang et al. 2024, "Boosting neural representations for videos with a conditional
decoder" (arXiv 2402.18152), sections 3.1 and 3.2: temporal-aware affine transform and
sinusoidal NeRV block. Left out: NeRV-Boost and E-NeRV-Boost, which put the same blocks
behind other stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.network import Size
from polycodec.codecs.transforms.positions import encoded_times
from polycodec.codecs.transforms.video.hnerv import Hnerv
from polycodec.registry import register


class Affine(nn.Module):
    """x ⊙ (1 + γ(z)) + β(z) of x (B, C, H, W) and z (B, t, 1, 1)."""

    def __init__(self, times: int, width: int) -> None:
        super().__init__()
        self.gamma = self._of(times, width)
        self.beta = self._of(times, width)

    @staticmethod
    def _of(times: int, width: int) -> nn.Sequential:
        inner, outer = nn.Conv2d(times, times, 1), nn.Conv2d(times, width, 1)
        return nn.Sequential(inner, nn.ReLU(), outer)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return x * (1 + self.gamma(z)) + self.beta(z)


class Conditioned(nn.Module):
    """The residual block around two affine transforms, (B, C, H, W) as it came."""

    def __init__(self, times: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Affine(times, width), Affine(times, width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        inner = F.gelu(self.inner(self.first(x, z)))
        return x + self.outer(self.second(inner, z))


class Sinusoidal(nn.Module):
    """conv ─ shuffle ─ sin ─ conditioned block, (B, in, H, W) to (B, out, sH, sW)."""

    def __init__(
        self, times: int, inputs: int, width: int, stride: int, kernel: int
    ) -> None:
        super().__init__()
        outputs = width * stride**2
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.shuffle = nn.PixelShuffle(stride)
        self.block = Conditioned(times, width)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.block(torch.sin(self.shuffle(self.conv(x))), z)


class Stage(nn.ModuleList):
    """An upsampling block, then ones that keep the size."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        for block in self:
            x = block(x, z)
        return x


@register("network/hnerv-boost")
class Boost(Hnerv):
    """HNeRV under the time; ``width`` and the rest as `Hnerv` has them.

    ``depths``: blocks of each stage. ``times``: channels of z, the layer before has
    twice as many. ``base`` and ``levels``: of the positional encoding of (k + 1) / N.
    """

    encoded: Tensor

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int = 50,
        *,
        strides: Sequence[int] = (5, 2, 2, 2, 2),
        depths: Sequence[int] = (1, 1, 2, 2, 2),
        times: int = 32,
        base: float = 1.25,
        levels: int = 80,
        kernel: int = 3,
        **more: Any,
    ) -> None:
        self.times, self.depths = times, tuple(depths)
        super().__init__(size, channels, width, strides=strides, kernel=kernel, **more)
        table = encoded_times(size[0], base, levels, first=1, paired=False)
        self.register_buffer("encoded", table[..., None, None], persistent=False)
        self.time_inner = nn.Conv2d(2 * levels, 2 * times, 1)
        self.time_outer = nn.Conv2d(2 * times, times, 1)

    def _stem(self, inputs: int, width: int) -> nn.Module:
        return Sinusoidal(self.times, inputs, width, 1, 1)

    def _stage(
        self, k: int, inputs: int, width: int, stride: int, kernel: int
    ) -> nn.Module:
        first = Sinusoidal(self.times, inputs, width, stride, kernel)
        more = [
            Sinusoidal(self.times, width, width, 1, kernel)
            for _ in range(self.depths[k] - 1)
        ]
        return Stage([first, *more])

    def forward(self, at: Tensor, embedding: Tensor | None = None) -> Tensor:
        assert embedding is not None, "frames of an HNeRV need their embeddings"
        z = torch.sin(self.time_outer(torch.sin(self.time_inner(self.encoded[at]))))
        x = self.stem(embedding, z)
        for stage in self.stages:
            x = stage(x, z)
        return (self.head(x).tanh() + 1) / 2
