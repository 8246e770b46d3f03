# SPDX-License-Identifier: Apache-2.0
"""Images: (B, 3, H, W) in [0, 1], coded whole or in tiles (`tiles.py`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.signals.base import Signal, Size
from polycodec.errors import BitstreamError, TruncatedError
from polycodec.registry import register

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

RAW = struct.Struct("<IIH")  # BITSTREAM: height, width, 100 x quality
MAX_PIXELS = 1 << 28


@register("signal/image")
class ImageSignal(Signal):
    """RGB images; gray ones are three equal channels."""

    kind = "image"
    carries: ClassVar[tuple[str, ...]] = ("video",)
    low, high = 0.0, 1.0
    whole, full = torch.uint8, 255
    shape = ("batch", 3, "height", "width")
    head_size = RAW.size

    def pad(self, x: Tensor, stride: int) -> Tensor:
        """Repeat the last row and column up to a multiple of the stride."""
        h, w = x.shape[-2:]
        return F.pad(x, (0, -w % stride, 0, -h % stride), mode="replicate")

    def prepared(self, x: Tensor) -> Tensor:
        """Around zero, channels last."""
        return (x - 0.5).contiguous(memory_format=torch.channels_last)

    def restored(self, x_hat: Tensor) -> Tensor:
        return x_hat.float() + 0.5

    def head(self, size: Sequence[int], quality: float, level: float) -> bytes:
        return RAW.pack(*size, round(100 * quality))

    def parse(self, data: bytes) -> tuple[Size, int]:
        if len(data) < RAW.size:
            raise TruncatedError(
                f"a compressed image has {len(data)} bytes; expected at least "
                f"{RAW.size}"
            )
        height, width, quality = RAW.unpack_from(data)
        if not 0 < height * width <= MAX_PIXELS or quality > 10000:
            raise BitstreamError(
                f"the header asks for {width}x{height} at quality {quality / 100}; "
                f"expected at most {MAX_PIXELS} pixels and quality 100; "
                "a .plc file is for polycodec.decode"
            )
        return (height, width), quality

    def level_in(self, codec: Codec, stored: int) -> float:
        """See :meth:`Signal.level_in`: stored are 100 x quality."""
        return codec.level_of(stored / 100)
