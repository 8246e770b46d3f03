# SPDX-License-Identifier: Apache-2.0
"""What a clip is beside its frames, and how FFmpeg calls its samples.

pixel_format("yuv420", 10)      yuv420p10le
form_of(format)                 ("yuv420", 10) of a format that FFmpeg decodes to
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

# colour -> FFmpeg's name, its planes, log2 of the subsampling of chroma (x, y)
COLOURS: dict[str, tuple[str, int, tuple[int, int]]] = {
    "gray": ("gray", 1, (0, 0)),
    "rgb": ("gbrp", 3, (0, 0)),
    "yuv444": ("yuv444p", 3, (0, 0)),
    "yuv422": ("yuv422p", 3, (1, 0)),
    "yuv420": ("yuv420p", 3, (1, 1)),
}
DEPTHS = (8, 9, 10, 12, 14, 16)


class Planes(NamedTuple):
    """A frame: planes (h, w) of uint8, or of uint16 above 8 bits, as FFmpeg has them.

    Y, U, V; or G, B, R; or one. ``pts`` in the clip's time base, None: not told.
    """

    planes: list[np.ndarray]
    pts: int | None = None
    duration: int = 0


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its video; code points are those of ITU-T H.273, 2: unknown.

    ``rate``: frames a second, nominal; ``frames``: None where it is not told;
    ``rotation``: counter-clockwise degrees for showing, after ``mirrored``; ``sound``:
    names of the codecs of sound tracks; ``start``: seconds at which the first of all
    tracks begins.
    """

    width: int
    height: int
    colour: str = "yuv420"
    depth: int = 8
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    siting: str = "unknown"
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    mirrored: bool = False
    rate: Fraction = Fraction(25)
    time_base: Fraction = Fraction(1, 25)
    frames: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    sound: tuple[str, ...] = ()
    container: str = ""
    start: Fraction = Fraction(0)


def pixel_format(colour: str, depth: int) -> str:
    """FFmpeg's name of planar samples."""
    return COLOURS[colour][0] + (f"{depth}le" if depth > 8 else "")


def form_of(format: Any) -> tuple[str, int]:
    """Colour and depth that hold the samples of FFmpeg's ``format``, the fewest."""
    bits = max(component.bits for component in format.components)
    depth = next((d for d in DEPTHS if d >= bits), 16)
    if format.is_rgb or format.has_palette or format.name.startswith(("pal8", "xyz")):
        return "rgb", depth
    if len(format.components) < 3:
        return "gray", depth
    across, down = format.chroma_width(16), format.chroma_height(16)
    names = {(8, 8): "yuv420", (8, 16): "yuv422"}
    return names.get((across, down), "yuv444"), depth


def changed_by_planes(format: Any) -> list[str]:
    """What bringing samples of FFmpeg's ``format`` to planes changes, in words."""
    found, name = [], format.name
    if re.search(r"f(16|32)(le|be)?$", name):
        found.append("its samples are floats: they are cut to 0 … 1 and rounded")
    if name.startswith("xyz"):
        found.append("its colours are brought from XYZ to RGB")
    if format.is_bayer:
        found.append("its colours are interpolated from a Bayer pattern")
    yuv = form_of(format)[0] == "yuv444"
    if yuv and (format.chroma_width(16), format.chroma_height(16)) != (16, 16):
        found.append("its chroma is interpolated to 4:4:4")
    return found


def has_alpha(format: Any) -> bool:
    """Whether a format of FFmpeg has an alpha plane."""
    return any(component.is_alpha for component in format.components)
