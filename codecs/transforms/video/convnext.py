# SPDX-License-Identifier: Apache-2.0
"""What makes an embedding of a frame; it is used while fitting, and not sent.

    ─ conv s×s, stride s ─ LN ─ block ─ LN ─ conv s×s ─ block ─ … ─► (B, d, H/Πs, W/Πs)
    block: x + γ · Linear(GELU(Linear×4(LN(DW₇(x)))))

ConvNeXt (Liu et al. 2022, arXiv 2201.03545), one block a stage, as HNeRV uses it (Chen
et al. 2023, arXiv 2304.02633, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 1e-6  # that a block begins with


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """ConvNeXt's block, (B, C, H, W) as it came."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = ChannelNorm(width)
        self.inner, self.outer = (
            nn.Conv2d(width, 4 * width, 1),
            nn.Conv2d(4 * width, width, 1),
        )
        self.scale = nn.Parameter(torch.full((width, 1, 1), SCALE))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.inner(self.norm(self.depthwise(x))))
        return x + self.scale * self.outer(inner)


class Encoder(nn.Sequential):
    """Frames (B, 3, H, W) to embeddings (B, d, H/Πs, W/Πs).

    ``widths``: of the stages, the last is d; ``strides``: of each.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], strides: Sequence[int]
    ) -> None:
        layers: list[nn.Module] = []
        now = channels
        for k, (wide, stride) in enumerate(zip(widths, strides, strict=True)):
            conv = nn.Conv2d(now, wide, stride, stride)
            layers += [conv, ChannelNorm(wide)] if k == 0 else [ChannelNorm(now), conv]
            layers.append(Block(wide))
            now = wide
        super().__init__(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
