# SPDX-License-Identifier: Apache-2.0
"""How a codec's signals stand in files, unless a family has a way of its own.

images   tiles              image_encoder, image_decoder
sound    seconds            sound_codes
clips    groups of frames   group_encoder, group_decoder
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from polycodec.codecs.signals.chunks import chunks_of
from polycodec.codecs.signals.grid import Grid
from polycodec.codecs.signals.intra import IntraDecoder, IntraEncoder
from polycodec.codecs.signals.tiles import (
    ImageDecoder,
    ImageEncoder,
    TileDecoder,
    TileEncoder,
)
from polycodec.codecs.signals.video import GroupDecoder, GroupEncoder

if TYPE_CHECKING:
    from polycodec.codecs.fitting.plan import Plan


class Chunked:
    """A part of `Codec`: what makes the chunks of its files, and signals of them."""

    def image_encoder(
        self: Any, pixels: np.ndarray, peak: int, tile: int, effort: int = 0
    ) -> ImageEncoder:
        """What makes a file's chunks of one image, (H, W, 1 or 3) integers.

        ``peak``: largest sample; ``tile``: side of tiles, 0 for none; ``effort``: steps
        of `refine`. A family with a way of its own overrides this.
        """
        return TileEncoder(self, pixels, peak, tile, effort)

    def image_decoder(
        self: Any, grid: Grid, quality: float, read_chunk: Callable[[int], bytes]
    ) -> ImageDecoder:
        """What makes pixels of the chunks of a file; see `image_encoder`."""
        return TileDecoder(self, grid, quality, read_chunk)

    def sound_codes(
        self: Any,
        blocks: Iterable[np.ndarray],
        frames: int,
        level: float | None = None,
        plan: Plan | None = None,
    ) -> Iterator[Tensor]:
        """Codes (channels, C, n) of a file's chunks of sound; see `signals.chunks`.

        plan: of the whole sound, of a family that fits.
        """
        return chunks_of(self, blocks, frames, level)

    def group_encoder(
        self: Any,
        size: Sequence[int],
        gop: int | None = None,
        plan: Plan | None = None,
    ) -> GroupEncoder:
        """What makes a file's chunks of the frames of a clip, ``size`` (H, W).

        plan: of the whole clip, of a family that fits.
        """
        return IntraEncoder(self, size, gop)

    def group_decoder(
        self: Any, size: Sequence[int], gop: int, frames: int, quality: float
    ) -> GroupDecoder:
        """What makes frames of chunks; ``frames`` in all, ``gop`` in a chunk."""
        return IntraDecoder(self, size, gop, frames, quality)
