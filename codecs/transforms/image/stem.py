# SPDX-License-Identifier: Apache-2.0
"""The first stages of a residual network as a transform: its own features are latents.

    x ─ conv ─ norm ─ relu (─ pool) ─ stages ─ y = features

A codec of features with this transform is a whole, uncompressed classifier: the teacher
that others are distilled from (`train/features`). He, Zhang, Ren, Sun 2016 (arXiv
1512.03385); with kernel 7, stride 2, a pool and three bottleneck blocks of 256 channels
it is the beginning of ResNet-50.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from polycodec.codecs.heads.residual import BLOCKS, stages
from polycodec.codecs.transforms.base import FeatureTransform
from polycodec.registry import register


@register("transform/stem")
class StemTransform(FeatureTransform):
    """``width``, ``kernel``, ``step``: of the first convolution, a ``pool`` 3x3 ↓2
    behind it; ``widths``, ``depths``, ``steps``, ``block``: see `heads.residual`.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 32,
        kernel: int = 3,
        step: int = 1,
        pool: bool = False,
        widths: Sequence[int] = (64, 128),
        depths: Sequence[int] = (1, 1),
        steps: Sequence[int] = (2, 2),
        block: str = "basic",
    ) -> None:
        stride = step * (2 if pool else 1) * math.prod(steps)
        super().__init__(channels, stride, widths[-1])
        self.conv1 = nn.Conv2d(3, width, kernel, step, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        self.layers = stages(BLOCKS[block], width, widths, depths, steps)

    def g_a(self, x: Tensor) -> Tensor:
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for layer in self.layers:
            x = layer(x)
        return x

    def g_s(self, z_hat: Tensor) -> Tensor:
        return z_hat
