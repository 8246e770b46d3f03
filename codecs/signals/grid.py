# SPDX-License-Identifier: Apache-2.0
"""Boxes of an image, and how it is cut into tiles: integers, no pixels.

  (0, 0) ─► right          Span [top, bottom) x [left, right), in pixels or latents
    │  ┌───┬───┬─┐         Grid  tiles of one side, row by row; the last are smaller
    ▼  │ 0 │ 1 │2│
bottom └───┴───┴─┘
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from polycodec.codecs.transforms.base import Tiling
from polycodec.errors import UsageError

AUTO_PIXELS = 2048 * 2048  # larger images are tiled unless the user says otherwise
AUTO_TILE = 512


@dataclass(frozen=True)
class Span:
    """Half-open box [top, bottom) x [left, right), in pixels or latents."""

    top: int
    left: int
    bottom: int
    right: int

    def grown(self, by: int, height: int, width: int) -> Span:
        """This box with ``by`` more on every side, inside height x width."""
        wide = Span(self.top - by, self.left - by, self.bottom + by, self.right + by)
        return wide.common(Span(0, 0, height, width))

    def scaled(self, down: int) -> Span:
        """The box in units ``down`` times larger, rounded outwards."""
        bottom, right = -(-self.bottom // down), -(-self.right // down)
        return Span(self.top // down, self.left // down, bottom, right)

    def scaled_up(self, by: int) -> Span:
        """The box in units ``by`` times smaller."""
        return Span(*(by * v for v in vars(self).values()))

    def aligned(self, step: int) -> Span:
        """The box begun at multiples of ``step``."""
        top, left = self.top // step * step, self.left // step * step
        return Span(top, left, self.bottom, self.right)

    def common(self, other: Span) -> Span:
        """What lies in both boxes."""
        return Span(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def inside(self, other: Span) -> Span:
        """This box in the coordinates of ``other``, which contains it."""
        top, left = other.top, other.left
        return Span(
            self.top - top, self.left - left, self.bottom - top, self.right - left
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


def choose_tile(
    tiling: Tiling,
    height: int,
    width: int,
    tile: int | None,
    effort: int = 0,
) -> int:
    """Tile side in pixels, 0 for one chunk; UsageError when it is off the grid.

    Refining (``effort``) keeps every activation, so it tiles smaller images already.
    A codec without reach, whose every sample depends on every other, has no tiles.
    """
    grid = tiling.grid
    if tiling.reach is None:
        if tile:
            raise UsageError(
                f"tile is {tile}; every pixel of this codec depends on all others, so "
                "there are no tiles; leave it out"
            )
        return 0
    if tile is None:
        limit = AUTO_PIXELS // 4 if effort else AUTO_PIXELS
        # As the network sees them: a strip of one pixel is as wide as the grid's cells.
        short, long = sorted(side + -side % grid for side in (height, width))
        longer = AUTO_TILE**2 // short // grid * grid  # tiles of a strip, as large
        tile = max(AUTO_TILE, longer) if short * long > limit else 0
    if tile < 0 or tile % grid:
        raise UsageError(
            f"tile is {tile}; expected a multiple of {grid}, or 0 for none"
        )
    return 0 if tile >= max(height, width) else tile


class Grid:
    """The tiles of an image: ``tile`` pixels a side, row by row.

    ``beside``: what else of the image the streams of its tiles are sealed with.
    """

    beside = b""

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

    def context(self, k: int, quality: float, peak: int, channels: int) -> bytes:
        """What the stream of tile k is sealed with: its place, and what it is for."""
        numbers = self.height, self.width, self.tile_h, self.tile_w, k
        rest = round(100 * quality), peak, channels
        return struct.pack("<5I2HB", *numbers, *rest) + self.beside  # BITSTREAM

    def touching(self, span: Span) -> list[int]:
        """Numbers of the tiles that share pixels with ``span``."""
        rows = range(span.top // self.tile_h, -(-span.bottom // self.tile_h))
        columns = range(span.left // self.tile_w, -(-span.right // self.tile_w))
        return [r * self.columns + c for r in rows for c in columns]
