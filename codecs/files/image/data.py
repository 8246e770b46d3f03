# SPDX-License-Identifier: Apache-2.0
"""An image in memory with everything that a file keeps beside its pixels."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from polycodec.errors import InputError

_MAX_NOTES = 20  # of one file


class Density(NamedTuple):
    """Pixels in a ``unit``, across and down; "aspect": only their ratio counts."""

    x: int
    y: int
    unit: str  # one of UNITS


UNITS = {"aspect": 0.0, "inch": 0.0254, "cm": 0.01, "metre": 1.0}  # in metres

# Colour beside ICC, as chunks of a PNG, and their sizes in bytes; tIME is kept so too.
CHUNKS = {
    "sRGB": 1,
    "gAMA": 4,
    "cHRM": 32,
    "cICP": 4,
    "mDCV": 24,
    "cLLI": 8,
    "tIME": 7,
}
# What all readers assume where nothing is said.
SRGB = {
    "sRGB": bytes(1),
    "gAMA": struct.pack(">I", 45455),
    "cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}


@dataclass(kw_only=True)
class Beside:
    """What stands beside pixels; bytes as found, None or empty where there is none.

    ``exif``: without the ``Exif`` prefix; ``iptc``: Photoshop's image resources, of
    which IPTC is one; ``text``: keyword and text; ``chunks``: names of ``CHUNKS``, to
    the bytes of such PNG chunks; ``notes``: what could not be kept, one line each.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    text: list[tuple[str, str]] = field(default_factory=list)
    density: Density | None = None
    chunks: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def left_out(self, *what: str) -> None:
        """Note what is not kept, if anything; once."""
        note = f"not kept: {few(what)}"
        if what and note not in self.notes and len(self.notes) < _MAX_NOTES:
            self.notes.append(note)


def few(names: Iterable[str]) -> str:
    """Names for a note, each once, the first of many; nothing that a terminal obeys."""
    unique = list(dict.fromkeys(names))
    shown = [re.sub(r"[^\x20-\x7e\xa0-\uffff]", "?", n[:99]) for n in unique[:8]]
    more = f" and {len(unique) - 8} more" if len(unique) > 8 else ""
    return ", ".join(shown) + more


def spoken(warned: Iterable[warnings.WarningMessage]) -> list[str]:
    """What a library warned of, a line each, each once."""
    return sorted({" ".join(str(warning.message).split()) for warning in warned})


@dataclass(eq=False)
class ImageData(Beside):
    """``pixels``: (H, W, 1 or 3), uint8 up to 8 bits of ``depth``, else uint16.

    Samples run from 0 to ``2**depth - 1``, rows as stored in the file: an EXIF
    orientation is kept in ``exif`` and not applied. ``alpha``: (H, W) uint8 or
    uint16 over the whole range of its type, or None. ``format``: where the image
    came from.
    """

    pixels: np.ndarray
    depth: int = 8
    alpha: np.ndarray | None = None
    format: str = ""

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


def image_of(pixels: np.ndarray) -> ImageData:
    """An image of pixels alone: (H, W) or (H, W, 1 | 2 | 3 | 4), uint8 or uint16.

    The last of two or four channels is alpha. InputError for any other array.
    """
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    fits = planes.ndim == 3 and 1 <= planes.shape[-1] <= 4 and planes.size
    if not fits or planes.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"cannot take an array {tuple(pixels.shape)} of {pixels.dtype} for an "
            "image; expected (H, W) or (H, W, 1 to 4) of uint8 or uint16; "
            "codec.compress takes tensors"
        )
    colours = 1 if planes.shape[-1] < 3 else 3
    alpha = planes[..., -1] if planes.shape[-1] > colours else None
    depth = 8 * planes.dtype.itemsize
    return ImageData(pixels=planes[..., :colours], depth=depth, alpha=alpha)


def to_depth(samples: np.ndarray, depth: int, wanted: int) -> np.ndarray:
    """Scale integer ``samples`` of ``depth`` bits to ``wanted`` bits, rounded.

    0 stays 0 and the largest value stays the largest.
    """
    if depth == wanted:
        return samples
    old, new = (1 << depth) - 1, (1 << wanted) - 1
    scale = (np.arange(old + 1, dtype=np.int64) * new * 2 + old) // (2 * old)
    return scale.astype(np.uint16 if wanted > 8 else np.uint8)[samples]
