# SPDX-License-Identifier: Apache-2.0
"""Memory of a step of a fit is kept for the next one, where glibc allocates it.

Its default gives large blocks back to the system at once and asks for fresh ones, which
are filled with zeros page by page: of a clip of 1280x640 half of the time of a fit.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt, <malloc.h>
USUAL = {TRIM_THRESHOLD: 128 << 10, MMAP_MAX: 1 << 16}
KEPT = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}  # never, none


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep what is given back until the end; without glibc nothing happens."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        yield
        return
    assert libc is not None
    for name, value in KEPT.items():
        libc.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in USUAL.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
