# SPDX-License-Identifier: Apache-2.0
"""A folder of numbered frames, images of one size: frame2.png before frame10.png.

They are read as images are (`files/image/read.py`), one at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.video.data import DEPTHS, Planes, VideoInfo
from polycodec.errors import InputError

_IMAGES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp"),
    *(".ppm", ".pgm", ".pnm"),
)


def numbered(folder: str) -> list[str]:
    """The images of a folder in the order of their numbers; InputError for none."""
    names = [n for n in os.listdir(folder) if n.lower().endswith(_IMAGES)]
    if not names:
        raise InputError(
            f"no frames in {folder}; expected images such as 0001.png, 0002.png"
        )

    def key(name: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(int(p) if p.isdigit() else -1, p) for p in parts]

    return [os.path.join(folder, name) for name in sorted(names, key=key)]


class Folder:
    """The frames of a folder at ``rate`` a second."""

    def __init__(self, folder: str, rate: Fraction) -> None:
        self._paths, self.notes = numbered(folder), list[str]()
        first = read_image(self._paths[0])
        self._form = _form(first)
        depth = next(d for d in DEPTHS if d >= first.depth)
        self.info = VideoInfo(
            width=first.width,
            height=first.height,
            colour=first.colour,
            depth=depth,
            full_range=True,
            primaries=1,
            transfer=13,  # sRGB's
            matrix=0 if first.colour == "rgb" else 2,
            rate=rate,
            time_base=1 / rate,
            frames=len(self._paths),
        )

    def frames(self) -> Iterator[Planes]:
        """See `Backend.frames`."""
        for number, path in enumerate(self._paths):
            image = read_image(path)
            if _form(image) != self._form:
                raise InputError(
                    f"its frames change from {self._form} to {_form(image)} at "
                    f"{os.path.basename(path)}, frame {number}; the {number} before it "
                    "are good; bring all to one form"
                )
            if image.alpha is not None and not self.notes:
                self.notes.append("transparency is left out")
            pixels = image.pixels.astype(np.uint8 if self.info.depth <= 8 else "<u2")
            order = (0,) if pixels.shape[2] == 1 else (1, 2, 0)  # G, B, R
            planes = [np.ascontiguousarray(pixels[..., c]) for c in order]
            yield Planes(planes, number)

    def close(self) -> None:
        """Nothing is open."""


def _form(image: ImageData) -> str:
    return f"{image.width}x{image.height} {image.colour} of {image.depth} bits"
