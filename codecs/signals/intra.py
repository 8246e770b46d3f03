# SPDX-License-Identifier: Apache-2.0
"""All-intra video: every frame an image, coded by a codec of images.

    group k   │ frame 0 │ frame 1 │ … │ frame n-1 │     chunk: sizes, then a stream each
                  └──── batches ────┘

Frames are coded in batches whose members follow from the group alone, so that a frame
comes out the same whichever part of a clip is decoded. Frames that images of their size
would be tiled for are coded in tiles (`tiles.py`), one frame at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polycodec.codecs.signals.grid import Grid, choose_tile
from polycodec.codecs.signals.tiles import to_pixels, to_tensor
from polycodec.codecs.signals.video import GroupDecoder, GroupEncoder
from polycodec.errors import BitstreamError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

GOP = 8  # frames in a group, unless they are large
GROUP_PIXELS = 1 << 24  # of the frames of a group
BATCH_PIXELS = 1 << 20  # of the frames that networks see together
PEAK = 65535  # of the samples of frames that are tiled  # BITSTREAM


def choose_gop(size: Sequence[int]) -> int:
    """Frames of ``size`` (H, W) in a group unless told."""
    return max(1, min(GOP, GROUP_PIXELS // (size[0] * size[1])))


class Frames:
    """Where frames stand: their sizes, tiles, batches; the seal of each stream."""

    seal: bytes

    def __init__(self, codec: Codec, size: Sequence[int], gop: int) -> None:
        self.codec, self.size, self.gop = codec, (size[0], size[1]), gop
        tile = choose_tile(codec.tiling, *self.size, None)
        self.grid = Grid(*self.size, tile)
        self.batch = max(1, BATCH_PIXELS // (size[0] * size[1]))

    def batches(self, frames: int) -> Iterator[range]:
        """The frames of a group, counted in it, that networks see together."""
        step = self.batch if len(self.grid) == 1 else 1
        for first in range(0, frames, step):
            yield range(first, min(first + step, frames))

    def contexts(self, k: int, frames: range, quality: float) -> list[bytes]:
        """What the streams of these frames of group k are sealed with."""
        rest = *self.size, round(100 * quality)
        places = (k * self.gop + i for i in frames)
        return [
            struct.pack("<Q2IH", place, *rest) + self.seal  # BITSTREAM
            for place in places
        ]


class IntraEncoder(Frames, GroupEncoder):
    """Codes each frame of (H, W) as an image."""

    def __init__(
        self, codec: Codec, size: Sequence[int], gop: int | None = None
    ) -> None:
        super().__init__(codec, size, gop or choose_gop(size))
        self.estimated_bits = 0.0

    def chunk(self, k: int, frames: Tensor, quality: float) -> bytes:
        streams: list[bytes] = []
        for batch in self.batches(len(frames)):
            x = frames[batch.start : batch.stop]
            contexts = self.contexts(k, batch, quality)
            if len(self.grid) > 1:
                streams += self._tiled(x, quality)
            else:
                level = self.codec.level_of(quality)
                codes = self.codec.encode_codes(x, level)
                coded = self.codec.write(codes, level, context=contexts)
                self.estimated_bits += sum(coded.estimated_bits)
                streams += coded.data
        return pack(streams)

    def _tiled(self, x: Tensor, quality: float) -> list[bytes]:
        """The streams of the tiles of a large frame (1, 3, H, W)."""
        pixels = to_pixels(x, PEAK, 3)
        encoder = self.codec.image_encoder(pixels, PEAK, self.grid.tile_h)
        tiles = list(encoder.chunks(quality))
        self.estimated_bits += encoder.estimated_bits
        return tiles


class IntraDecoder(Frames, GroupDecoder):
    """Decodes the frames of groups; see `IntraEncoder`. ``frames``: of the clip."""

    def __init__(
        self, codec: Codec, size: Sequence[int], gop: int, frames: int, quality: float
    ) -> None:
        super().__init__(codec, size, gop)
        self.total, self.quality = frames, quality

    def frames(self, k: int, data: bytes, wanted: range) -> Iterator[Tensor]:
        count = min(self.gop, self.total - k * self.gop)
        streams = unpack(data, count * len(self.grid))
        for batch in self.batches(count):
            first, last = max(batch[0], wanted.start), min(batch.stop, wanted.stop)
            if first < last:
                x = self._decoded(k, batch, streams)
                yield x[first - batch[0] : last - batch[0]]

    def _decoded(self, k: int, batch: range, streams: Sequence[bytes]) -> Tensor:
        """Frames (n, 3, H, W) of a batch."""
        codec, tiles = self.codec, len(self.grid)
        if tiles > 1:
            own = streams[batch[0] * tiles : batch.stop * tiles]
            decoder = codec.image_decoder(self.grid, self.quality, own.__getitem__)
            whole = self.grid.span(0).grown(1 << 30, *self.size)
            pixels = decoder.render(whole, PEAK, 3)
            return to_tensor(pixels, PEAK, torch.device("cpu"))
        level = codec.level_of(self.quality)
        codes = codec.read(
            streams[batch.start : batch.stop],
            level,
            codec.grid(self.size),
            context=self.contexts(k, batch, self.quality),
        )
        return codec.decode_codes(codes, level, self.size).float().cpu()


def pack(streams: Sequence[bytes]) -> bytes:
    """The sizes of all streams but the last, LEB128, then the streams.  # BITSTREAM"""
    out = bytearray()
    for stream in streams[:-1]:
        size = len(stream)
        while size > 0x7F:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)
    return bytes(out) + b"".join(streams)


def unpack(data: bytes, count: int) -> list[bytes]:
    """The ``count`` streams of a chunk; BitstreamError where they are not there."""
    sizes: list[int] = []
    at = 0
    while len(sizes) < count - 1:
        size = shift = 0
        while True:
            if at >= len(data) or shift > 28:
                raise BitstreamError(
                    f"the sizes of {count} streams do not stand in a chunk of "
                    f"{len(data)} bytes; it is damaged"
                )
            octet = data[at]
            at, size, shift = at + 1, size | (octet & 0x7F) << shift, shift + 7
            if octet < 0x80:
                break
        sizes.append(size)
    if sum(sizes) > len(data) - at:
        raise BitstreamError(
            f"the streams of a chunk have {sum(sizes)} bytes and more; found "
            f"{len(data) - at}"
        )
    streams = []
    for size in (*sizes, len(data) - at - sum(sizes)):
        streams.append(data[at : at + size])
        at += size
    return streams
