# SPDX-License-Identifier: Apache-2.0
"""WebP, GIF and BMP: what stands beside the pixels in their blocks and headers.

Each `scan_...(data, found)` fills ``found`` and refuses files that are cut.

Reference: WebP container specification; GIF89a; BITMAPV4HEADER and V5 of Windows.
"""

from __future__ import annotations

import struct

from polycodec.codecs.files.image.data import Beside, Density, few
from polycodec.errors import InputError

_WEBP_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_GIF_XMP, _GIF_ICC = b"XMP DataXMP", b"ICCRGBG1012"
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def scan_webp(data: bytes, found: Beside) -> None:
    """RIFF chunks, in which ICC, EXIF and XMP stand."""
    end, at, other = 8 + int.from_bytes(data[4:8], "little"), 12, []
    if end > len(data):
        raise InputError(f"the WebP is cut; expected {end} bytes, found {len(data)}")
    while at + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > end:
            raise InputError(
                f"the WebP is cut in its {name.decode('latin-1').strip()} chunk; "
                f"expected {at + 8 + size} bytes, found {end}"
            )
        body, at = data[at + 8 : at + 8 + size], at + 8 + size + size % 2
        if name == b"ICCP":
            found.icc = body or None
        elif name == b"EXIF":
            found.exif = body.removeprefix(b"Exif\0\0") or None
        elif name in (b"XMP ", b"XMP\0"):  # the latter by old ImageMagick
            found.xmp = body or None
        elif name not in _WEBP_PIXELS:
            other.append(name.decode("latin-1").strip())
    if other:
        found.left_out(f"chunks of the WebP: {few(other)}")
    if data[end + end % 2 :].strip(b"\0"):
        found.left_out(f"{len(data) - end} bytes behind the end of the WebP")


def scan_gif(data: bytes, found: Beside) -> None:
    """Extensions, in which comments and XMP stand, up to the trailer."""
    at = 13 + _palette(data[10])
    if data[12]:
        found.density = Density(64, data[12] + 15, "aspect")
    while data[at : at + 1] != b";":
        start, kind = at, data[at : at + 2]
        if kind[:1] == b"!":
            at += 2
        elif kind[:1] == b",":
            at += 11 + _palette(data[at + 9])
        else:
            raise InputError(
                f"the GIF is cut or damaged; expected a block at {at} bytes of "
                f"{len(data)}"
            )
        blocks = []
        while size := data[at]:
            blocks.append(data[at + 1 : at + 1 + size])
            at += 1 + size
        at += 1
        _take(kind, blocks, data[start + 14 : at], found)
    if data[at + 1 :].strip(b"\0"):
        found.left_out(f"{len(data) - at - 1} bytes behind the end of the GIF")


def _palette(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _take(kind: bytes, blocks: list[bytes], raw: bytes, found: Beside) -> None:
    """Take an extension; ``raw``: all after the name of an application."""
    name = blocks[0] if blocks else b""
    if kind == b"!\xfe":
        comment = b"".join(blocks)
        try:
            found.text.append(("Comment", comment.decode("utf-8")))
        except UnicodeDecodeError:
            found.text.append(("Comment", comment.decode("latin-1")))
    elif kind == b"!\xff" and name == _GIF_XMP:
        found.xmp = raw.partition(b"\x01\xff\xfe")[0]
    elif kind == b"!\xff" and name == _GIF_ICC:
        found.icc = b"".join(blocks[1:])
    elif kind == b"!\x01":
        found.left_out("plain text that the GIF lays over its image")
    elif kind[:1] == b"!" and kind != b"!\xf9" and name not in _GIF_LOOPS:
        found.left_out(f"the GIF's extension {name.decode('latin-1')}")


def scan_bmp(data: bytes, found: Beside) -> None:
    """The header's density, and the colour of versions 4 and 5."""
    size = int.from_bytes(data[14:18], "little")
    if len(data) < 14 + size:
        raise InputError(
            f"the BMP is cut in its header; expected {14 + size} bytes, found "
            f"{len(data)}"
        )
    if size >= 40:
        x, y = struct.unpack_from("<ii", data, 38)
        if x > 0 and y > 0:
            found.density = Density(x, y, "metre")
    space = data[70:74] if size >= 108 else b"BGRs"  # the letters are stored backwards
    if space == b"DEBM" and size >= 124:
        start, length = struct.unpack_from("<II", data, 126)
        found.icc = data[14 + start : 14 + start + length] or None
    elif space == b"KNIL":
        found.left_out("the colour profile that the BMP names in another file")
    elif space == bytes(4):
        found.left_out("the BMP's calibrated colours (end points and gamma)")
