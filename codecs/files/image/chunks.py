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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.families.latent import LatentCodec
from polycodec.errors import UsageError

AUTO_PIXELS = 2048 * 2048  # larger images are tiled unless the user says otherwise
AUTO_TILE = 512
TILE_GRID = 64  # the hyper latents' stride: tiles are multiples of it

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Span:
    """Half-open box [top, bottom) x [left, right), in pixels or latents."""

    top: int
    left: int
    bottom: int
    right: int

    def grown(self, by: int, height: int, width: int) -> Span:
        """This box with ``by`` more on every side, inside height x width."""
        return Span(
            max(0, self.top - by),
            max(0, self.left - by),
            min(height, self.bottom + by),
            min(width, self.right + by),
        )

    def scaled(self, down: int) -> Span:
        """The box in units ``down`` times larger, rounded outwards."""
        return Span(
            self.top // down,
            self.left // down,
            -(-self.bottom // down),
            -(-self.right // down),
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def inside(self, other: Span) -> Span:
        """This box in the coordinates of ``other``, which contains it."""
        return Span(
            self.top - other.top,
            self.left - other.left,
            self.bottom - other.top,
            self.right - other.left,
        )


def choose_tile(height: int, width: int, tile: int | None, effort: int = 0) -> int:
    """Tile side in pixels, 0 for one chunk; UsageError when it is off the grid.

    Refining (``effort``) keeps every activation, so it tiles smaller images already.
    """
    if tile is None:
        limit = AUTO_PIXELS // 4 if effort else AUTO_PIXELS
        tile = AUTO_TILE if height * width > limit else 0
    if tile < 0 or tile % TILE_GRID:
        raise UsageError(
            f"tile is {tile}; expected a multiple of {TILE_GRID}, or 0 for none"
        )
    return 0 if tile >= max(height, width) else tile


class Grid:
    """The tiles of an image: ``tile`` pixels a side, row by row."""

    def __init__(self, height: int, width: int, tile: int) -> None:
        self.height, self.width = height, width
        self.tile_h, self.tile_w = (tile, tile) if tile else (height, width)
        self.rows = -(-height // self.tile_h)
        self.columns = -(-width // self.tile_w)

    def __len__(self) -> int:
        return self.rows * self.columns

    def span(self, k: int) -> Span:
        """Pixels of tile k."""
        row, column = divmod(k, self.columns)
        top, left = row * self.tile_h, column * self.tile_w
        bottom = min(self.height, top + self.tile_h)
        return Span(top, left, bottom, min(self.width, left + self.tile_w))

    def touching(self, span: Span) -> list[int]:
        """Numbers of the tiles that share pixels with ``span``."""
        rows = range(span.top // self.tile_h, -(-span.bottom // self.tile_h))
        columns = range(span.left // self.tile_w, -(-span.right // self.tile_w))
        return [r * self.columns + c for r in rows for c in columns]


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


class TileEncoder:
    """Codes the tiles of one image, (H, W, 1 or 3) integers with the given peak."""

    def __init__(
        self,
        codec: LatentCodec,
        pixels: np.ndarray,
        peak: int,
        tile: int,
        effort: int = 0,
    ) -> None:
        self.codec, self.pixels, self.peak = codec, pixels, peak
        self.effort = effort
        self.grid = Grid(*pixels.shape[:2], tile)
        self.estimated_bits = 0.0

    def chunks(self, quality: float, keep: dict | None = None) -> Iterator[bytes]:
        """Yield the bytes of each tile; ``keep`` collects its latents by number."""
        self.estimated_bits = 0.0
        for k in range(len(self.grid)):
            y = self._latents(k, quality)
            if self.effort:
                y = self._refined(k, y, quality)
            coded = self.codec.encode_latents(y)
            self.estimated_bits += coded.estimated_bits[0]
            if keep is not None:
                keep[k] = coded.y_hat
            yield coded.data[0]

    def _refined(self, k: int, y: Tensor, quality: float) -> Tensor:
        pixels = self.pixels[self.grid.span(k).slices]
        x = self.codec.pad(to_tensor(pixels, self.peak, y.device))
        return self.codec.refine(x, y, self.codec.level_of(quality), self.effort)

    @torch.inference_mode()
    def _latents(self, k: int, quality: float) -> Tensor:
        stride = self.codec.transform.stride
        halo = -(-self.codec.transform.analysis_reach // stride) * stride
        core = self.grid.span(k)
        window = core.grown(halo, self.grid.height, self.grid.width)
        x = to_tensor(self.pixels[window.slices], self.peak, device_of(self.codec))
        y = self.codec.analyse(self.codec.pad(x), self.codec.level_of(quality))
        rows, columns = core.inside(window).scaled(stride).slices
        return y[:, :, rows, columns].contiguous()


class TileDecoder:
    """Decodes tiles as they are asked for; keeps latents only where still needed."""

    def __init__(
        self,
        codec: LatentCodec,
        grid: Grid,
        quality: float,
        read_chunk: Callable[[int], bytes],
    ) -> None:
        self.codec, self.grid, self.quality = codec, grid, quality
        self.read_chunk = read_chunk
        self.known: dict[int, Tensor] = {}

    def render(
        self, region: Span, peak: int, channels: int, progress: Progress | None = None
    ) -> np.ndarray:
        """Pixels of ``region``, (h, w, channels) integers."""
        dtype = np.uint8 if peak < 256 else np.uint16
        shape = (region.bottom - region.top, region.right - region.left, channels)
        out = np.empty(shape, dtype)
        wanted = self.grid.touching(region)
        for done, k in enumerate(wanted):
            tile = self.grid.span(k)
            part = Span(
                max(tile.top, region.top),
                max(tile.left, region.left),
                min(tile.bottom, region.bottom),
                min(tile.right, region.right),
            )
            pixels = to_pixels(self._synthesise(part), peak, channels)
            out[part.inside(region).slices] = pixels
            if progress:
                progress(done + 1, len(wanted))
        return out

    @torch.inference_mode()
    def _synthesise(self, part: Span) -> Tensor:
        """Image (1, 3, h, w) of the pixels of ``part``, which lie in one tile."""
        transform = self.codec.transform
        stride = transform.stride
        h, w = self.codec.latent_size(self.grid.height, self.grid.width)
        window = part.scaled(stride).grown(transform.synthesis_reach, h, w)
        level = self.codec.level_of(self.quality)
        x = self.codec.synthesise(self._gather(window, stride), level)
        shift = Span(window.top * stride, window.left * stride, 0, 0)
        rows, columns = part.inside(shift).slices
        return x[:, :, rows, columns]

    def _gather(self, window: Span, stride: int) -> Tensor:
        """Latents (1, M, h, w) of ``window`` from the tiles it touches."""
        pixels = Span(*(stride * v for v in vars(window).values()))
        pixels = pixels.grown(0, self.grid.height, self.grid.width)
        numbers = self.grid.touching(pixels)
        self._forget(numbers[0])
        out = None
        for k in numbers:
            y_hat = self._latents(k, stride)
            place = self.grid.span(k).scaled(stride)
            if out is None:
                size = (window.bottom - window.top, window.right - window.left)
                out = y_hat.new_zeros((1, y_hat.shape[1], *size))
            both = Span(
                max(place.top, window.top),
                max(place.left, window.left),
                min(place.bottom, window.bottom),
                min(place.right, window.right),
            )
            rows, columns = both.inside(window).slices
            from_rows, from_columns = both.inside(place).slices
            out[:, :, rows, columns] = y_hat[:, :, from_rows, from_columns]
        return out

    def _latents(self, k: int, stride: int) -> Tensor:
        if k not in self.known:
            span = self.grid.span(k).scaled(stride)
            size = (span.bottom - span.top, span.right - span.left)
            self.known[k] = self.codec.decode_latents([self.read_chunk(k)], *size)
        return self.known[k]

    def _forget(self, first: int) -> None:
        """Drop tiles of rows above the first one still needed."""
        start = first // self.grid.columns * self.grid.columns
        for k in [k for k in self.known if k < start]:
            del self.known[k]


def device_of(codec: LatentCodec) -> torch.device:
    """The device of a codec's weights."""
    return next(codec.parameters()).device
