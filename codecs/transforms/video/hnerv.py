# SPDX-License-Identifier: Apache-2.0
"""HNeRV: a frame of a small embedding of it, which an encoder makes while fitting.

    frame ─ ConvNeXt (not sent) ─► e_k (d, h, w) ─ conv 1×1 ─ block k₁ ─ … ─► frame

The weights of the decoder are spread evenly: kernels grow 1, 3, 5, 5, … and widths fall
by 1.2 a stage instead of 2. Chen, Gwilliam, Lim, Shrivastava 2023, "HNeRV: a hybrid
neural representation for videos" (arXiv 2304.02633).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from polycodec.codecs.transforms.network import Network, Size
from polycodec.codecs.transforms.video.blocks import Upsampling
from polycodec.codecs.transforms.video.convnext import Encoder
from polycodec.errors import ModelError
from polycodec.registry import register


@register("network/hnerv")
class Hnerv(Network):
    """Frames of their embeddings.

    ``width``: channels of the first stage; ``strides`` of the decoder, ``encoder`` of
    the encoder (None: the same); ``embedding``: channels d; ``features``: width of the
    encoder; ``reduce``: what widths fall by, to ``least``; ``kernel``: the largest.
    """

    kind = "video"

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int = 32,
        *,
        strides: Sequence[int] = (5, 4, 4, 2, 2),
        encoder: Sequence[int] | None = None,
        embedding: int = 16,
        features: int = 64,
        reduce: float = 1.2,
        least: int = 12,
        kernel: int = 5,
    ) -> None:
        super().__init__(size, channels, width)
        down = tuple(encoder or strides)
        if prod(down) != prod(strides):
            raise ModelError(
                f"the encoder's strides are {down}, the decoder's {tuple(strides)}; "
                "expected the same product"
            )
        self.step = prod(strides)
        _, height, width_ = size
        self.map = (embedding, -(-height // self.step), -(-width_ // self.step))
        widths = [features] * (len(down) - 1) + [embedding]
        self.encoder = Encoder(channels, widths, down)
        self.stem = self._stem(embedding, width)
        now, self.stages = width, nn.ModuleList()
        for k, stride in enumerate(strides):
            wide = max(round(now / reduce), least)
            self.stages.append(
                self._stage(k, now, wide, stride, min(1 + 2 * k, kernel))
            )
            now = wide
        self.head = nn.Conv2d(now, channels, 3, padding=1)

    @property
    def embedding_size(self) -> Size:
        return self.map

    def without_encoder(self) -> Network:
        self.encoder = Encoder(0, (), ())
        return self

    def _stem(self, inputs: int, width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, width, 1), nn.GELU())

    def _stage(
        self, k: int, inputs: int, width: int, stride: int, kernel: int
    ) -> nn.Module:
        """Stage k of the decoder."""
        return Upsampling(inputs, width, stride, nn.GELU(), kernel)

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings of frames; they are made longer to whole strides first."""
        h, w = x.shape[-2:]
        pad = (0, -w % self.step, 0, -h % self.step)
        return self.encoder(nn.functional.pad(x, pad, mode="replicate"))

    def forward(self, at: Tensor, embedding: Tensor | None = None) -> Tensor:
        assert embedding is not None, "frames of an HNeRV need their embeddings"
        x = self.stem(embedding)
        for stage in self.stages:
            x = stage(x)
        return (self.head(x).tanh() + 1) / 2


def published_width(
    values: float,
    size: Size,
    *,
    strides: Sequence[int],
    embedding: int = 16,
    reduce: float = 1.2,
    kernel: int = 5,
) -> int:
    """The authors' first width of a size: the larger root of a quadratic, cut.

    ``values``: weights and embeddings wanted, (N, H, W) the ``size``. With r = 1/1.2,
    a = r Σ r^(2i) s_i² k_i² and b = 9 d count what convolutions have; biases and the
    lower limit of widths are left out, so that true sizes differ a little.
    """
    frames, height, width = size
    grid = (height // prod(strides)) * (width // prod(strides))
    budget = values - frames * embedding * grid
    r = 1 / reduce
    a = r * sum(
        r ** (2 * i) * s**2 * min(1 + 2 * i, kernel) ** 2 for i, s in enumerate(strides)
    )
    b = 9 * embedding
    return int((-b + math.sqrt(b * b + 4 * a * budget)) / (2 * a))
