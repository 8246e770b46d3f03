# SPDX-License-Identifier: Apache-2.0
"""Write a image: PNG, JPEG, WebP, TIFF, AVIF or PPM by the target's suffix.

What the format cannot hold is an error when it is alpha, because that changes what
is seen, and a returned line when it is metadata, precision, or loss by coding.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from polycodec.atomic import atomic_write
from polycodec.codecs.files.image.data import ImageData, to_depth
from polycodec.codecs.files.image.deep import write_png16
from polycodec.codecs.files.image.netpbm import write_netpbm
from polycodec.codecs.files.image.tiff import write_tiff
from polycodec.errors import InputError


@dataclass(frozen=True)
class Format:
    """What a format can hold; ``quality``: the default of a lossy one, else 0."""

    name: str
    max_side: int
    alpha: bool
    metadata: bool
    deep: bool = False
    quality: int = 0


_PNG = Format("PNG", (1 << 31) - 1, alpha=True, metadata=True, deep=True)
_JPEG = Format("JPEG", 65535, alpha=False, metadata=True, quality=95)
_WEBP = Format("WebP", 16383, alpha=True, metadata=True, quality=95)
_TIFF = Format("TIFF", (1 << 31) - 1, alpha=True, metadata=True, deep=True)
_AVIF = Format("AVIF", 65536, alpha=True, metadata=True, quality=90)
_PPM = Format("PPM", (1 << 31) - 1, alpha=False, metadata=False, deep=True)

FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": _AVIF,
    ".ppm": _PPM,
    ".pgm": _PPM,
    ".pnm": _PPM,
}


def write_image(
    image: ImageData,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    suffix: str | None = None,
    quality: int | None = None,
    force: bool = False,
) -> list[str]:
    """Write ``image``; return one line for each thing that was not kept.

    ``suffix`` (such as ``.png``) names the format when ``target`` is a stream.
    ``quality``: 0..100 for JPEG, WebP and AVIF; WebP at 100 is lossless.
    Raises InputError when the format is unknown, cannot hold the image's size or
    alpha, or the target cannot be written (then nothing is left behind).
    """
    path = None if hasattr(target, "write") else os.fspath(target)
    suffix = (suffix or os.path.splitext(path or "")[1]).lower()
    kind = FORMATS.get(suffix)
    if kind is None:
        raise InputError(
            f"cannot write images as '{suffix}'; expected one of {', '.join(FORMATS)}"
        )
    image, notes = _fit(image, kind, suffix)
    if kind.quality:
        if quality is not None and not 0 <= quality <= 100:
            raise InputError(f"quality {quality} for {kind.name}; expected 0..100")
        quality = kind.quality if quality is None else quality
        if not (kind is _WEBP and quality == 100):
            notes.append(f"{kind.name} is lossy: written at quality {quality}")
    if path is None:
        try:
            _write(image, target, kind, quality)  # type: ignore[arg-type]
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write the image; {reason}") from error
        return notes
    with atomic_write(path, force=force) as stream:
        _write(image, stream, kind, quality)
    return notes


def _fit(image: ImageData, kind: Format, suffix: str) -> tuple[ImageData, list[str]]:
    """Return the image as the format can hold it, and what that cost."""
    if max(image.width, image.height) > kind.max_side:
        raise InputError(
            f"{kind.name} holds sides of at most {kind.max_side} pixels; found "
            f"{image.width} x {image.height}; write PNG or TIFF"
        )
    if image.alpha is not None and not kind.alpha:
        raise InputError(
            f"{kind.name} holds no alpha; the image has it; write PNG, WebP, TIFF or "
            "AVIF"
        )
    if suffix == ".pgm" and image.colour == "rgb":
        raise InputError("PGM holds gray only; the image has colour; write .ppm")
    notes = list(image.notes)
    lost = [n for n in ("icc", "exif", "xmp") if getattr(image, n) is not None]
    if lost and not kind.metadata:
        notes.append(f"{kind.name} holds no metadata; left out: {', '.join(lost)}")
    if image.depth > 8 and not kind.deep:
        notes.append(f"{kind.name}: {image.depth}-bit samples were rounded to 8 bits")
    # Pillow reads no 16-bit TIFF of gray and alpha.
    spread = kind is _TIFF and image.alpha is not None and _is_deep(image)
    if spread and image.colour == "gray":
        notes.append("TIFF: 16-bit gray with alpha was written as RGB with alpha")
    if image.colour == "gray" and (spread or suffix == ".ppm"):
        image = replace(image, pixels=np.repeat(image.pixels, 3, axis=2))
    return image, notes


def _write(
    image: ImageData, stream: BinaryIO, kind: Format, quality: int | None
) -> None:
    """Encode into ``stream``, which may be a pipe."""
    if kind is _PPM:
        write_netpbm(stream, image.pixels, image.depth)
        return
    buffer = stream if stream.seekable() else io.BytesIO()
    try:
        bits = 16 if _is_deep(image) else 8
        if kind is _TIFF:
            metadata = {n: getattr(image, n) for n in ("icc", "exif", "xmp")}
            write_tiff(buffer, _joined(image, bits), **metadata)
        elif kind is _PNG and bits == 16:
            write_png16(buffer, _joined(image, 16), _png_chunks(image))
        else:
            _write_8_bits(image, buffer, kind, quality)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot write this image as {kind.name}; {error}") from error
    if buffer is not stream:
        stream.write(buffer.getvalue())  # type: ignore[attr-defined]


def _is_deep(image: ImageData) -> bool:
    deep_alpha = image.alpha is not None and image.alpha.dtype == np.uint16
    return image.depth > 8 or deep_alpha


def _joined(image: ImageData, bits: int) -> np.ndarray:
    """Return (H, W, 1..4) samples of 8 or 16 ``bits``, alpha last."""
    pixels = to_depth(image.pixels, image.depth, bits)
    if image.alpha is None:
        return pixels
    depth = 16 if image.alpha.dtype == np.uint16 else 8
    alpha = to_depth(image.alpha, depth, bits)
    return np.concatenate([pixels, alpha[..., None]], axis=2)


def _png_chunks(image: ImageData) -> Iterator[tuple[bytes, bytes]]:
    if image.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(image.icc, 9)
    if image.exif:
        yield b"eXIf", image.exif
    if image.xmp:
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + image.xmp


def _write_8_bits(
    image: ImageData, stream: BinaryIO, kind: Format, quality: int | None
) -> None:
    samples = _joined(image, 8)
    pil = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if image.depth == 1 and pil.mode == "L" and kind is _PNG:
        pil = pil.convert("1", dither=Image.Dither.NONE)
    options = _options(image, kind, quality)
    pil.save(stream, format=kind.name.upper(), **options)


def _options(image: ImageData, kind: Format, quality: int | None) -> dict[str, Any]:
    """Return Pillow's keywords: metadata in each plugin's own way, then quality."""
    options: dict[str, Any] = {}
    if image.icc:
        options["icc_profile"] = image.icc
    if image.exif:
        options["exif"] = b"Exif\0\0" + image.exif
    if image.xmp:
        if kind is _PNG:
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", image.xmp.decode("utf-8"))
            options["pnginfo"] = text
        else:
            options["xmp"] = image.xmp
    if kind is _JPEG:
        options |= {"quality": quality, "subsampling": 0, "optimize": True}
    if kind is _WEBP:
        options |= {"quality": quality, "lossless": quality == 100, "exact": True}
    if kind is _AVIF:
        options |= {"quality": quality, "subsampling": "4:4:4"}
    return options
