# SPDX-License-Identifier: Apache-2.0
"""Images in and out: PNG, JPEG, WebP, TIFF, AVIF, PPM; all of it or a named error.

    image = read_image("photo.png")        pixels (H, W, 1|3), alpha, ICC, EXIF, XMP
    notes   = write_image(image,  "photo.tif")

Pixels are handed on as they are stored: the EXIF orientation tag is kept and not
applied. What a target cannot hold is an error when pixels would be lost (alpha) and
a line in the notes when it is metadata or precision.

Refused by name: animations and multi-page files, CMYK, Lab, float and 32-bit
samples, AVIF of more than 8 bits (Pillow would cut it), images of 0 pixels or more
than ``MAX_PIXELS``, damaged and cut files.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from polycodec.codecs.files.container.layout import MAX_PIXELS
from polycodec.codecs.files.image.check import check, check_start, no_pillow_limit
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.deep import is_deep_colour, load_as_stored, read_deep
from polycodec.codecs.files.image.netpbm import is_netpbm, read_netpbm
from polycodec.codecs.files.image.tiff import exif_of_tiff
from polycodec.codecs.files.image.write import FORMATS, write_image
from polycodec.codecs.files.sources import Source, name_of, opened, seekable
from polycodec.errors import CodecError, InputError

__all__ = ["FORMATS", "MAX_PIXELS", "ImageData", "read_image", "write_image"]

# Only these of Pillow's readers are ever run; GIF and BMP come for nothing.
_READERS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP")
_MAX_BYTES = 1 << 32  # of an input file
_TO_LUMA_OR_COLOUR = {
    "1": "1",
    "L": "L",
    "LA": "LA",
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
                found = _read(stream, max_pixels)
        except CodecError as error:
            raise type(error)(f"cannot read {name}; {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot read {name}; {reason}") from error
        except Exception as error:
            # Pillow's readers meet damage with about any exception there is.
            raise InputError(
                f"cannot read {name}; it is damaged ({type(error).__name__}: {error})"
            ) from error
    odd = {" ".join(str(w.message).split()) for w in said}
    return replace(found, notes=(*found.notes, *sorted(odd)))


def _read(stream: BinaryIO, max_pixels: int) -> ImageData:
    start = stream.read(1 << 16)
    if not start:
        raise InputError("the file is empty")
    stream.seek(0)
    if is_netpbm(start):
        pixels, depth = read_netpbm(stream.read(_MAX_BYTES), max_pixels)
        return ImageData(pixels, depth, format="PPM")
    check_start(start)
    with _open(stream) as image:
        check(image, stream, max_pixels)
        metadata, notes = _metadata(image)
        if is_deep_colour(image):
            samples = read_deep(lambda: _open(stream))
            depth = 16
        else:
            samples, depth = _samples(image)
        pixels, alpha = _split(samples)
        if depth == 16 and alpha is None:
            alpha = _keyed_alpha(pixels, image.info.get("transparency"))
        return ImageData(
            np.ascontiguousarray(pixels),
            depth,
            alpha=None if alpha is None else np.ascontiguousarray(alpha),
            format=str(image.format),
            notes=notes,
            **metadata,
        )


def _open(stream: BinaryIO) -> ImageFile.ImageFile:
    """Open with Pillow; nothing is decoded yet."""
    stream.seek(0)
    try:
        return Image.open(stream, formats=_READERS)
    except Image.UnidentifiedImageError:
        raise InputError(
            "this is no image of a supported kind, or its start is damaged; "
            "expected PNG, JPEG, WebP, TIFF, AVIF or PPM"
        ) from None


def _samples(image: ImageFile.ImageFile) -> tuple[np.ndarray, int]:
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


def _metadata(image: ImageFile.ImageFile) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return icc, exif and xmp as bytes or None, and what could not be kept."""
    notes = []
    if image.format == "MPO":
        notes.append("only the first image of a multi-picture JPEG is used")
    icc = image.info.get("icc_profile") or None
    if icc is None and "srgb" not in image.info:
        gamma = image.info.get("gamma")
        if gamma and abs(gamma - 0.45455) > 0.001:
            notes.append(f"the PNG's gamma {gamma:g} is not kept")
    exif = image.info.get("exif")
    if image.format == "TIFF":
        exif = exif_of_tiff(image)
    elif exif is None and "Raw profile type exif" in image.info:
        exif = image.getexif().tobytes()
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    if isinstance(xmp, tuple):
        xmp = bytes(xmp)
    exif = (exif or b"").removeprefix(b"Exif\0\0")
    return {"icc": icc, "exif": exif or None, "xmp": xmp or None}, tuple(notes)
