# SPDX-License-Identifier: Apache-2.0
"""An image in memory with everything that a file keeps beside its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageData:
    """``pixels``: (H, W, 1 or 3), uint8 up to 8 bits of ``depth``, else uint16.

    Samples run from 0 to ``2**depth - 1``, rows as stored in the file: an EXIF
    orientation is kept in ``exif`` and not applied. ``alpha``: (H, W) uint8 or
    uint16 over the whole range of its type, or None. ``icc``, ``exif`` (without
    the ``Exif`` prefix), ``xmp``: bytes as found, or None. ``format``: where the
    image came from. ``notes``: what could not be kept, one line each.
    """

    pixels: np.ndarray
    depth: int = 8
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    format: str = ""
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def colour(self) -> str:
        """``gray`` or ``rgb``, as in the container's geometry."""
        return "gray" if self.pixels.shape[2] == 1 else "rgb"


def to_depth(samples: np.ndarray, depth: int, wanted: int) -> np.ndarray:
    """Scale integer ``samples`` of ``depth`` bits to ``wanted`` bits, rounded.

    0 stays 0 and the largest value stays the largest.
    """
    if depth == wanted:
        return samples
    old, new = (1 << depth) - 1, (1 << wanted) - 1
    scale = (np.arange(old + 1, dtype=np.int64) * new * 2 + old) // (2 * old)
    return scale.astype(np.uint16 if wanted > 8 else np.uint8)[samples]
