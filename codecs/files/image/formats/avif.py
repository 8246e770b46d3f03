# SPDX-License-Identifier: Apache-2.0
"""AVIF: the boxes that say what Pillow does not: colour, crop, shape, further items.

    ftyp  meta ─┬─ pitm primary item    iinf what items are    iref what belongs to what
                └─ iprp ─┬─ ipco properties: colr av1C clap irot pasp clli mdcv auxC ...
                         └─ ipma which of them an item has

scan(data, found)     fill `found`; the crop (x, y, width, height) that `clap` asks for
coloured(data, cicp)  a file whose `colr` says primaries and transfer

Pillow hands on ICC, EXIF (`irot` and `imir` as its orientation) and XMP itself.

Reference: ISO/IEC 14496-12 and 23008-12; AV1 Image File Format 1.1; ITU-T H.273.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

from PIL import Image

from polycodec.codecs.files.image.data import Beside, Density
from polycodec.errors import InputError

_USUAL = (b"ftyp", b"meta", b"mdat", b"free", b"skip", b"idat", b"uuid")
_BESIDE = {"moov": "the image sequence of the AVIF", "mpvd": "the motion photo's video"}
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # bytes before the first box inside
_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
_UNTAGGED = {(2, 2), (1, 13), (1, 2), (2, 13)}  # unspecified or sRGB: what all assume
Crop = tuple[int, int, int, int]
Box = tuple[bytes, int, int]  # name, where its body begins and ends


def _boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        name = data[at + 4 : at + 8]
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), at + 16
        stop = at + size if size else end
        if stop < start or stop > end:
            raise InputError(
                f"the AVIF is cut in its {name.decode('latin-1')} box; expected {stop} "
                f"bytes, found {end}"
            )
        yield name, start, stop
        at = stop


def _find(data: bytes, *path: bytes) -> list[bytes]:
    """The bodies of the boxes at a path of names."""
    spans = [(0, len(data))]
    for k, name in enumerate(path):
        skip = _CONTAINERS.get(name, 0) if k + 1 < len(path) else 0
        spans = [
            (start + skip, stop)
            for span in spans
            for box, start, stop in _boxes(data, *span)
            if box == name
        ]
    return [data[start:stop] for start, stop in spans]


def scan(data: bytes, found: Beside) -> Crop | None:
    """Fill ``found``; return the part of the image that is to be seen."""
    meta = _find(data, b"meta")
    further = [name for name, _, _ in _boxes(data, 0, len(data)) if name not in _USUAL]
    if b"avis" not in data[8:12]:
        names = (name.decode("latin-1").strip() for name in further)
        found.left_out(*(_BESIDE.get(n, f"the AVIF's {n} box") for n in names))
    if not meta or b"avis" in data[8:12]:
        return None  # a sequence, or nothing that Pillow opens
    inside = meta[0][4:]
    primary = _number(b"".join(_find(inside, b"pitm")))
    properties = [
        (name, body)
        for ipco in _find(inside, b"iprp", b"ipco")
        for name, body in ((n, ipco[a:b]) for n, a, b in _boxes(ipco, 0, len(ipco)))
    ]
    # av1C: version, profile and level, then tier (1 bit), high bit depth (1 bit).
    if any(name == b"av1C" and body[2] & 0x40 for name, body in properties):
        raise InputError(
            "an AVIF of more than 8 bits is not supported; convert it to 16-bit PNG"
        )
    own = _associated(b"".join(_find(inside, b"iprp", b"ipma")), primary)
    crop: Crop | None = None
    size = (0, 0)
    for name, body in (properties[k - 1] for k in own if 0 < k <= len(properties)):
        if name == b"ispe":
            size = struct.unpack_from(">II", body, 4)
        elif name == b"clap":
            crop = _crop(body, *size)
        elif name == b"pasp":
            across, down = struct.unpack_from(">II", body)
            if across and down and across != down:
                found.density = Density(down, across, "aspect")
        elif name == b"colr" and body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            if (primaries, transfer) not in _UNTAGGED:
                found.chunks["cICP"] = bytes([primaries & 255, transfer & 255, 0, 1])
        elif name == b"clli":
            light = (v * 10000 for v in struct.unpack_from(">HH", body))
            found.chunks["cLLI"] = struct.pack(">II", *light)
        elif name in (b"mdcv", b"amve", b"cclv", b"reve"):
            found.left_out(f"the AVIF's {name.decode()} (light of the display)")
    found.left_out(*_others(inside, properties, primary))
    return crop


def _number(box: bytes) -> int:
    """An item's number at the start of a full box's body: 16 bits, or 32."""
    return int.from_bytes(box[4 : 8 if box[:1] > b"\0" else 6], "big")


def _associated(ipma: bytes, item: int) -> list[int]:
    """Numbers, from 1, of the properties of an item."""
    if len(ipma) < 8:
        return []
    wide, long = 4 if ipma[0] else 2, 2 if ipma[3] & 1 else 1
    at = 8
    for _ in range(int.from_bytes(ipma[4:8], "big")):
        number, count = int.from_bytes(ipma[at : at + wide], "big"), ipma[at + wide]
        at += wide + 1
        found = [ipma[at + long * k : at + long * (k + 1)] for k in range(count)]
        at += long * count
        if number == item:  # the first bit says whether it must be understood
            return [int.from_bytes(v, "big") & (1 << 8 * long - 1) - 1 for v in found]
    return []


def _crop(clap: bytes, width: int, height: int) -> Crop:
    values = struct.unpack(">IIIIiIiI", clap)
    if not all(values[1::2]):
        raise InputError("the AVIF's crop (clap) is damaged")
    w, h, x, y = (Fraction(*values[k : k + 2]) for k in (0, 2, 4, 6))
    left, top = x + (width - w) / 2, y + (height - h) / 2
    whole = all(v.denominator == 1 for v in (w, h, left, top))
    if not whole or min(left, top) < 0 or left + w > width or top + h > height:
        raise InputError(
            "the AVIF's crop (clap) is no whole part of the image; expected whole "
            f"pixels inside {width} x {height}; convert it to PNG"
        )
    return int(left), int(top), int(w), int(h)


def _others(
    meta: bytes, properties: list[tuple[bytes, bytes]], primary: int
) -> Iterator[str]:
    """Name what the items beside the image are."""
    for iinf in _find(meta, b"iinf"):
        for _, at, _ in _boxes(iinf, 8 if iinf[0] else 6, len(iinf)):
            wide = 4 if iinf[at] == 3 else 2
            if iinf[at + wide + 6 : at + wide + 10] == b"tmap":
                yield "the gain map (HDR) of the AVIF"
    for iref in _find(meta, b"iref"):
        if b"thmb" in [name for name, _, _ in _boxes(iref, 4, len(iref))]:
            yield "the AVIF's thumbnail"
    for name, body in properties:
        if name == b"auxC" and not body[4:].startswith(_ALPHA):
            kind = body[4:].split(b"\0")[0].decode("latin-1")
            yield f"a plane beside the AVIF's image ({kind.rpartition(':')[2] or kind})"


def openable(data: bytes, found: Beside) -> bytes:
    """The file, without an EXIF item for whose damage Pillow would refuse all of it."""
    try:
        Image.open(io.BytesIO(data), formats=["AVIF"]).close()
    except (Image.UnidentifiedImageError, ValueError):
        found.left_out("the damaged EXIF of the AVIF")
        return data.replace(b"Exif", b"none")
    return data


def coloured(avif: bytes, cicp: bytes) -> bytes:
    """An AVIF whose colour property says these primaries and transfer of H.273."""
    at = avif.find(b"colrnclx")
    if at < 0:
        return avif
    values = struct.pack(">HH", cicp[0], cicp[1])
    return avif[: at + 8] + values + avif[at + 12 :]
