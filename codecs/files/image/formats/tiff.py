# SPDX-License-Identifier: Apache-2.0
"""TIFF: its descriptive tags to and from an EXIF block, and a writer to 16 bits.

An EXIF block is a TIFF without pixels, so a TIFF's own tags (maker, date, EXIF and
GPS directories) are kept as one, without those that describe how its pixels lie.
Pixels are written as little-endian strips, deflated horizontal differences.

Not by a library: Pillow writes no 16-bit colour, and tifffile (25,000 lines) refuses to
write the EXIF and GPS directories, for which this file would stay.

Reference: TIFF 6.0, sections 7, 8, 14; Adobe TIFF technical note on deflate.
"""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from PIL import Image, ImageFile, TiffImagePlugin

from polycodec.codecs.files.image.data import UNITS, Beside, Density, few, spoken
from polycodec.codecs.files.image.formats import iptc as resources
from polycodec.codecs.files.image.formats.jpeg import check_damage
from polycodec.errors import InputError

_BAND = 64  # rows in a strip
_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS
_IPTC, _PHOTOSHOP = 33723, 34377
# Tags that describe a file's own bytes and not the image, and those kept elsewhere.
_STRUCTURE = {
    *range(254, 260),
    *(262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339),
    *(347, 512, 513, 514, 529, 530, 531, 532, 700, _IPTC, _PHOTOSHOP, 34675),
    *_DIRECTORIES,
}
_INTEROPERABILITY = 0xA005  # a pointer inside EXIF, meaningless once moved
_TEXTS = {"Description": 270, "Author": 315, "Software": 305, "Copyright": 33432}
_TEXTS["Comment"] = 270
_UNITS = ("", "aspect", "inch", "cm")
_FORMATS = {2: "signed", 3: "float", 5: "complex", 6: "complex float"}
_COLOURS = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 4: "mask"}
_COLOURS |= {32803: "raw sensor", 34892: "raw sensor", 32844: "LogL", 32845: "LogLuv"}
_CODERS = {50001: "WebP", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000"}
_CODERS |= {50002: "JPEG XL", 52546: "JPEG XL", 34661: "JBIG", 34887: "LERC"}
_CODERS |= {34892: "lossy JPEG", 32809: "ThunderScan", 34676: "SGI", 34677: "SGI"}
_OLD_JPEG, _JPEG = 6, 7


@functools.cache
def quiet() -> None:
    """Keep the libtiff of Pillow's wheels from writing to standard error by itself."""
    folder = Path(PIL.__file__).parent
    found = [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libt*")]
    for path in found:
        library = ctypes.CDLL(str(path))
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def check_tags(stream: BinaryIO, found: Beside) -> None:
    """Refuse by name what Pillow cannot open, or opens as something else."""
    quiet()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(8)
    if head[3] == 43:
        raise InputError("a big-endian BigTIFF is not supported; convert it to PNG")
    head += stream.read(8) if head[2] == 43 else b""
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(tags.next)
    tags.load(stream)
    bits, samples = _all(tags, 258, 1), int(tags.get(277, 1))
    form, extra = max(_all(tags, 339, 1)), _all(tags, 338)
    colour, coder = int(tags.get(262, 1)), int(tags.get(259, 1))
    most, deep = max(bits), max(bits) > 8
    own = {2: 3, 6: 3}.get(colour, 1)
    problem = None
    if colour in _COLOURS:
        problem = f"{_COLOURS[colour]} samples"
    elif form in _FORMATS or most > 16:
        problem = f"{_FORMATS.get(form, '')} samples of {most} bits".lstrip()
    elif coder in _CODERS:
        problem = f"{_CODERS[coder]} inside TIFF"
    elif len(set(bits)) > 1:
        problem = f"samples of {', '.join(map(str, bits))} bits"
    elif (deep and most not in (12, 16)) or (most == 12 and samples > 1):
        problem = f"{samples} samples of {most} bits a pixel"
    elif samples - own > 3 or (own == 1 and samples > 2):
        problem = f"{samples} bands"
    elif set(extra[1:]) & {1, 2}:
        problem = "alpha behind other bands"
    elif deep and own == 1 and samples > 1:
        problem = "16-bit gray with alpha or further bands"
    elif deep and tags.get(284) == 2 and samples > 1:
        problem = "16-bit samples in planes, one behind the other,"
    elif deep and colour == 0:
        problem = "16-bit samples in which white is 0"
    elif deep and extra == (1,):
        problem = "16-bit colour into which alpha is multiplied"
    if problem:
        raise InputError(
            f"a TIFF of {problem} is not supported; convert it to RGB or gray of 8 or "
            "16 bits"
        )
    _check_end(tags, size)
    if coder == _JPEG:
        _check_jpeg(tags, stream, found)
    if coder == _OLD_JPEG:
        found.notes.append("JPEG of the old kind in TIFF was not searched for damage")
    _note(tags, samples - own, extra, found)


def _all(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int, *other: Any) -> Any:
    value = tags.get(tag, other)
    return value if isinstance(value, tuple) else (value,)


def _check_end(tags: TiffImagePlugin.ImageFileDirectory_v2, size: int) -> None:
    for starts, sizes in ((273, 279), (324, 325)):  # strips, tiles
        ends = np.add(tags.get(starts, 0), tags.get(sizes, 0), dtype=np.int64)
        if int(np.max(ends)) > size:
            raise InputError(
                f"the TIFF is cut; expected {int(np.max(ends))} bytes, found {size}"
            )


def _check_jpeg(
    tags: TiffImagePlugin.ImageFileDirectory_v2, stream: BinaryIO, found: Beside
) -> None:
    """Refuse damage in strips or tiles that are JPEG each, by tables they share."""
    tables = bytes(tags.get(347, b""))[:-2]
    names = (324, 325) if 324 in tags else (273, 279)
    spans = dict.fromkeys(zip(*(_all(tags, name) for name in names), strict=True))
    if sum(size for _, size in spans) > 4 * stream.seek(0, os.SEEK_END):
        raise InputError("the TIFF's strips lie in each other; it is damaged")
    for k, (start, size) in enumerate(spans):
        stream.seek(start)
        part = stream.read(size)
        note = check_damage((tables + part[2:]) if tables else part, f"JPEG strip {k}")
        if note:
            found.notes.append(note)
            return


def _note(
    tags: TiffImagePlugin.ImageFileDirectory_v2,
    bands: int,
    extra: tuple[int, ...],
    found: Beside,
) -> None:
    """Note what Pillow drops without a word."""
    lost = bands - any(kind in (1, 2) for kind in extra[:1] or (2,) * (bands == 1))
    if lost > 0:
        found.left_out(f"{lost} of the TIFF's bands beside its image")
    if extra[:1] == (1,):
        found.notes.append("the TIFF's colours were multiplied by alpha: divided by it")
    # As they are in the file: Pillow takes what is declared as numbers for one number.
    raw = {tag: tags._tagdata[tag] for tag in (_PHOTOSHOP, _IPTC) if tag in tags}
    found.iptc = raw.get(_PHOTOSHOP)
    if _IPTC in raw and not (found.iptc and resources.datasets(found.iptc)):
        found.iptc = (found.iptc or b"") + resources.wrapped(raw[_IPTC])
    if 330 in tags:
        found.left_out("images inside the TIFF's image (SubIFDs)")
    if any(v % 257 for v in _all(tags, 320)):
        found.notes.append("the 16-bit colours of the TIFF's palette were rounded")


def scan(image: ImageFile.ImageFile, found: Beside) -> None:
    """Fill ``found`` from the tags of an opened TIFF."""
    tags: TiffImagePlugin.ImageFileDirectory_v2 = image.tag_v2  # type: ignore[attr-defined]
    kept = _described(image.getexif())
    found.exif = kept.tobytes().removeprefix(b"Exif\0\0") if len(kept) else None
    found.icc = image.info.get("icc_profile") or None
    xmp = tags.get(700) or b""
    found.xmp = (xmp.encode("utf-8") if isinstance(xmp, str) else bytes(xmp)) or None
    found.density = _density(tags)


def _density(tags: TiffImagePlugin.ImageFileDirectory_v2) -> Density | None:
    """The density that tags say, fractions of it in pixels a metre."""
    x, y, number = (tags.get(tag, 0) for tag in (282, 283, 296))
    if not x or not y or number not in (0, 1, 2, 3):
        return None
    x, y, unit = float(x), float(y), _UNITS[number or 2]
    if x != int(x) or y != int(y):
        scale = UNITS[unit] or 1 / 65536
        x, y, unit = x / scale, y / scale, "metre" if UNITS[unit] else "aspect"
    found = Density(round(x), round(y), unit)
    square = unit == "aspect" and found.x == found.y
    return None if square or min(found[:2]) < 1 or max(found[:2]) >> 32 else found


def _described(source: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in source:
        if tag not in _STRUCTURE:
            kept[tag] = _plain(source[tag])
    for pointer in _DIRECTORIES:
        if private := dict(source.get_ifd(pointer)):
            private.pop(_INTEROPERABILITY, None)
            kept[pointer] = {tag: _plain(value) for tag, value in private.items()}
    return kept


def _plain(value: Any) -> Any:
    """Text that is not ASCII as its bytes; Pillow would write question marks."""
    text = isinstance(value, str) and not value.isascii()
    return value.encode("latin-1", "replace") if text else value


def write_tiff(
    target: BinaryIO, samples: np.ndarray, image: Beside, notes: list[str]
) -> None:
    """Write ``samples`` (H, W, 1..4), uint8 or uint16, alpha last where it is even."""
    height, width, channels = samples.shape
    strips = [_strip(samples[top : top + _BAND]) for top in range(0, height, _BAND)]
    sizes = [len(strip) for strip in strips]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    if sum(sizes) > 0xF0000000:
        raise InputError("the image is too large for TIFF; write PNG instead")
    tags = _metadata(image, notes)
    tags[256], tags[257] = width, height
    tags[258] = (8 * samples.itemsize,) * channels
    tags[259], tags[317] = 8, 2  # deflate, horizontal differences
    tags[262] = 2 if channels >= 3 else 1  # RGB, or gray with black 0
    for tag, values in ((273, starts), (279, sizes)):
        tags.tagtype[tag] = 4  # 32 bits
        tags[tag] = tuple(values)
    tags[277], tags[278], tags[284] = channels, min(_BAND, height), 1
    if channels in (2, 4):
        tags[338] = 2  # alpha, not multiplied in
    tags.save(target)
    for strip in strips:
        target.write(strip)


def _metadata(image: Beside, notes: list[str]) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of what stands beside the pixels, the damaged ones left out."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            tags = _with_exif(image.exif)
            tags.tobytes(8)
        if said:
            notes.append(
                f"TIFF: a part of the damaged EXIF is left out ({few(spoken(said))})"
            )
    except Exception as error:  # Pillow meets damaged EXIF with any exception
        notes.append(f"TIFF: the damaged EXIF is left out ({type(error).__name__})")
        tags = _with_exif(None)
    iptc = image.iptc and resources.datasets(image.iptc)
    for tag, kind, data in (
        (700, 1, image.xmp),
        (_IPTC, 7, iptc),
        (_PHOTOSHOP, 1, image.iptc),
        (34675, 7, image.icc),
    ):
        if data:
            tags.tagtype[tag] = kind
            tags[tag] = data
    lost = []
    for key, value in image.text:
        if key in _TEXTS and _TEXTS[key] not in tags:
            tags[_TEXTS[key]] = value.encode("utf-8")
        elif tags.get(_TEXTS.get(key, 0)) != value:
            lost.append(key)
    if lost:
        notes.append(f"TIFF: left out the texts {few(lost)}")
    if image.density and image.density != _density(tags):
        x, y, unit = image.density
        if unit == "metre":
            x, y, unit = x / 100, y / 100, "cm"  # type: ignore[assignment]
        tags[282], tags[283], tags[296] = x, y, _UNITS.index(unit)
    return tags


def _with_exif(exif: bytes | None) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2(b"II\x2a\0\x08\0\0\0")
    if exif:
        source = Image.Exif()
        source.load(exif)
        for tag, value in _described(source).items():
            if isinstance(value, dict):
                tags.tagtype[tag] = 4
            tags[tag] = value
    return tags


def _strip(band: np.ndarray) -> bytes:
    delta = band.astype(band.dtype.newbyteorder("<"))
    delta[:, 1:] -= band[:, :-1]  # modulo 2^8 or 2^16
    return zlib.compress(delta.tobytes(), 6)
