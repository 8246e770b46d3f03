# SPDX-License-Identifier: Apache-2.0
"""Groups of frames as networks: a chunk of a file is one network and its embeddings.

A frame is made by one run of the network; the others of its group are not made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.signals.video import GroupDecoder, GroupEncoder

if TYPE_CHECKING:
    from polycodec.codecs.families.implicit import ImplicitCodec

GROUP_SAMPLES = 1 << 29  # of the frames of a group, in memory as float32
GOP = 600  # frames in a group, unless they are large


class ClipEncoder(GroupEncoder):
    """Fits a network to each group of frames of (H, W), by its part of the plan."""

    def __init__(
        self, codec: ImplicitCodec, size: Sequence[int], gop: int | None, plan: Plan
    ) -> None:
        self.plan = plan
        most = GROUP_SAMPLES // (3 * size[0] * size[1])
        self.codec, self.size = codec, tuple(size)
        self.gop, self.estimated_bits = gop or max(1, min(GOP, most)), 0.0

    def chunk(self, k: int, frames: Tensor, quality: float) -> bytes:
        codec, level = self.codec, self.codec.level_of(quality)
        plan = self.plan.part(k, len(frames))
        codes = codec.encode_codes(frames.movedim(0, 1)[None], level, plan=plan)
        context = sealed_with(k, len(frames), self.size) + self.seal
        coded = codec.write(codes, level, context=context)
        self.estimated_bits += coded.estimated_bits[0]
        return coded.data[0]


class ClipDecoder(GroupDecoder):
    """Makes frames of networks; ``frames``: of the clip."""

    def __init__(
        self, codec: ImplicitCodec, size: Sequence[int], gop: int, frames: int
    ) -> None:
        self.codec, self.size, self.gop, self.total = codec, tuple(size), gop, frames

    def frames(self, k: int, data: bytes, wanted: range) -> Iterator[Tensor]:
        codec, count = self.codec, min(self.gop, self.total - k * self.gop)
        size = (count, *self.size)
        context = sealed_with(k, count, self.size) + self.seal
        codes = codec.read([data], 1, size, context=context)
        network, embeddings = codec.opened(codes)
        for frame in wanted:
            x = codec.rendered(network, embeddings, [frame])
            yield x.clamp(codec.signal.low, codec.signal.high).float().cpu()


def sealed_with(k: int, count: int, size: Sequence[int]) -> bytes:
    """What the stream of group k, of ``count`` frames, is sealed with.  # BITSTREAM

    A network makes as many frames as it is asked for: a header must not say others.
    """
    return struct.pack("<Q3I", k, count, *size)
