# SPDX-License-Identifier: Apache-2.0
"""Write an image: PNG, JPEG, WebP, TIFF, AVIF or PPM by the target's suffix.

What the format cannot hold is an error when it is alpha, because that changes what
is seen, and a returned line when it is metadata, precision, or loss by coding.
Metadata never stops the pixels.
"""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from polycodec.atomic import atomic_write
from polycodec.codecs.files.image.data import (
    CHUNKS,
    SRGB,
    ImageData,
    few,
    spoken,
    to_depth,
)
from polycodec.codecs.files.image.formats import avif, jpeg, png
from polycodec.codecs.files.image.formats.deep import write_png16
from polycodec.codecs.files.image.formats.netpbm import write_netpbm
from polycodec.codecs.files.image.formats.tiff import write_tiff
from polycodec.codecs.files.image.records import known
from polycodec.errors import InputError


@dataclass(frozen=True)
class Format:
    """What a format can hold; ``quality``: the default of a lossy one, else 0."""

    name: str
    max_side: int
    alpha: bool
    holds: tuple[str, ...]  # fields of `Beside`, as they are or with notes
    deep: bool = False
    quality: int = 0


_THREE = ("icc", "exif", "xmp")
_MOST = (*_THREE, "iptc", "text", "density")
_ALL = (*_MOST, "chunks")
_PNG = Format("PNG", (1 << 31) - 1, alpha=True, holds=_ALL, deep=True)
_JPEG = Format("JPEG", 65535, alpha=False, holds=_MOST, quality=95)
_WEBP = Format("WebP", 16383, alpha=True, holds=_THREE, quality=95)
_TIFF = Format("TIFF", (1 << 31) - 1, alpha=True, holds=_MOST, deep=True)
_AVIF = Format("AVIF", 65536, alpha=True, holds=(*_THREE, "chunks"), quality=90)
_PPM = Format("PPM", (1 << 31) - 1, alpha=False, holds=(), deep=True)

# Primaries and transfer of H.273: the known profile that says the same.
_PROFILES = {b"\x0c\x0d": 17}  # Display P3
_PROFILES |= {bytes([9, transfer]): 8 for transfer in (1, 6, 14, 15)}  # BT.2020
_PROFILES |= {bytes([1, transfer]): 7 for transfer in (1, 6, 14, 15)}  # BT.709

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
            _write(image, target, kind, quality, notes)  # type: ignore[arg-type]
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot write the image; {reason}") from error
        return notes
    with atomic_write(path, force=force) as stream:
        _write(image, stream, kind, quality, notes)
    return notes


def losses_in_png(image: ImageData) -> list[str]:
    """What of the image a PNG, the default of decoding, will not hold."""
    notes: list[str] = []
    list(png.chunks(_kept(image, _PNG, notes), notes))
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
    if image.depth > 8 and not kind.deep:
        notes.append(f"{kind.name}: {image.depth}-bit samples were rounded to 8 bits")
    # Pillow reads no 16-bit TIFF of gray and alpha.
    spread = kind is _TIFF and image.alpha is not None and _is_deep(image)
    if spread and image.colour == "gray":
        notes.append("TIFF: 16-bit gray with alpha was written as RGB with alpha")
    if image.colour == "gray" and (spread or suffix == ".ppm"):
        image = replace(image, pixels=np.repeat(image.pixels, 3, axis=2))
    return _kept(image, kind, notes), notes


def _kept(image: ImageData, kind: Format, notes: list[str]) -> ImageData:
    """The image without what the format cannot hold, each a note."""
    out: dict[str, Any] = {}
    wide = kind in (_WEBP, _AVIF) or image.colour == "rgb"
    if image.icc and "icc" in kind.holds:
        space = image.icc[16:20].decode("latin-1").strip()
        own = "RGB" if wide else "GRAY"
        # Readers of PNG refuse what those of the others pass over.
        if space != own if kind is _PNG else wide and space == "GRAY":
            name = few([space])
            notes.append(f"{kind.name}: left out the ICC profile, which is for {name}")
            out["icc"] = None
    lost = [n for n in _MOST if getattr(image, n) and n not in kind.holds]
    out |= {name: type(getattr(image, name))() for name in lost if name == "text"}
    out |= {name: None for name in lost if name != "text"}
    if lost:
        notes.append(f"{kind.name}: left out {', '.join(lost)}, which it cannot hold")
    held = {_PNG: tuple(CHUNKS), _AVIF: ("cICP",)}.get(kind, ())
    said = [n for n, v in image.chunks.items() if n not in held and v != SRGB.get(n)]
    colour = [name for name in said if name in ("gAMA", "cHRM", "cICP")]
    number = _PROFILES.get(image.chunks.get("cICP", b"")[:2])
    if colour and number and wide and "icc" in kind.holds and not image.icc:
        out["icc"] = known()[number]
        notes.append(f"{kind.name}: wrote the colour that cICP says as an ICC profile")
        said = [name for name in said if name not in colour]
    elif colour and not image.icc:
        notes.append(
            f"{kind.name}: left out {', '.join(colour)}, so that colours will be shown "
            "as sRGB; PNG keeps them"
        )
        said = [name for name in said if name not in colour]
    if said:
        notes.append(f"{kind.name}: left out {', '.join(said)}")
    return replace(image, **out)


def _write(
    image: ImageData,
    stream: BinaryIO,
    kind: Format,
    quality: int | None,
    notes: list[str],
) -> None:
    """Encode into ``stream``, which may be a pipe; Pillow's warnings become notes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _write_quietly(image, stream, kind, quality, notes)
    notes += [f"{kind.name}, metadata: {note}" for note in spoken(said)]


def _write_quietly(
    image: ImageData,
    stream: BinaryIO,
    kind: Format,
    quality: int | None,
    notes: list[str],
) -> None:
    if kind is _PPM:
        write_netpbm(stream, image.pixels, image.depth)
        return
    buffer: BinaryIO = stream if stream.seekable() else io.BytesIO()
    bits = 16 if _is_deep(image) else 8
    try:
        if kind is _TIFF:
            write_tiff(buffer, _joined(image, bits), image, notes)
        elif kind is _PNG and bits == 16:
            write_png16(buffer, _joined(image, 16), png.chunks(image, notes))
        else:
            buffer.write(_pillow(image, kind, quality, notes))
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


def _pillow(
    image: ImageData, kind: Format, quality: int | None, notes: list[str]
) -> bytes:
    """The bytes of a file of 8 bits: Pillow's pixels, and what stands beside them."""
    samples = _joined(image, 8)
    pil = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    if kind is _PNG:
        if image.depth == 1 and pil.mode == "L":
            pil = pil.convert("1", dither=Image.Dither.NONE)
        return png.spliced(_saved(pil, kind), png.chunks(image, notes))
    if kind is _JPEG:
        data = _saved(pil, kind, quality=quality, subsampling=0, optimize=True)
        return jpeg.spliced(data, image, notes)
    options: dict[str, Any] = {"quality": quality}
    if kind is _WEBP:
        options |= {"lossless": quality == 100, "exact": True}
    else:
        options["subsampling"] = "4:4:4"
    exif = image.exif and b"Exif\0\0" + image.exif
    beside = {"icc_profile": image.icc, "exif": exif, "xmp": image.xmp}
    options |= {name: data for name, data in beside.items() if data}
    try:
        data = _saved(pil, kind, **options)
    except Exception as error:  # Pillow meets damaged EXIF with any exception
        if "exif" not in options:
            raise
        del options["exif"]
        data = _saved(pil, kind, **options)
        notes.append(f"{kind.name}: left out the damaged EXIF ({type(error).__name__})")
    if kind is _AVIF and "cICP" in image.chunks and not image.icc:
        data = avif.coloured(data, image.chunks["cICP"])
    return data


def _saved(pil: Image.Image, kind: Format, **options: Any) -> bytes:
    out = io.BytesIO()
    pil.save(out, format=kind.name.upper(), **options)
    return out.getvalue()
