# SPDX-License-Identifier: Apache-2.0
"""Video: (B, 3, T, H, W) in [0, 1], RGB; in files as groups of frames.

    frames of group k, (n, 3, H, W) ── GroupEncoder.chunk ──► one chunk of the file
    frames of group k               ◄─ GroupDecoder.frames ── that chunk, alone

A codec says by `Codec.group_encoder` and `group_decoder` how it codes groups: a codec
of images each frame by itself (`intra.py`), a codec of video as it likes. What is
around RGB in a file (planes, depth, levels, times, sound) is no matter here.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.signals.base import Signal, Size
from polycodec.errors import BitstreamError, TruncatedError
from polycodec.registry import register

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

RAW = struct.Struct("<3IH")  # BITSTREAM: frames, height, width, 100 x quality
MAX_SAMPLES = 1 << 31  # pixels of all frames together


class GroupEncoder(abc.ABC):
    """Turns groups of frames into the chunks of a file.

    ``gop``: frames in a group, but for the last one; ``estimated_bits``: of all chunks
    so far, as the entropy model's tables have it. ``seal``: what the file says of the
    samples around RGB, for streams to be sealed with; set before the first chunk.
    """

    gop: int
    estimated_bits: float = 0.0
    seal: bytes = b""

    @abc.abstractmethod
    def chunk(self, k: int, frames: Tensor, quality: float) -> bytes:
        """The bytes of group k: frames (n, 3, H, W) float32 in [0, 1]."""


class GroupDecoder(abc.ABC):
    """Turns chunks into frames; each needs no other. ``seal``: see `GroupEncoder`."""

    seal: bytes = b""

    @abc.abstractmethod
    def frames(self, k: int, data: bytes, wanted: range) -> Iterator[Tensor]:
        """Frames of group k that are ``wanted``, counted in the group, in batches.

        (n, 3, H, W) float32 in [0, 1]. The same frame has the same samples whatever
        else is wanted. BitstreamError for bytes that no encoder wrote.
        """


@register("signal/video")
class VideoSignal(Signal):
    """RGB clips; sizes are (T, H, W)."""

    kind = "video"
    low, high = 0.0, 1.0
    whole, full = torch.uint8, 255
    shape = ("batch", 3, "frames", "height", "width")
    head_size = RAW.size

    def pad(self, x: Tensor, stride: int) -> Tensor:
        """Repeat the last row and column up to a multiple of the stride."""
        h, w = x.shape[-2:]
        return F.pad(x, (0, -w % stride, 0, -h % stride, 0, 0), mode="replicate")

    def head(self, size: Sequence[int], quality: float, level: float) -> bytes:
        return RAW.pack(*size, round(100 * quality))

    def parse(self, data: bytes) -> tuple[Size, int]:
        if len(data) < RAW.size:
            raise TruncatedError(
                f"a compressed clip has {len(data)} bytes; expected at least {RAW.size}"
            )
        frames, height, width, quality = RAW.unpack_from(data)
        if not 0 < frames * height * width <= MAX_SAMPLES or quality > 10000:
            raise BitstreamError(
                f"the header asks for {frames} frames of {width}x{height} at quality "
                f"{quality / 100}; expected at most {MAX_SAMPLES} pixels and quality "
                "100"
            )
        return (frames, height, width), quality

    def level_in(self, codec: Codec, stored: int) -> float:
        """See :meth:`Signal.level_in`: stored are 100 x quality."""
        return codec.level_of(stored / 100)
