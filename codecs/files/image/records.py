# SPDX-License-Identifier: Apache-2.0
"""What stands beside pixels as records of a ``.plc`` file, and back.

    profile   ICC: a number below 128 for a known profile; else a form and
              128: raw deflate, the known profiles as its dictionary; 129: LZMA2
    exif xmp iptc             as found
    text      keyword 0 text 0 ... in UTF-8
    beside    items: a code, then its bytes
              1 to 7: a PNG chunk of that place in CHUNKS, its fixed size
              16 to 19: density in that unit of UNITS, two varints
              32 to 34: such a chunk that says what sRGB is

``profiles.xz`` holds the profiles of ``KNOWN``, one behind the other, unchanged, as
photographs embed them: free ones (Compact ICC Profiles, CC0; RawTherapee; Oyranos),
the sRGB profiles of Hewlett-Packard ("may be copied and distributed unchanged"), the
ICC, Google, GIMP, LittleCMS and "c2", Display P3 (Apple), Adobe RGB and Dot Gain 20%
(Adobe). Their makers' copyrights stand in them.
"""

from __future__ import annotations

import functools
import lzma
import zlib
from importlib import resources
from typing import Any

from polycodec.codecs.files.container.fields import Cursor, Varint
from polycodec.codecs.files.container.file import Record, Stored
from polycodec.codecs.files.container.layout import MAX_INFLATED
from polycodec.codecs.files.image.data import CHUNKS, SRGB, UNITS, Beside, Density
from polycodec.errors import BitstreamError

# BITSTREAM: sizes of the profiles in profiles.xz, a profile's number is its place;
# whoever appends one keeps the first DICTIONARY bytes for what was written before
KNOWN = (
    *(912, 420, 616, 336, 290, 360, 480, 480, 480, 374, 480, 580, 560, 736, 480),
    *(736, 456, 480, 536, 524, 748, 410, 456, 736, 480, 596, 3048, 3144, 672, 588),
)
DICTIONARY = 21194
_DEFLATED, _LZMA = 128, 129
_FILTERS = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 22}]  # BITSTREAM
_NUMBER = Varint(1, (1 << 32) - 1)
_DENSITY, _SRGB = 16, 32  # BITSTREAM


@functools.cache
def profiles() -> bytes:
    """The known profiles, one behind the other."""
    packed = resources.files(__package__).joinpath("profiles.xz").read_bytes()
    return lzma.decompress(packed)


def known() -> list[bytes]:
    """The known profiles."""
    ends = [sum(KNOWN[: k + 1]) for k in range(len(KNOWN))]
    return [profiles()[end - size : end] for end, size in zip(ends, KNOWN, strict=True)]


def pack_profile(icc: bytes) -> bytes:
    """An ICC profile as its record holds it."""
    if icc in known():
        return bytes([known().index(icc)])
    words = profiles()[:DICTIONARY]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=words)
    forms = [bytes([_DEFLATED]) + deflate.compress(icc) + deflate.flush()]
    if len(icc) <= MAX_INFLATED:
        packed = lzma.compress(icc, lzma.FORMAT_RAW, filters=_FILTERS)
        forms.append(bytes([_LZMA]) + packed)
    return min(forms, key=len)


def unpack_profile(data: bytes) -> bytes:
    """An ICC profile from its record; BitstreamError, before it grows too large."""
    form, body = data[:1], data[1:]
    try:
        if form and form[0] < len(KNOWN) and not body:
            return known()[form[0]]
        if form == bytes([_DEFLATED]):
            inflate = zlib.decompressobj(-15, zdict=profiles()[:DICTIONARY])
            icc = inflate.decompress(body, MAX_INFLATED)
            whole = inflate.eof
        elif form == bytes([_LZMA]):
            decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
            icc = decoder.decompress(body, MAX_INFLATED)
            whole = decoder.eof
        else:
            raise BitstreamError(f"ICC profile {data[:4].hex()} is unknown; update")
    except (zlib.error, lzma.LZMAError) as error:
        raise BitstreamError(f"it does not decompress; {error}") from error
    if not whole:
        raise BitstreamError(f"it is cut, or larger than {MAX_INFLATED} bytes")
    return icc


def records_of(image: Beside) -> list[Record]:
    """What stands beside the pixels, but alpha."""
    found = {name: getattr(image, name) for name in ("exif", "xmp", "iptc")}
    if image.icc and len(image.icc) <= MAX_INFLATED:
        found["profile"] = pack_profile(image.icc)
    words = (word.replace("\0", "") for pair in image.text for word in pair)
    found["text"] = "".join(f"{word}\0" for word in words).encode("utf-8")
    found["beside"] = _pack_beside(image)
    return [Record(name, data) for name, data in found.items() if data]


def _pack_beside(image: Beside) -> bytes:
    names, out = list(CHUNKS), bytearray()
    for name, body in image.chunks.items():
        if SRGB.get(name) == body:
            out.append(_SRGB + names.index(name))
        else:
            out += bytes([1 + names.index(name)]) + body
    if image.density:
        x, y, unit = image.density
        out.append(_DENSITY + list(UNITS).index(unit))
        _NUMBER.put(out, x)
        _NUMBER.put(out, y)
    return bytes(out)


def beside_of(reader: Stored) -> dict[str, Any]:
    """The fields of `Beside` in a file; what is damaged is a warning of the reader."""
    header, found = reader.header, Beside()
    found.icc, found.exif = header.record("icc"), header.record("exif")
    found.xmp, found.iptc = header.record("xmp"), header.record("iptc")
    takers = {"profile": _take_profile, "text": _take_text, "beside": _take_beside}
    for name, take in takers.items():
        data = header.record(name)
        try:
            if data is not None:
                take(data, found)
        except (BitstreamError, UnicodeDecodeError) as error:
            reader.warnings.append(f"metadata damaged and left out: {name}; {error}")
    return vars(found)


def _take_profile(data: bytes, found: Beside) -> None:
    found.icc = unpack_profile(data)


def _take_text(data: bytes, found: Beside) -> None:
    words = data.decode("utf-8").split("\0")[:-1]
    found.text = list(zip(words[::2], words[1::2], strict=False))


def _take_beside(data: bytes, found: Beside) -> None:
    cursor, sizes = Cursor(data), list(CHUNKS.items())
    while cursor.left:
        code = cursor.take(1)[0]
        if 1 <= code <= len(sizes):
            name, size = sizes[code - 1]
            found.chunks[name] = cursor.take(size)
        elif _SRGB <= code < _SRGB + len(SRGB):
            name = sizes[code - _SRGB][0]
            found.chunks[name] = SRGB[name]
        elif _DENSITY <= code < _DENSITY + len(UNITS):
            unit = list(UNITS)[code - _DENSITY]
            x, y = _NUMBER.get(cursor), _NUMBER.get(cursor)
            found.density = Density(x, y, unit)
        else:
            raise BitstreamError(f"item {code} is unknown to this version")
