# SPDX-License-Identifier: Apache-2.0
"""A TIFF's strips and tiles: whether all are there, and whole, before they are decoded.

    tags ─ where each begins, its bytes ─► inside the file? as many as the image needs?
           not compressed: enough bytes   deflate: its checksum   JPEG: its size, damage

Pillow shows black for what is not there, and libtiff neither looks at checksums nor
minds a JPEG that is smaller than its strip.

Reference: TIFF 6.0, sections 3, 8, 15, 22; RFC 1950.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Tags

from polycodec.codecs.files.image.data import Beside
from polycodec.codecs.files.image.formats.jpeg import check_damage
from polycodec.errors import InputError

_PLAIN, _OLD_JPEG, _JPEG, _DEFLATE = 1, 6, 7, (8, 32946)
_YCBCR = 6
_PIECE = 1 << 20
_MIRRORED = bytes(int(f"{k:08b}"[::-1], 2) for k in range(256))  # the lowest bit first
_FRAME = re.compile(rb"\xff[\xc0-\xc2\xc9\xca]..(.)(..)(..)", re.DOTALL)


class Part(NamedTuple):
    """A strip or tile: where it begins, its bytes, and the rows and columns it has."""

    name: str
    start: int
    size: int
    rows: int
    columns: int


def all_of(tags: Tags, tag: int, *other: Any) -> tuple[Any, ...]:
    """The values of a tag, ``other`` where it is not there."""
    value = tags.get(tag, other)
    return value if isinstance(value, tuple) else (value,)


def check_parts(tags: Tags, stream: BinaryIO, found: Beside) -> None:
    """Refuse a TIFF whose strips or tiles are not all there; note what is unknown."""
    end, coder = stream.seek(0, os.SEEK_END), int(tags.get(259, 1))
    if coder == _OLD_JPEG:
        found.notes.append("JPEG of the old kind in TIFF was not searched for damage")
        return
    parts = list(_parts(tags))
    for part in parts:
        if part.start + part.size > end:
            expected = max(part.start + part.size for part in parts)
            raise InputError(f"the TIFF is cut; expected {expected} bytes, found {end}")
        if part.start < 8:  # as programs of maps write what is empty
            raise InputError(f"the TIFF's {part.name} is not in the file (sparse)")
    if coder == _PLAIN and int(tags.get(262, 1)) != _YCBCR:
        _check_plain(tags, parts, end)
    if coder in (*_DEFLATE, _JPEG):
        unique = list({part.start: part for part in parts}.values())
        if sum(part.size for part in unique) > 4 * end:
            raise InputError("the TIFF's strips lie in each other; it is damaged")
        for part in unique:
            stream.seek(part.start)
            if coder in _DEFLATE:
                _check_deflate(part, stream, mirrored=tags.get(266) == 2)
            elif note := _check_jpeg(part, stream, bytes(tags.get(347, b""))[:-2]):
                found.notes.append(note)
                return


def _parts(tags: Tags) -> Iterator[Part]:
    """Every strip or tile that the image needs; InputError where one is missing."""
    width, height = int(tags.get(256, 0)), int(tags.get(257, 0))
    tiled = 324 in tags
    starts, sizes = (all_of(tags, n) for n in ((324, 325) if tiled else (273, 279)))
    columns = int(tags.get(322, 0) if tiled else width) or 1
    rows = int(tags.get(323, 0) if tiled else min(tags.get(278, height), height)) or 1
    across, down = -(-width // columns), -(-height // rows)
    planes = int(tags.get(277, 1)) if tags.get(284) == 2 else 1
    what = "tile" if tiled else "strip"
    if not width or not height or not starts:
        raise InputError(
            f"the TIFF is cut or damaged; it says {width} x {height} pixels in "
            f"{len(starts)} {what}s"
        )
    needed = across * down * planes
    if len(starts) < needed:
        raise InputError(
            f"the TIFF has {len(starts)} {what}s; expected {needed} for {width} x "
            f"{height} pixels; it is cut or damaged"
        )
    sizes += (0,) * (len(starts) - len(sizes))  # 0: not said
    for k in range(needed):
        at = k // across % down
        own = rows if tiled else min(rows, height - at * rows)
        yield Part(f"{what} {k}", int(starts[k]), int(sizes[k]), own, columns)


def _check_plain(tags: Tags, parts: list[Part], end: int) -> None:
    planar = tags.get(284) == 2
    bits = all_of(tags, 258, 1)
    for part in parts:
        pixel = bits[0] if planar else max(sum(bits), bits[0] * int(tags.get(277, 1)))
        needed = part.rows * -(-part.columns * pixel // 8)
        if (part.size or end - part.start) < needed:
            raise InputError(
                f"the TIFF's {part.name} has {part.size or end - part.start} bytes; "
                f"expected {needed}; it is cut or damaged"
            )


def _check_deflate(part: Part, stream: BinaryIO, mirrored: bool) -> None:
    inflater, left = zlib.decompressobj(), part.size
    most = 16 * part.rows * part.columns + _PIECE  # bytes of any kind that is read
    try:
        while left > 0 < most and not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = stream.read(min(left, _PIECE))
                data = data.translate(_MIRRORED) if mirrored else data
            most -= len(inflater.decompress(data, _PIECE))
            left -= len(data) - len(inflater.unconsumed_tail) or left
    except zlib.error as error:
        raise InputError(f"the TIFF's {part.name} is damaged ({error})") from None


def _check_jpeg(part: Part, stream: BinaryIO, tables: bytes) -> str | None:
    """Refuse damage of a JPEG, which may want tables that all of them share."""
    data, name = stream.read(part.size), part.name
    if frame := _FRAME.search(data):
        bits, *size = (int.from_bytes(v, "big") for v in frame.groups())
        if bits != 8:
            raise InputError(f"a TIFF of JPEG samples of {bits} bits is not supported")
        if size[0] < part.rows or size[1] < part.columns:
            raise InputError(
                f"the TIFF's {name} is a JPEG of {size[1]} x {size[0]} pixels; "
                f"expected {part.columns} x {part.rows}; it is damaged"
            )
    return check_damage((tables + data[2:]) if tables else data, f"JPEG {name}")
