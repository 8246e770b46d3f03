# SPDX-License-Identifier: Apache-2.0
"""Two branches that weigh one another: by a map over positions, and one over channels.

    a ──┬──────── ⊙ S(b) ──┐        S(b)  1x1 to C/16, σ, 1x1 to 1, sigmoid
        └── C(a) ──┐       ⊕        C(a)  mean over positions, 1x1 to C/8, σ, 1x1,
    b ─────────────⊙ ──────┘              sigmoid                 σ: hard swish

The adaptive interaction of Chen et al. 2023, "Dual aggregation transformer" (arXiv
2308.03364), as S2LIC has it, Wang et al. 2024 (arXiv 2403.14471). The batch norms of
its figure are left out: while coding they are affine maps of channels, which the 1x1
before them can hold, and while training they see statistics that no decoder has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.functions import FunctionTable
from polycodec.entropy_models.exact.mean import PlaneMean


class Gate(nn.Module):
    """Two 1x1 and a sigmoid on (B, C, h, w): (B, outputs, h, w), in 0 … 1."""

    def __init__(self, channels: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.down = ExactConv2d(channels, inner)
        self.up = ExactConv2d(inner, outputs)
        self.sigmoid = FunctionTable(torch.sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        return self.sigmoid(self.up(hard_swish(self.down(x))))


class Crossed(nn.Module):
    """a · S(b) + b · C(a), all (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = PlaneMean()
        self.space = Gate(channels, max(1, channels // 16), 1)
        self.channel = Gate(channels, max(1, channels // 8), channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * self.space(b) + b * self.channel(self.mean(a))


class Near(nn.Module):
    """1x1, then 3x3 for each channel alone: (B, before, h, w) -> (B, inner, h, w)."""

    def __init__(self, before: int, inner: int) -> None:
        super().__init__()
        self.point = ExactConv2d(before, inner)
        self.deep = ExactConv2d(inner, inner, 3, groups=inner)

    def forward(self, x: Tensor) -> Tensor:
        return hard_swish(self.deep(self.point(x)))
