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

import warnings
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin

from polycodec.codecs.files.image.data import UNITS, Beside, Density, few, spoken
from polycodec.codecs.files.image.formats import iptc as resources
from polycodec.codecs.files.image.formats.libtiff import quiet
from polycodec.codecs.files.image.formats.strips import all_of, check_parts
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
_CODERS |= {22610: "JPEG XR", 34934: "JPEG XR", 34933: "PNG", 33004: "JPEG 2000"}
_READ = {*range(1, 9), 32771, 32773, 32946, 34925, 50000}
_DEPTH, _LEVELS = 32997, 532
_USUAL = {2: (0.0, 255.0) * 3, 6: (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)}


def check_tags(stream: BinaryIO, found: Beside) -> None:
    """Refuse by name what Pillow cannot open, or opens as something else."""
    quiet()
    stream.seek(0)
    head = stream.read(8)
    if head[3] == 43:
        raise InputError("a big-endian BigTIFF is not supported; convert it to PNG")
    head += stream.read(8) if head[2] == 43 else b""
    if len(head) < (16 if head[2] == 43 else 8):
        raise InputError("the TIFF is cut in its header")
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(tags.next)
    tags.load(stream)
    if problem := _problem(tags, head[:1] == b"M"):
        raise InputError(
            f"a TIFF of {problem} is not supported; convert it to RGB or gray of 8 or "
            "16 bits"
        )
    check_parts(tags, stream, found)
    _note(tags, found)


def _bands(tags: TiffImagePlugin.ImageFileDirectory_v2) -> tuple[int, int]:
    """Samples of a pixel, and how many of them its colour has."""
    colour = int(tags.get(262, 1))
    return int(tags.get(277, 1)), {2: 3, 6: 3}.get(colour, 1)


def _problem(tags: TiffImagePlugin.ImageFileDirectory_v2, big_endian: bool) -> str:
    """What Pillow cannot open, or opens as something else; empty where there is none.

    From what is told apart best to what is left.
    """
    bits, (samples, own) = all_of(tags, 258, 1), _bands(tags)
    form, extra = max(all_of(tags, 339, 1)), all_of(tags, 338)
    colour, coder = int(tags.get(262, 1)), int(tags.get(259, 1))
    most, deep, planar = max(bits), max(bits) > 8, tags.get(284) == 2
    sizes = (8, 16) if samples > 1 else (1, 2, 4, 8, 12, 16)
    told: dict[str, Any] = {
        f"{_COLOURS.get(colour)} samples": colour in _COLOURS,
        f"{_FORMATS.get(form, '')} samples of {most} bits": (
            form in _FORMATS or most > 16
        ),
        f"{_CODERS.get(coder)} inside TIFF": coder in _CODERS,
        f"compression {coder}": coder not in _READ,
        f"the {tags.get(_DEPTH)} planes of a volume": tags.get(_DEPTH, 1) != 1,
        f"samples of {', '.join(map(str, bits))} bits": len(set(bits)) > 1,
        "a palette of more than 8 bits": colour == 3 and deep,
        f"{samples} samples of {most} bits a pixel": most not in sizes,
        "big-endian samples of 12 bits": most == 12 and big_endian,
        f"{samples} bands": samples - own > (1 if deep else 3)
        or (own == 1 and samples > 2),
        "alpha behind other bands": set(extra[1:]) & {1, 2},
        "16-bit gray with alpha or further bands": deep and own == 1 and samples > 1,
        "16-bit samples in planes, one behind the other,": (
            deep and planar and samples > 1
        ),
        "colour and further bands in planes, one behind the other,": (
            planar and samples > own and (own == 1 or extra != (2,))
        ),
        "16-bit samples in which white is 0": deep and colour == 0,
        "16-bit colour into which alpha is multiplied": deep and extra == (1,),
    }
    return next((what.lstrip() for what, is_so in told.items() if is_so), "")


def _note(tags: TiffImagePlugin.ImageFileDirectory_v2, found: Beside) -> None:
    """Note what Pillow drops without a word."""
    samples, own = _bands(tags)
    bands, extra = samples - own, all_of(tags, 338)
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
    palette = all_of(tags, 320)
    if 0 < max(palette, default=0) < 256:
        found.notes.append("the TIFF's palette is of 8 bits where 16 are written")
    elif any(v % 257 for v in palette):
        found.notes.append("the 16-bit colours of the TIFF's palette were rounded")
    colour = int(tags.get(262, 1))
    usual = _USUAL.get(colour)  # of 8 bits, which readers assume
    if usual and tuple(map(float, all_of(tags, _LEVELS, *usual))) != usual:
        found.left_out("the TIFF's levels of black and white (ReferenceBlackWhite)")


def scan(image: ImageFile.ImageFile, found: Beside) -> None:
    """Fill ``found`` from the tags of an opened TIFF."""
    tags: TiffImagePlugin.ImageFileDirectory_v2 = image.tag_v2  # type: ignore[attr-defined]
    palette = all_of(tags, 320)
    if (
        image.mode == "P" and max(palette, default=256) < 256
    ):  # so do old programs, and libtiff
        image.palette = ImagePalette.raw("RGB;L", bytes(palette))
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
