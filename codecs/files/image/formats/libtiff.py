# SPDX-License-Identifier: Apache-2.0
"""What the libtiff of Pillow's wheels says while it decodes, as an error of ours.

libtiff writes warnings to standard error and goes on with pixels of its own making, a
white row for a damaged one; Pillow hears nothing of it. What it says of tags goes: they
are read here. PackBits, LZW, Group 3 and Zstandard strips have no checksum, and
damage in them mostly decodes to other pixels without a word from anyone.
"""

from __future__ import annotations

import ctypes
import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL

from polycodec.errors import InputError

# Module, a printf format, and its arguments, which are not looked at: a `va_list` is a
# pointer where it is passed on, on every platform that Pillow has wheels for.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_said = threading.local()


@_HANDLER
def _hear(module: bytes | None, text: bytes | None, _arguments: int | None) -> None:
    if b"Decode" in (module or b"") and hasattr(_said, "damage"):
        _said.damage.append((text or b"").decode("latin-1"))


@functools.cache
def quiet() -> None:
    """Keep libtiff from writing to standard error by itself, and listen to it."""
    folder = Path(PIL.__file__).parent
    found = [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libt*")]
    for path in found:
        library = ctypes.CDLL(str(path))
        library.TIFFSetErrorHandler(_hear)
        library.TIFFSetWarningHandler(_hear)


@contextmanager
def heard() -> Iterator[None]:
    """Raise InputError after a block in which libtiff found damage in pixels."""
    _said.damage = []
    try:
        yield
        if damage := _said.damage:
            first = re.split(r"\s+(?:at|of|for|in)?\s*\S*%", damage[0])[0]
            raise InputError(f"its compressed pixels are damaged ({first.lower()})")
    finally:
        del _said.damage
