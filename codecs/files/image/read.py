# SPDX-License-Identifier: Apache-2.0
"""Images in and out: PNG, JPEG, WebP, TIFF, AVIF, PPM; all of it or a named error.

    image = read_image("photo.png")        pixels (H, W, 1|3), alpha, all beside them
    notes = write_image(image, "photo.tif")

Pixels are handed on as they are stored: the EXIF orientation tag is kept and not
applied. What a target cannot hold is an error when pixels would be lost (alpha) and
a line in the notes when it is metadata or precision.

Refused by name: animations and multi-page files, CMYK, Lab, float, signed and 32-bit
samples, AVIF of more than 8 bits (Pillow would cut it), images of 0 pixels or more
than ``MAX_PIXELS``, damaged and cut files. What is neither kept nor refused is noted.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from polycodec.codecs.files.container.layout import MAX_PIXELS
from polycodec.codecs.files.image.check import check, format_of, no_pillow_limit
from polycodec.codecs.files.image.data import Beside, ImageData, spoken
from polycodec.codecs.files.image.formats import avif, blocks, jpeg, png, tiff
from polycodec.codecs.files.image.formats.deep import (
    is_deep_colour,
    load_as_stored,
    read_deep,
)
from polycodec.codecs.files.image.formats.netpbm import is_netpbm, read_netpbm
from polycodec.codecs.files.image.write import FORMATS, write_image
from polycodec.codecs.files.sources import Source, name_of, opened, seekable
from polycodec.errors import CodecError, InputError

__all__ = ["FORMATS", "MAX_PIXELS", "ImageData", "read_image", "write_image"]

_MAX_BYTES = 1 << 32  # of an input file
_TO_LUMA_OR_COLOUR = {
    "1": "1",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "YCbCr": "RGB",
}


def read_image(source: Source, *, max_pixels: int = MAX_PIXELS) -> ImageData:
    """Read an image from a path or an open binary file (a pipe will do).

    Raises InputError for all that is missing, damaged or not supported.
    """
    name = name_of(source)
    if name == "-":
        name = str(getattr(source, "name", "the input"))
    with opened(seekable(source)) as stream, no_pillow_limit():
        try:
            # Pillow warns about odd tags; they become notes, not lines on stderr.
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                image = _read(stream, max_pixels)
        except CodecError as error:
            raise type(error)(f"cannot read {name}; {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            if re.match("decoder error|could not create decoder", reason):
                reason = f"its compressed pixels are damaged or cut ({reason})"
            raise InputError(f"cannot read {name}; {reason}") from error
        except MemoryError:
            raise  # the file may be whole
        except Exception as error:
            # Pillow's readers meet damage with about any exception there is.
            raise InputError(
                f"cannot read {name}; it is damaged ({type(error).__name__}: {error})"
            ) from error
    image.notes += spoken(said)
    return image


def _read(stream: BinaryIO, max_pixels: int) -> ImageData:
    start, found = stream.read(512), Beside()
    if not start:
        raise InputError("the file is empty")
    stream.seek(0)
    if is_netpbm(start):
        pixels, depth = read_netpbm(stream.read(_MAX_BYTES), max_pixels, found)
        return ImageData(pixels, depth, format="PPM", **vars(found))
    name, crop = format_of(start), None
    if name == "TIFF":
        tiff.check_tags(stream, found)
    else:
        data = stream.read(_MAX_BYTES)
        if name == "AVIF":
            crop, data = avif.scan(data, found), avif.openable(data, found)
        else:
            data = _SCANS[name](data, found) or data
        stream = io.BytesIO(data)
    with _open(stream, name) as image:
        check(image, max_pixels)
        if name == "JPEG" and (doubt := jpeg.check_damage(data)):
            found.notes.append(doubt)
        if name == "TIFF":
            tiff.scan(image, found)
        if name == "AVIF":
            _take_info(image.info, found)
        if is_deep_colour(image):
            samples, depth = read_deep(lambda: _open(stream, name)), 16
        else:
            samples, depth = _samples(image, found)
        pixels, alpha = _split(samples)
        if depth == 16 and alpha is None:
            alpha = _keyed_alpha(pixels, image.info.get("transparency"))
    if crop:
        x, y, width, height = crop
        pixels = pixels[y : y + height, x : x + width]
        alpha = None if alpha is None else alpha[y : y + height, x : x + width]
        found.notes.append(f"cropped to {width} x {height} pixels, as the AVIF says")
    return ImageData(
        np.ascontiguousarray(pixels),
        depth,
        alpha=None if alpha is None else np.ascontiguousarray(alpha),
        format=name,
        **vars(found),
    )


_SCANS: dict[str, Any] = {
    "PNG": png.scan,
    "JPEG": jpeg.scan,
    "WEBP": blocks.scan_webp,
    "GIF": blocks.scan_gif,
    "BMP": blocks.scan_bmp,
}


def _take_info(info: dict[str, Any], found: Beside) -> None:
    """What Pillow found in an AVIF."""
    found.icc = info.get("icc_profile") or None
    if found.icc:  # says more than the code points, which it goes before
        found.chunks.pop("cICP", None)
    found.exif = (info.get("exif") or b"").removeprefix(b"Exif\0\0") or None
    found.xmp = info.get("xmp") or None


def _open(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Open with Pillow; nothing is decoded yet."""
    stream.seek(0)
    try:
        return Image.open(stream, formats=[name])
    except Image.UnidentifiedImageError:
        raise InputError(
            f"this {name} is of a kind that is not supported, or its start is damaged"
        ) from None


def _samples(image: ImageFile.ImageFile, found: Beside) -> tuple[np.ndarray, int]:
    """Return (H, W) or (H, W, C) samples of an image Pillow reads in full."""
    if image.mode.startswith("I;16"):
        load_as_stored(image)
        samples = np.asarray(image).astype(np.uint16)
        bits = getattr(image, "tag_v2", {}).get(258, (16,))
        return samples, 12 if tuple(np.atleast_1d(bits)) == (12,) else 16
    wanted = _TO_LUMA_OR_COLOUR.get(image.mode)
    if wanted is None:
        raise InputError(f"images of mode {image.mode} are not supported")
    if "transparency" in image.info and not wanted.endswith("A"):
        wanted = "LA" if wanted in ("1", "L") else "RGBA"
    load_as_stored(image)
    if image.mode == "P" and image.palette:
        beyond = image.histogram()[
            len(image.palette.palette) // len(image.palette.mode) :
        ]
        if sum(beyond):
            found.notes.append(f"{sum(beyond)} pixels are of no colour of its palette")
    converted = image if image.mode == wanted else image.convert(wanted)
    samples = np.asarray(converted)
    return (samples.astype(np.uint8), 1) if wanted == "1" else (samples, 8)


def _split(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return pixels (H, W, 1|3) and alpha (H, W) or None."""
    if samples.ndim == 2:
        return samples[..., None], None
    if samples.shape[2] in (2, 4):
        return samples[..., :-1], samples[..., -1]
    return samples, None


def _keyed_alpha(pixels: np.ndarray, key: Any) -> np.ndarray | None:
    """Return alpha where one 16-bit colour of a PNG stands for transparent."""
    if key is None:
        return None
    key = np.atleast_1d(np.asarray(key, dtype=np.uint16))
    return np.where((pixels == key).all(axis=2), 0, 65535).astype(np.uint16)
