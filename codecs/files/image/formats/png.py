# SPDX-License-Identifier: Apache-2.0
"""PNG: every chunk before and behind the pixels, read and written.

scan(data, found)         the chunks that pixels need, as a PNG of their own: damage
                          elsewhere cannot stop them
chunks(image, notes)      what stands beside the pixels, as chunks
spliced(png, chunks)      a PNG with these before its pixels

Texts that ImageMagick and exiftool store as "Raw profile type ..." are what they hold.

Reference: W3C PNG specification, third edition.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

from polycodec.codecs.files.image.data import CHUNKS, UNITS, Beside, Density, few
from polycodec.codecs.files.image.formats import iptc
from polycodec.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]
MAX_PROFILE = 1 << 20  # Pillow refuses a PNG whose profile is larger; libpng from 8 MB
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_SILENT = frozenset({b"acTL", b"fcTL", b"hIST"})  # of what is refused, or no image
_MOST = (1 << 31) - 1  # of a number in a chunk
_MAX_TEXT = 1 << 26  # bytes of a text or profile when inflated
_XMP = "XML:com.adobe.xmp"
_RAW = re.compile(r"Raw profile type (\w+)", re.IGNORECASE)


def scan(data: bytes, found: Beside) -> bytes:
    """Fill ``found``; return a PNG of the pixels alone. InputError for cut files."""
    pixels, at, name, other = [SIGNATURE], 8, b"", []
    texts = _Texts(found)
    while name != b"IEND":
        if at + 12 > len(data):
            raise InputError(
                f"the PNG is cut; expected an IEND chunk at {at} bytes, found the end "
                f"of the file at {len(data)}"
            )
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        stop, shown = at + 12 + size, name.decode("latin-1")
        if stop > len(data):
            raise InputError(
                f"the PNG is cut in its {shown} chunk; expected {stop} bytes, found "
                f"{len(data)}"
            )
        body = data[at + 8 : stop - 4]
        intact = zlib.crc32(data[at + 4 : stop - 4]).to_bytes(4, "big")
        if name in _PIXELS or not name[0] & 0x20:
            if intact != data[stop - 4 : stop]:
                raise InputError(f"the PNG is damaged; the CRC of {shown} differs")
            if name not in _PIXELS:
                raise InputError(f"the PNG needs its {shown} chunk, which is unknown")
            pixels.append(_for_pillow(name, data[at:stop], pixels, found))
        elif intact != data[stop - 4 : stop]:
            found.left_out(f"the damaged {shown} chunk of the PNG")
        elif name == b"acTL" and body[:4] > b"\0\0\0\1":
            frames = int.from_bytes(body[:4], "big")
            raise InputError(
                f"an animation of {frames} images; expected one; extract the one you "
                "want"
            )
        elif name in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            texts.take(name, body)
        elif not _take(name, body, pixels[1], found) and name not in _SILENT:
            other.append(shown)
        at = stop
    if other:
        found.left_out(f"chunks of the PNG: {few(other)}")
    if data[at:].strip(b"\0"):
        found.left_out(f"{len(data) - at} bytes behind the end of the PNG")
    if pixels[1][17:18] == b"\3" and not any(c[4:8] == b"PLTE" for c in pixels):
        raise InputError("the PNG has no palette (PLTE), which its colours need")
    return b"".join(pixels)


def _for_pillow(name: bytes, whole: bytes, before: list[bytes], found: Beside) -> bytes:
    """A chunk that pixels need, as Pillow understands it; nothing for one too late."""
    if name in (b"tRNS", b"PLTE") and any(c[4:8] == b"IDAT" for c in before):
        found.left_out(f"the {name.decode()} chunk behind the pixels of the PNG")
        return b""
    depth, colour = before[1][16:18] if len(before) > 1 else (0, 0)
    if name == b"tRNS" and colour == 0 and depth in (2, 4) and len(whole) == 14:
        # It compares with samples that it has scaled to 8 bits.
        peak = (1 << depth) - 1
        return written((name, bytes([0, (whole[9] & peak) * 255 // peak])))
    return whole


def _take(name: bytes, body: bytes, header: bytes, found: Beside) -> bool:
    """Put what an ancillary chunk says into ``found``; False when it is unknown."""
    known = name.decode("latin-1")
    if known in CHUNKS and len(body) == CHUNKS[known]:
        found.chunks[known] = body
    elif name == b"eXIf":
        found.exif = body.removeprefix(b"Exif\0\0")
    elif name == b"pHYs" and len(body) == 9:
        x, y, metre = struct.unpack(">IIB", body)
        if x and y and (metre or x != y):
            found.density = Density(x, y, "metre" if metre == 1 else "aspect")
    elif name == b"sBIT":  # says nothing when it is the depth of the samples
        return set(body) == {8 if header[17] == 3 else header[16]}
    else:
        return False
    return True


class _Texts:
    """Texts and profiles of one file, which inflate to ``_MAX_TEXT`` bytes together."""

    def __init__(self, found: Beside) -> None:
        self.found, self.left = found, _MAX_TEXT

    def take(self, name: bytes, body: bytes) -> None:
        """Put what such a chunk says where it belongs; note what is damaged."""
        try:
            self._take(name, body)
        except (ValueError, zlib.error):
            self.found.left_out(f"the damaged {name.decode()} chunk of the PNG")

    def _take(self, name: bytes, body: bytes) -> None:
        keyword, _, rest = body.partition(b"\0")
        key = keyword.decode("latin-1")
        if name == b"iCCP":
            self.found.icc = self._inflated(rest[1:])
        elif name == b"tEXt":
            self._text(key, rest.decode("latin-1"))
        elif name == b"zTXt":
            self._text(key, self._inflated(rest[1:]).decode("latin-1"))
        else:
            language, translated, packed = rest[2:].split(b"\0", 2)
            raw = self._inflated(packed) if rest[:1] == b"\1" else packed
            if key == _XMP:
                self.found.xmp = raw
                return
            self._text(key, raw.decode("utf-8"))
            if language or translated:
                self.found.left_out(f"the language of the PNG's text {key}")

    def _inflated(self, packed: bytes) -> bytes:
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, max(self.left, 1))  # 0 would be no bound
        self.left -= len(data)
        if not inflater.eof:
            raise ValueError("cut, or too large")
        return data

    def _text(self, key: str, value: str) -> None:
        kind = _RAW.fullmatch(key)
        if kind is None:
            self.found.text.append((key, value))
        else:
            _, _, digits = value.lstrip("\n").split("\n", 2)
            self._profile(kind[1].lower(), bytes.fromhex(digits))

    def _profile(self, kind: str, data: bytes) -> None:
        """Take a "Raw profile": what a JPEG's segment of that name would hold."""
        found = self.found
        if kind == "app1" and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            kind, data = "xmp", data.partition(b"\0")[2]
        if kind in ("exif", "app1"):
            found.exif = found.exif or data.removeprefix(b"Exif\0\0")
        elif kind == "xmp":
            found.xmp = found.xmp or data
        elif kind in ("icc", "icm"):
            found.icc = found.icc or data
        elif kind in ("iptc", "8bim"):
            found.iptc = data if data.startswith(b"8BIM") else iptc.wrapped(data)
        else:
            found.left_out(f"the PNG's raw profile of type {kind}")


def chunks(image: Beside, notes: list[str]) -> Iterator[Chunk]:
    """Yield what stands beside the pixels; what no PNG can hold is noted."""
    if image.icc and len(image.icc) > MAX_PROFILE:
        notes.append(
            f"PNG: the ICC profile of {len(image.icc)} bytes is left out; programs "
            f"refuse files with one above {MAX_PROFILE}"
        )
    elif image.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(image.icc, 9)
    for name, body in image.chunks.items():
        if not (image.icc and name == "sRGB"):
            yield name.encode("ascii"), body
    if image.density:
        x, y, unit = image.density
        scale = UNITS[unit] or 1.0
        packed = struct.pack(">II", *(min(round(v / scale), _MOST) for v in (x, y)))
        yield b"pHYs", packed + (b"\0" if unit == "aspect" else b"\1")
    if image.exif:
        yield b"eXIf", image.exif
    if image.iptc:
        digits = re.sub("(.{72})", r"\1\n", image.iptc.hex())
        raw = f"\niptc\n{len(image.iptc):8}\n{digits}\n".encode("ascii")
        yield b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw, 9)
    for key, value in image.text:
        yield _text_chunk(key, value)
    if image.xmp:
        try:
            yield b"iTXt", f"{_XMP}\0\0\0\0\0".encode() + utf8(image.xmp)
        except UnicodeError:
            notes.append("PNG: the XMP is left out, as it is no UTF-8")


def utf8(xmp: bytes) -> bytes:
    """An XMP packet in UTF-8, as all but TIFF want it; UnicodeError for no text."""
    for mark, coding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if xmp.startswith(mark):
            return xmp.decode(coding).encode("utf-8")
    xmp.decode("utf-8")
    return xmp


def _text_chunk(key: str, value: str) -> Chunk:
    keyword = key.encode("latin-1", "replace")[:79] or b"Comment"
    try:
        plain = value.encode("latin-1")
        if "\0" in value:
            raise ValueError
    except ValueError:
        text = value.replace("\0", "").encode("utf-8")
        return b"iTXt", keyword + b"\0\0\0\0\0" + text
    if len(plain) > 256:
        return b"zTXt", keyword + b"\0\0" + zlib.compress(plain, 9)
    return b"tEXt", keyword + b"\0" + plain


def spliced(png: bytes, extra: Iterable[Chunk]) -> bytes:
    """The bytes of a PNG with more chunks right behind its header."""
    return png[:33] + b"".join(written(c) for c in extra) + png[33:]


def written(chunk: Chunk) -> bytes:
    """A chunk with its length and CRC."""
    name, body = chunk
    crc = zlib.crc32(body, zlib.crc32(name))
    return len(body).to_bytes(4, "big") + name + body + crc.to_bytes(4, "big")
