# SPDX-License-Identifier: Apache-2.0
"""Small pictures in every format, with anything beside them, made byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    write_plc,
)
from polycodec.codecs.files.image.data import Beside, ImageData
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.image.records import beside_of, records_of

HERE = Path(__file__).parent / "files" / "image" / "fixtures"
FIELDS = ("icc", "exif", "xmp", "iptc", "text", "density", "chunks")
RNG = np.random.default_rng(3)
PIXELS = (np.mgrid[:16, :24].sum(0)[..., None] * [5, 3, 6] + 20).astype(np.uint8)
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
GAIN = XMP + b"<!-- hdrgm:Version='1.0' -->"
IRB = b"8BIM\x04\x04\0\0\0\0\0\x10\x1c\x02\x78\0\x0bA caption!."
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def saved(format: str, image: np.ndarray = PIXELS, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


PNG, JPEG = saved("PNG"), saved("JPEG", quality=95)
GIF, WEBP, BMP = saved("GIF"), saved("WEBP", lossless=True), saved("BMP")
ICC = Image.open(HERE / "strips.tif").info["icc_profile"]


def png(*chunks: bytes, behind: bool = False) -> bytes:
    at = len(PNG) - 12 if behind else 33
    return PNG[:at] + b"".join(chunks) + PNG[at:]


def jpeg(*segments: tuple[int, bytes], tail: bytes = b"") -> bytes:
    parts = [
        bytes([255, kind]) + struct.pack(">H", len(body) + 2) + body
        for kind, body in segments
    ]
    return JPEG[:2] + b"".join(parts) + JPEG[2:] + tail


def webp(name: bytes, body: bytes) -> bytes:
    more = name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    size = struct.pack("<I", len(WEBP) - 8 + len(more))
    return WEBP[:4] + size + WEBP[8:] + more


def gif(*extensions: bytes) -> bytes:
    at = 13 + (6 << (GIF[10] & 7))
    return GIF[:at] + b"".join(extensions) + GIF[at:]


def blocks(kind: int, *parts: bytes) -> bytes:
    return bytes([0x21, kind]) + b"".join(bytes([len(p)]) + p for p in parts) + b"\0"


def again_of(out: io.BytesIO) -> ImageData:
    return read_image(io.BytesIO(out.getvalue()))


def through_plc(image: ImageData) -> tuple[Beside, list[str]]:
    """What a file of ours hands on, and its warnings."""
    geometry = ImageGeometry(image.width, image.height, image.depth, image.colour)
    records = records_of(image)
    header = Header("image/default", bytes(4), "image", geometry, records=records)
    out = io.BytesIO()
    write_plc(out, header, [b""])
    reader = Reader(out)
    return Beside(**beside_of(reader)), reader.warnings


def equal(field: str, found: object, wanted: object, again: ImageData) -> bool:
    if field == "density" and found and found.unit != wanted.unit:
        inch = {"inch": 1, "metre": 0.0254, "cm": 2.54}
        a, b = ([v * inch[d.unit] for v in d[:2]] for d in (found, wanted))
        return np.allclose(a, b, atol=0.02)
    if field == "exif" and found != wanted and found:  # TIFF writes it anew
        values = []
        for data in (found, wanted):
            tags = Image.Exif()
            tags.load(data)
            values.append(dict(tags))
        return values[0] == values[1]
    if field == "xmp" and wanted.startswith(b"\xff\xfe"):
        return found in (wanted, wanted.decode("utf-16").encode())
    if field == "text" and not found:  # TIFF has a tag for it
        return b"x" * 1000 in (again.exif or b"")
    return found == wanted
