# SPDX-License-Identifier: Apache-2.0
"""EXIF orientation: how the rows of a file are meant to be seen.

upright(planes, exif)      as viewers show them
as_stored(planes, exif)    the way back
"""

from __future__ import annotations

import numpy as np
from PIL import Image

ORIENTATION = 274  # the tag
# Of its values: mirrored, then quarter turns.
TURNS = {2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1)}


def upright(planes: np.ndarray, exif: bytes | None) -> np.ndarray:
    """Stored rows (H, W, ...) as they are seen, (H, W, ...) or (W, H, ...)."""
    mirrored, quarters = _turn(exif)
    return np.rot90(planes[:, ::-1] if mirrored else planes, quarters)


def as_stored(planes: np.ndarray, exif: bytes | None) -> np.ndarray:
    """What is seen so, as a file with that ``exif`` stores it."""
    mirrored, quarters = _turn(exif)
    planes = np.rot90(planes, -quarters)
    return planes[:, ::-1] if mirrored else planes


def _turn(exif: bytes | None) -> tuple[int, int]:
    found = Image.Exif()
    found.load(b"Exif\0\0" + (exif or b""))
    return TURNS.get(found.get(ORIENTATION, 1), (0, 0))
