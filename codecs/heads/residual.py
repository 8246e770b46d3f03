# SPDX-License-Identifier: Apache-2.0
"""Stages of residual blocks, a mean over positions, a linear layer.

    basic        x ─ conv3 ↓ ─ norm ─ relu ─ conv3 ─ norm ─ + ─ relu
    bottleneck   the same of conv1, conv3 ↓, conv1
    +            x, or its 1x1 ↓ and norm where sizes differ

He, Zhang, Ren, Sun 2016 (arXiv 1512.03385); the stride of a bottleneck block lies in
its 3x3 convolution, as in the weights that most people have. Behind a first stage of
256 features, stages of 512, 1024, 2048 channels and 4, 6, 3 bottleneck blocks are the
rest of ResNet-50.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polycodec.codecs.heads.base import Head
from polycodec.errors import ModelError
from polycodec.registry import register


class Basic(nn.Module):
    """Two 3x3 convolutions."""

    def __init__(self, channels: int, width: int, step: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, step, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _beside(channels, width, step)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    """A 3x3 convolution of a quarter of the channels between two of 1x1."""

    def __init__(self, channels: int, width: int, step: int) -> None:
        super().__init__()
        inner = width // 4
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, step, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = _beside(channels, width, step)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


BLOCKS: dict[str, type[Basic | Bottleneck]] = {"basic": Basic, "bottleneck": Bottleneck}


def _beside(channels: int, width: int, step: int) -> nn.Module:
    if step == 1 and channels == width:
        return nn.Identity()
    conv = nn.Conv2d(channels, width, 1, step, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


def stages(
    block: type[Basic | Bottleneck],
    channels: int,
    widths: Sequence[int],
    depths: Sequence[int],
    steps: Sequence[int],
) -> nn.ModuleList:
    """Stages of ``depths`` blocks to ``widths`` channels, the first block of ``steps``.

    ModelError unless all three are of one length.
    """
    if not len(widths) == len(depths) == len(steps) > 0:
        raise ModelError(
            f"widths, depths and steps are {len(widths)}, {len(depths)} and "
            f"{len(steps)} numbers; expected one of each for every stage"
        )
    made = nn.ModuleList()
    for width, depth, step in zip(widths, depths, steps, strict=True):
        blocks = [block(channels, width, step)]
        blocks += [block(width, width, 1) for _ in range(depth - 1)]
        made.append(nn.Sequential(*blocks))
        channels = width
    return made


@register("head/residual")
class ResidualHead(Head):
    """``widths``, ``depths``, ``steps``, ``block``: see `stages`."""

    def __init__(
        self,
        features: int,
        *,
        classes: int = 10,
        labels: Sequence[str] | None = None,
        widths: Sequence[int] = (128, 192),
        depths: Sequence[int] = (1, 1),
        steps: Sequence[int] = (1, 2),
        block: str = "basic",
    ) -> None:
        super().__init__(features, classes, labels)
        self.layers = stages(BLOCKS[block], features, widths, depths, steps)
        self.fc = nn.Linear(widths[-1], classes)

    def stages(self, features: Tensor) -> list[Tensor]:
        made = []
        for layer in self.layers:
            features = layer(features)
            made.append(features)
        return made

    def logits(self, last: Tensor) -> Tensor:
        return self.fc(last.mean(dim=(2, 3)))
