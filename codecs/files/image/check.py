# SPDX-License-Identifier: Apache-2.0
"""Which format a file has, and what its image must be before it is decoded.

Asked between Pillow's reading of the header and its decoding, so nothing is
allocated for an image that is too large and nothing is cut to 8 bits unsaid.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from PIL import Image, ImageFile

from polycodec.errors import InputError
from polycodec.forking import fork_safe

_REFUSED = {
    "CMYK": "CMYK samples",
    "LAB": "Lab samples",
    "F": "float samples",
    "I": "32-bit samples",
}
_READ = "PNG, JPEG, WebP, TIFF, AVIF or PPM"  # GIF and BMP come for nothing

# The first bytes of formats that are read, with Pillow's names, and of others.
_FORMATS = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]",
    "AVIF": rb"....ftyp(?=(?:.{4})*?avi[fs])",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{16}",
}
_OURS = "a .plc file"
_OTHERS = {
    "HEIC": rb"....ftyp(?:hei[cxms]|hev[cmsx])",
    "HEIF": rb"....ftyp(?:mif1|msf1|mif2)",
    "Canon raw": rb"....ftypcrx ",
    "video": rb"....ftyp|\x1aE\xdf\xa3",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XR": rb"II\xbc",
    "Panasonic or Olympus raw": rb"II[UR][\0OS]|IIRO",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"v/1\x01",
    "Radiance": rb"#\?RA",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "SVG": rb"\s*<(?:\?xml|svg|!DOCTYPE svg)",
    "icon": rb"\0\0[\x01\x02]\0[^\0]\0",
    "QOI": rb"qoif",
    "DDS": rb"DDS ",
    "FITS": rb"SIMPLE  =",
    "DPX": rb"SDPX|XPDS",
    "SGI": rb"\x01\xda[\0\x01][\x01\x02]",
    "JBIG2": rb"\x97JB2",
    "WavPack": rb"wvpk",
    "AC-3": rb"\x0bw",
    "SPHERE": rb"NIST_1A",
    _OURS: rb"\x93PLC",
    "ZIP": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
}


def format_of(start: bytes) -> str:
    """Pillow's name of the format of a file's first bytes; InputError for others."""
    for name, pattern in _FORMATS.items():
        if re.match(pattern, start, re.DOTALL):
            return name
    for name, pattern in _OTHERS.items():
        if re.match(pattern, start, re.DOTALL) and name == _OURS:
            raise InputError(f"this is {_OURS}; it is encoded already; decode it first")
        if re.match(pattern, start, re.DOTALL):
            raise InputError(
                f"this is {name}, no image of a supported kind; expected {_READ}; "
                "convert it to PNG"
            )
    raise InputError(
        "this is no image of a supported kind, or its start is damaged; expected "
        f"{_READ}"
    )


_lock = fork_safe(threading.Lock())
_limits: list[int | None] = []  # Pillow's own, then None for each further user


@contextlib.contextmanager
def no_pillow_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels where our own, stated one is checked instead.

    Pillow's is global: the first one in lifts it and the last one out restores it.
    """
    with _lock:
        _limits.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            Image.MAX_IMAGE_PIXELS = _limits.pop()


def check(image: ImageFile.ImageFile, max_pixels: int) -> None:
    """Refuse by name what would be lost or would not fit."""
    width, height = image.size
    if width < 1 or height < 1:
        raise InputError(f"the image has {width} x {height} pixels; expected some")
    if width * height > max_pixels:
        raise InputError(
            f"the image has {width * height} pixels; expected at most {max_pixels}; "
            "cut it into parts"
        )
    try:
        frames = getattr(image, "n_frames", 1)
    except SyntaxError:  # of a kind that Pillow does not know
        raise InputError(
            "it holds several images, not all of a known kind; expected one; extract "
            "the one you want"
        ) from None
    if frames > 1 and image.format != "MPO":
        raise InputError(
            f"an animation or multi-page file of {frames} images; expected one image; "
            "extract the one you want, or of an animation say --as video"
        )
    if image.mode in _REFUSED:
        raise InputError(
            f"{_REFUSED[image.mode]} are not supported; convert the image to RGB or "
            "gray of 8 or 16 bits"
        )
