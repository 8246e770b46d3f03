# SPDX-License-Identifier: Apache-2.0
"""JPEG: every segment before the pixels, what follows them, and damage inside them.

    SOI  APP0 JFIF  APP1 EXIF, XMP  APP2 ICC  APP13 IPTC  COM  SOS scan ... EOI  more

scan(data, found)        the segments that pixels need, as a JPEG of their own
check_damage(data)       refuse scans of which the library only warns
spliced(jpeg, image, …)  what stands beside the pixels, as segments

A scan has no checksum. The library that decodes it goes on after damage, and says so
in warnings that Pillow hides; simplejpeg hands them on.

Reference: ITU-T T.81, annex B; T.871 (JFIF); ISO 16684-3 (XMP); ICC.1, annex B.4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from polycodec.codecs.files.image.data import UNITS, Beside, Density, few
from polycodec.codecs.files.image.formats.png import utf8
from polycodec.errors import InputError

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED, _ICC = b"http://ns.adobe.com/xmp/extension/\0", b"ICC_PROFILE\0"
_PHOTOSHOP, _MORE = b"Photoshop 3.0\0", b"MPF\0"
_GAIN = b"urn:iso:std:iso:ts:21496:-1\0"
_COMMENT = "Comment"
_LARGEST = 65533  # bytes in a segment
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # one with a meaning
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a frame's header
_SEGMENTS = {"JFXX": "the JFIF thumbnail", "JP": "content credentials (JUMBF)"}


def scan(data: bytes, found: Beside) -> bytes:
    """Fill ``found``; return a JPEG of the pixels alone. InputError for cut files."""
    at, icc, other, gain, pixels = 0, {}, [], False, [b"\xff\xd8"]
    while True:
        marker = _MARKER.search(data, at)
        if marker is None:
            raise InputError("the JPEG is cut; expected its end marker, found none")
        at, kind = marker.end(), marker[1][0]
        if kind in (0xD8, 0x01):
            continue
        if kind == 0xD9:
            break
        size, start = int.from_bytes(data[at : at + 2], "big"), at - 2
        body, at = data[at + 2 : at + size], at + max(size, 2)
        if kind < 0xE0 or kind == 0xEE or body.startswith(b"JFIF"):
            more = _MARKER.search(data, at) if kind == 0xDA else None
            pixels.append(data[start : more.start() if more else at])
        if kind in _FRAMES and body:
            _check_frame(kind, body[0])
        elif body.startswith(_GAIN):
            gain = True
        elif body.startswith(_ICC):
            icc[body[12:13]] = body[12:14], body[14:]
        elif (kind == 0xFE or 0xE0 <= kind < 0xF0) and not _take(kind, body, found):
            other.append(_named(kind, body))
    _join_icc(list(icc.values()), found)
    found.left_out(*other)
    found.left_out(*_trailer(data[at:], gain, found.xmp or b""))
    return b"".join(pixels) + b"\xff\xd9"


def _check_frame(kind: int, precision: int) -> None:
    if kind not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise InputError("a lossless or hierarchical JPEG is not supported")
    if precision != 8:
        raise InputError(f"a JPEG with samples of {precision} bits is not supported")


def _take(kind: int, body: bytes, found: Beside) -> bool:
    """Put what a segment says into ``found``; False when it is unknown."""
    if kind == 0xFE:
        comment = body.rstrip(b"\0")
        try:
            found.text.append((_COMMENT, comment.decode("utf-8")))
        except UnicodeDecodeError:
            found.text.append((_COMMENT, comment.decode("latin-1")))
    elif kind == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        unit, x, y, width, height = struct.unpack_from(">BHHBB", body, 7)
        if x and y and (unit or x != y):
            found.density = Density(x, y, ("aspect", "inch", "cm", "aspect")[unit & 3])
        return not (width and height)
    elif kind == 0xE1 and body.startswith(_EXIF) and not found.exif:
        found.exif = body[len(_EXIF) :] or None
    elif kind == 0xE1 and body.startswith(_XMP) and not found.xmp:
        found.xmp = body[len(_XMP) :] or None
    elif kind == 0xED and body.startswith(_PHOTOSHOP):
        found.iptc = (found.iptc or b"") + body[len(_PHOTOSHOP) :]
    else:
        return body.startswith(_MORE) or (kind == 0xEE and body.startswith(b"Adobe"))
    return True


def _named(kind: int, body: bytes) -> str:
    if body.startswith(_EXTENDED):
        return "the extended XMP of the JPEG"
    name = re.match(rb"[ -~]{0,24}", body)
    shown = name[0].decode("ascii") if name else ""
    if kind == 0xE0:
        return _SEGMENTS["JFXX"]
    return _SEGMENTS.get(shown, f"the JPEG's segment APP{kind - 0xE0} {shown}".rstrip())


def _join_icc(parts: list[tuple[bytes, bytes]], found: Beside) -> None:
    if parts:
        parts.sort()
        if [n[0] for n, _ in parts] == list(range(1, parts[0][0][1] + 1)):
            found.icc = b"".join(part for _, part in parts)
        else:
            found.left_out("the incomplete ICC profile of the JPEG")


def _trailer(tail: bytes, gain: bool, xmp: bytes) -> Iterator[str]:
    """Name what follows the end of the image."""
    image, said = tail[:2] == b"\xff\xd8", b"hdrgm:" in xmp
    gain = gain or (image and (said or b"hdrgm:" in tail[: 1 << 16]))
    if gain:
        note = "; the XMP still announces it" if said else ""
        yield f"the gain map (HDR) of the JPEG{note}"
    if b"MotionPhoto_Data" in tail or b"ftyp" in (tail if image else tail[:64]):
        yield "the video of the motion photo"
    elif image and not gain:
        yield "further images of the multi-picture JPEG"
    elif tail.strip(b"\0") and not image:
        yield f"{len(tail)} bytes behind the end of the JPEG"


def check_damage(data: bytes, what: str = "the JPEG") -> str | None:
    """Refuse a JPEG whose scan is damaged; what may be harmless is returned."""
    try:
        import simplejpeg
    except ImportError:
        return f"{what} was not searched for damage; install simplejpeg"
    try:
        simplejpeg.decode_jpeg(data, min_factor=8, fastdct=True, strict=True)
    except ValueError as error:
        said = str(error).removeprefix("Corrupt JPEG data: ")
        if "extraneous bytes" in said:
            return f"{what} has {said}; it may be damaged"
        raise InputError(f"{what} is damaged; its decoder says: {said}") from None
    return None


def spliced(jpeg: bytes, image: Beside, notes: list[str]) -> bytes:
    """The bytes of a JFIF file with more segments behind its first; notes of losses."""
    head, rest = bytearray(jpeg[:20]), jpeg[20:]
    if image.density:
        head[13:18] = struct.pack(">BHH", *_density(image.density))
    try:
        xmp = image.xmp and utf8(image.xmp)
    except UnicodeError:
        xmp = None
        notes.append("JPEG: the XMP is left out, as it is no UTF-8")
    parts = [("EXIF", 0xE1, _EXIF, image.exif), ("XMP", 0xE1, _XMP, xmp)]
    parts.append(("IPTC", 0xED, _PHOTOSHOP, image.iptc))
    comments = [value.encode("utf-8") for key, value in image.text if key == _COMMENT]
    parts += [("comment", 0xFE, b"", comment) for comment in comments]
    if others := few(key for key, _ in image.text if key != _COMMENT):
        notes.append(f"JPEG: it holds comments only; left out the texts {others}")
    for name, kind, prefix, body in parts:
        if body and len(prefix) + len(body) > _LARGEST:
            notes.append(
                f"JPEG: {name} of {len(body)} bytes is left out; a segment holds "
                f"{_LARGEST}"
            )
        elif body:
            head += _segment(kind, prefix + body)
    icc, step = image.icc or b"", _LARGEST - 14
    cut = [icc[k : k + step] for k in range(0, len(icc), step)]
    if len(cut) > 255:
        notes.append("JPEG: the ICC profile is left out; it is larger than 16 MB")
        cut = []
    for k, piece in enumerate(cut):
        head += _segment(0xE2, _ICC + bytes([k + 1, len(cut)]) + piece)
    return bytes(head) + rest


def _segment(kind: int, body: bytes) -> bytes:
    return bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2, "big") + body


def _density(density: Density) -> tuple[int, int, int]:
    """Unit, and pixels across and down, as 16 bits of JFIF hold them."""
    x, y, unit = density
    if unit == "metre":  # most are inches, rounded
        inches = [v * UNITS["inch"] for v in (x, y)]
        unit = "inch" if all(abs(v - round(v)) < 0.02 for v in inches) else "cm"
        x, y = (round(v * UNITS[unit]) for v in (x, y))
    scale = max(1.0, max(x, y) / 65535)
    return list(UNITS).index(unit), max(1, round(x / scale)), max(1, round(y / scale))
