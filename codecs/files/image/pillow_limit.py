# SPDX-License-Identifier: Apache-2.0
"""Lift Pillow's limit on pixels where our own, stated one is checked instead.

with NoPillowLimit():
    image = Image.open(...)      compare image.size with what is allowed
"""

from __future__ import annotations

import threading

from PIL import Image


class NoPillowLimit:
    """Pillow's limit is global, so the first one in lifts it, the last one restores."""

    lock = threading.Lock()
    users = 0
    limit: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            if not NoPillowLimit.users:
                NoPillowLimit.limit = Image.MAX_IMAGE_PIXELS
                Image.MAX_IMAGE_PIXELS = None
            NoPillowLimit.users += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            NoPillowLimit.users -= 1
            if not NoPillowLimit.users:
                Image.MAX_IMAGE_PIXELS = NoPillowLimit.limit
