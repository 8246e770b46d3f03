# SPDX-License-Identifier: Apache-2.0
"""An image as one or several networks: the one chunk of its file.

A part of it costs the whole chunk's bytes, and is cut from the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.signals.grid import Grid, Span
from polycodec.codecs.signals.tiles import (
    ImageDecoder,
    ImageEncoder,
    Progress,
    to_pixels,
    to_tensor,
)

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


class PictureEncoder(ImageEncoder):
    """Fits a network to (H, W, 1 or 3) integers, at every level once.

    ``together``: whether images of one size may be fitted, and made, as one batch.
    """

    def __init__(
        self,
        codec: Codec,
        pixels: np.ndarray,
        peak: int,
        *,
        plan: Plan,
        together: bool = False,
    ) -> None:
        self.together, self.plan = together, plan
        self.codec, self.peak, self.channels = codec, peak, pixels.shape[2]
        self.x = to_tensor(pixels, peak, codec.device)
        height, width = pixels.shape[:2]
        self.grid, self.estimated_bits = Grid(height, width, 0), 0.0
        self._fitted: dict[float, Tensor] = {}  # a search asks for many qualities

    def item(self, quality: float) -> tuple[Tensor, bytes] | None:
        return (self.x, self._context(quality)) if self.together else None

    def _context(self, quality: float) -> bytes:
        return self.grid.context(0, quality, self.peak, self.channels)

    def chunks(self, quality: float) -> Iterator[bytes]:
        level = self.codec.level_of(quality)
        if level not in self._fitted:
            codes = self.codec.encode_codes(self.x, level, plan=self.plan)
            self._fitted[level] = codes
        context = self._context(quality)
        coded = self.codec.write(self._fitted[level], level, context=context)
        self.estimated_bits = coded.estimated_bits[0]
        yield coded.data[0]


class PictureDecoder(ImageDecoder):
    """Makes an image of its network, once."""

    def __init__(
        self,
        codec: Codec,
        grid: Grid,
        quality: float,
        read_chunk: Callable[[int], bytes],
        *,
        together: bool = False,
    ) -> None:
        self.whole = together
        self.codec, self.grid, self.quality = codec, grid, quality
        self.read_chunk = read_chunk
        self.known: Tensor | None = None

    def render(
        self, region: Span, peak: int, channels: int, progress: Progress | None = None
    ) -> np.ndarray:
        if self.known is None:
            level, size = self.codec.level_of(self.quality), self._size()
            codes = self.codes_in(region, peak, channels)
            self.known = self.codec.decode_codes(codes, level, size)
        if progress:
            progress(1, 1)
        rows, columns = region.slices
        return to_pixels(self.known[:, :, rows, columns], peak, channels)

    def codes_in(self, region: Span, peak: int, channels: int) -> Tensor:
        level, size = self.codec.level_of(self.quality), self._size()
        context = self.grid.context(0, self.quality, peak, channels)
        return self.codec.read([self.read_chunk(0)], level, size, context=context)

    def _size(self) -> Sequence[int]:
        return self.grid.height, self.grid.width
