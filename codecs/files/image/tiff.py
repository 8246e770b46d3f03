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

import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from polycodec.errors import InputError

_BAND = 64  # rows in a strip
_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS
# Tags that describe a file's own bytes and not the image.
_STRUCTURE = {
    *range(254, 260),
    *(262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339),
    *(347, 512, 513, 514, 529, 530, 531, 532, 700, 34377, 34675, *_DIRECTORIES),
}
_INTEROPERABILITY = 0xA005  # a pointer inside EXIF, meaningless once moved


def exif_of_tiff(image: ImageFile.ImageFile) -> bytes | None:
    """Return the tags of a TIFF that describe the image, as an EXIF block."""
    kept = _described(image.getexif())
    return kept.tobytes() if len(kept) else None


def _described(source: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag, value in source.items():
        if tag not in _STRUCTURE:
            kept[tag] = value
    for pointer in _DIRECTORIES:
        if private := dict(source.get_ifd(pointer)):
            private.pop(_INTEROPERABILITY, None)
            kept[pointer] = private
    return kept


def write_tiff(
    target: BinaryIO,
    samples: np.ndarray,
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> None:
    """Write ``samples`` (H, W, 1..4), uint8 or uint16, alpha last where it is even."""
    height, width, channels = samples.shape
    strips = [_strip(samples[top : top + _BAND]) for top in range(0, height, _BAND)]
    sizes = [len(strip) for strip in strips]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    if sum(sizes) > 0xF0000000:
        raise InputError("the image is too large for TIFF; write PNG instead")
    tags = TiffImagePlugin.ImageFileDirectory_v2(b"II\x2a\0\x08\0\0\0")
    _put_exif(tags, exif)
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
    for tag, kind, data in ((700, 1, xmp), (34675, 7, icc)):
        if data:
            tags.tagtype[tag] = kind
            tags[tag] = data
    tags.save(target)
    for strip in strips:
        target.write(strip)


def _put_exif(tags: TiffImagePlugin.ImageFileDirectory_v2, exif: bytes | None) -> None:
    if not exif:
        return
    source = Image.Exif()
    source.load(exif)
    for tag, value in _described(source).items():
        if isinstance(value, dict):
            tags.tagtype[tag] = 4
        tags[tag] = value


def _strip(band: np.ndarray) -> bytes:
    delta = band.astype(band.dtype.newbyteorder("<"))
    delta[:, 1:] -= band[:, :-1]  # modulo 2^8 or 2^16
    return zlib.compress(delta.tobytes(), 6)
