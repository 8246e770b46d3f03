# SPDX-License-Identifier: Apache-2.0
"""What an opened image must be before it is decoded; the refusals have names.

Asked between Pillow's reading of the header and its decoding, so nothing is
allocated for an image that is too large and nothing is cut to 8 bits unsaid.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from polycodec.codecs.files.image.deep import is_deep_colour
from polycodec.errors import InputError

_REFUSED = {
    "CMYK": "CMYK samples",
    "LAB": "Lab samples",
    "F": "float samples",
    "I": "32-bit samples",
}


_lock = threading.Lock()
_limits: list[int | None] = []  # Pillow's own, then None for each further user


@contextlib.contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels where our own, stated one is checked instead.

    Pillow's is global: the first one in lifts it and the last one out restores it.
    """
    with _lock:
        _limits.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            Image.MAX_IMAGE_PIXELS = _limits.pop()


def check(image: ImageFile.ImageFile, stream: BinaryIO, max_pixels: int) -> None:
    """Refuse by name what would be lost or would not fit."""
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"the image has {width} x {height} pixels; expected some")
    if width * height > max_pixels:
        raise InputError(
            f"the image has {width * height} pixels; expected at most {max_pixels}; "
            "cut it into parts"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise InputError(
            f"an animation or multi-page file of {frames} images; expected one image; "
            "extract the one you want"
        )
    if image.mode in _REFUSED:
        raise InputError(
            f"{_REFUSED[image.mode]} are not supported; convert the image to RGB or "
            "gray of 8 or 16 bits"
        )
    _check_depth(image)
    _check_end(image, stream)


def check_start(head: bytes) -> None:
    """Refuse an AVIF of more than 8 bits, from the first bytes of its file."""
    box = head.find(b"av1C") if head[4:8] == b"ftyp" else -1
    # av1C: version, profile and level, then tier (1 bit), high bit depth (1 bit).
    if box >= 0 and len(head) > box + 6 and head[box + 6] & 0x40:
        raise InputError(
            "an AVIF of more than 8 bits is not supported; convert it to 16-bit PNG"
        )


def _check_depth(image: ImageFile.ImageFile) -> None:
    """Refuse samples that Pillow would silently cut to 8 bits."""
    if image.format != "TIFF":
        return
    bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
    bits = bits if isinstance(bits, tuple) else (bits,)
    gray = image.mode.startswith("I;16")
    if max(bits) > 8 and not gray and not is_deep_colour(image):
        raise InputError(f"a TIFF with samples of {max(bits)} bits is not supported")
    if gray and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        raise InputError("a 16-bit TIFF in which white is 0 is not supported")


def _check_end(image: ImageFile.ImageFile, stream: BinaryIO) -> None:
    """Refuse a cut file that its decoder would half notice or be loud about."""
    at = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    if image.format == "PNG":
        _walk_png(stream, size)
    if image.format in ("JPEG", "MPO"):
        _walk_jpeg(stream)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        for starts, sizes in ((273, 279), (324, 325)):  # strips, tiles
            ends = np.add(tags.get(starts, 0), tags.get(sizes, 0), dtype=np.int64)
            if int(np.max(ends)) > size:
                raise InputError(
                    f"the TIFF is cut; expected {int(np.max(ends))} bytes, found {size}"
                )
    stream.seek(at)


def _walk_png(stream: BinaryIO, size: int) -> None:
    at = 8
    while at + 12 <= size:
        stream.seek(at)
        length, name = int.from_bytes(stream.read(4), "big"), stream.read(4)
        at += 12 + length
        if name == b"IEND":
            return
    raise InputError(f"the PNG is cut; expected its end at {at} bytes, found {size}")


def _walk_jpeg(stream: BinaryIO) -> None:
    """Find the end marker behind the first scan: a thumbnail has one of its own."""
    stream.seek(2)
    while len(marker := stream.read(4)) == 4 and marker[1] != 0xDA:
        if marker[:2] == b"\xff\xff":  # a fill byte
            stream.seek(-3, os.SEEK_CUR)
            continue
        stream.seek(max(int.from_bytes(marker[2:], "big") - 2, 0), os.SEEK_CUR)
    last = b""
    while piece := stream.read(1 << 20):
        if b"\xff\xd9" in last + piece:
            return
        last = piece[-1:]
    raise InputError("the JPEG is cut; expected its end marker, found none")
