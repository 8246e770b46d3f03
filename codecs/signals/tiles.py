# SPDX-License-Identifier: Apache-2.0
"""Images of any size in bounded memory, without seams.

    ┌────┬────┬────┐   The latents of a tile are what the whole image would have
    │    │    │    │   there: g_a sees the tile and a halo as wide as it can look.
    ├────╆━━━━╅────┤   They are coded alone, so a tile can be decoded alone.
    │    ┃tile┃    │   g_s sees the tile's latents and a halo of its neighbours'.
    ├────╄━━━━╃────┤   So pixels are those of the untiled image; only the rate
    │    │    │    │   differs a little, since contexts stop at the tile's edge.
    └────┴────┴────┘

A region needs the tiles it touches and those its halo touches, no others.
"""

from __future__ import annotations

import abc
import functools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.signals.grid import Grid, Span
from polycodec.errors import DeterminismError, UsageError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec
    from polycodec.codecs.fitting.plan import Plan
    from polycodec.codecs.refined import Cost, Found, Refined

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def to_tensor(pixels: np.ndarray, peak: int, device: torch.device) -> Tensor:
    """(H, W, 1 or 3) integers -> (1, 3, H, W) float in [0, 1]."""
    x = torch.from_numpy(pixels.astype(np.float32)).to(device) / peak
    return x.permute(2, 0, 1).expand(3, -1, -1).unsqueeze(0)


def to_pixels(x: Tensor, peak: int, channels: int) -> np.ndarray:
    """(1, 3, H, W) float -> (H, W, channels) integers; gray is the mean of three."""
    x = x[0].clamp(0, 1)
    x = x.mean(dim=0, keepdim=True) if channels == 1 else x
    out = torch.round(x * peak).permute(1, 2, 0).cpu().numpy()
    return out.astype(np.uint8 if peak < 256 else np.uint16)


class ImageEncoder(abc.ABC):
    """Turns one image into the chunks of a file, at any quality.

    ``estimated_bits``: of the last coding. ``grid``: what its chunks are of.
    ``searched``: of the last coding, the costs before and after a search, and the steps
    it took in all; None: there was none. ``watch`` is told how far a search is, and of
    which chunk. ``plan``: how the image is fitted, of a family that fits.
    """

    estimated_bits: float
    grid: Grid
    codec: Codec
    plan: Plan | None = None
    searched: tuple[Cost, Cost, int] | None = None
    watch: Callable[[int, Found], None] | None = None

    @abc.abstractmethod
    def chunks(self, quality: float) -> Iterator[bytes]:
        """Yield the bytes of each chunk."""

    def wish(self, detail: np.ndarray) -> None:
        """Spend bits where ``detail``, (H, W) in [0, 1], is high.

        UsageError for a codec that has no say in it.
        """
        raise UsageError(
            f"'{self.codec.name}' spends bits as its latents need them; expected a "
            "codec with a map of detail, such as image/granular; leave --roi out"
        )

    def heeded(self, quality: float) -> bool:
        """Whether a wish changes anything at that quality."""
        return False

    def item(self, quality: float) -> tuple[Tensor, bytes] | None:
        """The image (1, 3, H, W) as its codec takes it, and what its one chunk is
        sealed with; None: it is no item of a batch."""
        return None


class ImageDecoder(abc.ABC):
    """Turns the chunks of a file into pixels.

    ``grid``: what its chunks are of, at ``quality``; ``whole``: whether the one chunk
    may be an item of a batch.
    """

    codec: Codec
    grid: Grid
    quality: float
    read_chunk: Callable[[int], bytes]
    whole: bool

    @abc.abstractmethod
    def render(
        self, region: Span, peak: int, channels: int, progress: Progress | None = None
    ) -> np.ndarray:
        """Pixels of ``region``, (h, w, channels) integers."""

    @abc.abstractmethod
    def codes_in(self, region: Span, peak: int, channels: int) -> Tensor:
        """Codes (1, C, h, w) of the positions that a region touches; of a fitted
        network all that there are."""


class TileEncoder(ImageEncoder):
    """Codes the tiles of one image, (H, W, 1 or 3) integers with the given peak."""

    def __init__(
        self,
        codec: Codec,
        pixels: np.ndarray,
        peak: int,
        tile: int,
        effort: int = 0,
    ) -> None:
        self.codec, self.tiling = codec, codec.tiling
        self.pixels, self.peak, self.effort = pixels, peak, effort
        height, width = pixels.shape[:2]
        self.grid = Grid(height, width, tile)
        self.estimated_bits = 0.0

    def chunks(self, quality: float) -> Iterator[bytes]:
        self.estimated_bits, self.searched = 0.0, None
        level = self.codec.level_of(quality)
        for k in range(len(self.grid)):
            codes = self.codes(k, level)
            given: dict[str, Any] = {}
            if self.effort:
                found = self._refined(k, codes, level)
                codes = found.codes
                given = {"side": found.side, "thrifty": found.thrifty}
            context = self.grid.context(k, quality, self.peak, self.pixels.shape[2])
            coded = self.codec.write(codes, level, context=context, **given)
            self.estimated_bits += coded.estimated_bits[0]
            yield coded.data[0]

    def item(self, quality: float) -> tuple[Tensor, bytes] | None:
        if self.effort or len(self.grid) > 1:
            return None
        context = self.grid.context(0, quality, self.peak, self.pixels.shape[2])
        return self._tensor(self.grid.span(0)), context

    def _refined(self, k: int, codes: Tensor, level: float) -> Refined:
        """Search for better codes of tile k, and add up what that gained."""
        pixels = self.pixels[self.grid.span(k).slices]
        x = to_tensor(pixels, self.peak, self.codec.device)
        watch = None if self.watch is None else functools.partial(self.watch, k)
        found = self.codec.refine(x, codes, level, self.effort, watch)
        before, after, steps = found.before, found.after, found.steps
        if self.searched is not None:
            earlier, later, taken = self.searched
            before, after, steps = earlier + before, later + after, taken + steps
        self.searched = before, after, steps
        return found

    @torch.inference_mode()
    def codes(self, k: int, level: float) -> Tensor:
        """Codes (1, C, h, w) of tile k."""
        return self.codec.quantize(self.latents(k, level), level)

    @torch.inference_mode()
    def latents(self, k: int, level: float) -> Tensor:
        """Latents (1, D, h, w) of tile k, from as much around it as they look at."""
        stride, core = self.codec.stride, self.grid.span(k)
        window = core
        if len(self.grid) > 1:
            halo = -(-self.tiling.halo[0] // stride) * stride
            window = core.grown(halo, self.grid.height, self.grid.width)
            window = window.aligned(self.tiling.period)
        z = self.codec.latents_of(self._tensor(window), level)
        fold = stride // self.codec.transform.stride
        codes = core.inside(window).scaled(stride)
        rows, columns = codes.scaled_up(fold).slices
        return z[:, :, rows, columns].contiguous()

    def _tensor(self, span: Span) -> Tensor:
        """The pixels of a box, padded to whole latents."""
        x = to_tensor(self.pixels[span.slices], self.peak, self.codec.device)
        return self.codec.padded(x)


class TileDecoder(ImageDecoder):
    """Decodes tiles as they are asked for; keeps codes only where still needed."""

    def __init__(
        self,
        codec: Codec,
        grid: Grid,
        quality: float,
        read_chunk: Callable[[int], bytes],
    ) -> None:
        self.codec, self.tiling, self.grid = codec, codec.tiling, grid
        self.quality, self.level = quality, codec.level_of(quality)
        self.samples = 0, 0  # peak and channels
        self.whole = len(grid) == 1
        self.read_chunk = read_chunk
        self.known: dict[int, Tensor] = {}

    def render(
        self, region: Span, peak: int, channels: int, progress: Progress | None = None
    ) -> np.ndarray:
        self.samples = peak, channels
        dtype = np.uint8 if peak < 256 else np.uint16
        out = np.empty((*region.size, channels), dtype)
        wanted = self.grid.touching(region)
        for done, k in enumerate(wanted):
            part = self.grid.span(k).common(region)
            pixels = to_pixels(self.synthesised(part), peak, channels)
            out[part.inside(region).slices] = pixels
            if progress:
                progress(done + 1, len(wanted))
        return out

    def codes_in(self, region: Span, peak: int, channels: int) -> Tensor:
        self.samples = peak, channels
        stride = self.codec.stride
        return self._gather(region.scaled(stride), stride)

    @torch.inference_mode()
    def synthesised(self, part: Span) -> Tensor:
        """Image (1, 3, h, w) of the pixels of ``part``, which lie in one tile."""
        stride = self.codec.stride
        h, w = self.codec.grid((self.grid.height, self.grid.width))
        window = Span(0, 0, h, w)
        if self.tiling.reach is not None:
            window = part.scaled(stride).grown(self.tiling.halo[1], h, w)
            window = window.aligned(self.tiling.period // stride)
        codes = self._gather(window, stride)
        x = self.codec.signals(self.codec.dequantize(codes, self.level), self.level)
        shift = Span(window.top * stride, window.left * stride, 0, 0)
        rows, columns = part.inside(shift).slices
        return x[:, :, rows, columns]

    def _gather(self, window: Span, stride: int) -> Tensor:
        """Codes (1, C, h, w) of ``window`` from the tiles it touches."""
        pixels = window.scaled_up(stride).grown(0, self.grid.height, self.grid.width)
        numbers = self.grid.touching(pixels)
        self._forget(numbers[0])
        tiles = {k: self.codes(k) for k in numbers}
        some = tiles[numbers[0]]
        out = some.new_zeros((1, some.shape[1], *window.size))
        for k, codes in tiles.items():
            place = self.grid.span(k).scaled(stride)
            both = place.common(window)
            rows, columns = both.inside(window).slices
            from_rows, from_columns = both.inside(place).slices
            out[:, :, rows, columns] = codes[:, :, from_rows, from_columns]
        return out

    def codes(self, k: int) -> Tensor:
        """Codes (1, C, h, w) of tile k; ``samples`` must be set."""
        if k not in self.known:
            size = self.grid.span(k).scaled(self.codec.stride).size
            self.known[k] = self._read(k, size)
        return self.known[k]

    def _read(self, k: int, size: tuple[int, int]) -> Tensor:
        context = self.grid.context(k, self.quality, *self.samples)
        data = [self.read_chunk(k)]
        try:
            return self.codec.read(data, self.level, size, context=context)
        except DeterminismError:
            if not self.grid.beside:
                raise
        # Of earlier encoders, which did not seal what stands beside: so is every tile.
        logger.debug("the seal of the tiles does not cover what stands beside them")
        self.grid.beside = b""
        return self._read(k, size)

    def _forget(self, first: int) -> None:
        """Drop tiles of rows above the first one still needed."""
        start = first // self.grid.columns * self.grid.columns
        for k in [k for k in self.known if k < start]:
            del self.known[k]
