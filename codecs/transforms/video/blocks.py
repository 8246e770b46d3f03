# SPDX-License-Identifier: Apache-2.0
"""Upsampling blocks of decoders of clips: NeRV's, NeRV++'s and its released variant's.

    nerv   conv k3 to C·s² ─ shuffle ─ activation
    scrb   P = 1×1 ─ SCRB ─ [conv k3 ─ shuffle ─ SiLU] ─ SCRB ─ + ↑bilinear(P)
    gcnn   as scrb, the first SCRB a gated convolution

    SCRB: x + PW₂(GELU(PW₁(DW(x))))      DW: depthwise k3, PW: pointwise

Chen et al. 2021, NeRV (arXiv 2110.13903), figure 2; Ghorbel, Hamidouche, Morin 2024,
NeRV++ (arXiv 2402.18305), figure 2. ``gcnn`` is what its authors released later: the
first residual block is the gated CNN of MetaNeXt's line, 5 × 5 on a part of channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Separable(nn.Module):
    """A residual block of separable convolutions, `SCRB`, (B, C, H, W) as it came."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.inner = nn.Conv2d(width, width, 1)
        self.outer = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.gelu(self.inner(self.depthwise(x))))


class Gated(nn.Module):
    """A gated convolutional block: GELU(g) · [i, DW₅(c)], residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * width // 3
        self.split = (hidden, hidden - width, width)
        self.inner = nn.Conv2d(width, 2 * hidden, 1)
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.outer = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, kept, mixed = self.inner(x).split(self.split, dim=1)
        both = torch.cat([kept, self.depthwise(mixed)], dim=1)
        return x + self.outer(F.gelu(gate) * both)


class Upsampling(nn.Module):
    """conv k to C·s² ─ shuffle ─ activation: (B, in, H, W) to (B, out, sH, sW)."""

    def __init__(
        self, inputs: int, width: int, stride: int, act: nn.Module, kernel: int = 3
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, width * stride**2, kernel, padding=(kernel - 1) // 2
        )
        self.shuffle, self.act = nn.PixelShuffle(stride), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.shuffle(self.conv(x)))


class Residual(nn.Module):
    """NeRV++'s block around the upsampling one, with a bilinear way past it.

    What passes is the projection, not the block's input.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, act: nn.Module, *, gated: bool
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, width, 1)
        self.before = Gated(width) if gated else Separable(width)
        self.up = Upsampling(width, width, stride, act)
        self.after = Separable(width)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        past = F.interpolate(x, scale_factor=self.stride, mode="bilinear")
        return self.after(self.up(self.before(x))) + past


def block_of(
    name: str, inputs: int, width: int, stride: int, act: nn.Module
) -> nn.Module:
    """The block of a name: nerv, scrb or gcnn."""
    if name == "nerv":
        return Upsampling(inputs, width, stride, act)
    return Residual(inputs, width, stride, act, gated=name == "gcnn")
