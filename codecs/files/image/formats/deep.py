# SPDX-License-Identifier: Apache-2.0
"""16-bit colour PNG and TIFF, which Pillow alone reads as 8 bits.

Reading: Pillow undoes the compression and the PNG filters, but its unpackers keep
one byte of each sample. Asked a second time, with the unpacker of the other byte
order, it keeps the other byte:

    RGB;16B -> high bytes      RGB;16L on the same data -> low bytes
    sample = high << 8 | low

Gray with alpha is four bytes a pixel, so that the plain RGBA unpacker hands all of
them through. Writing PNG: the filter of least absolute sum for each row, in bands.

Reference: W3C PNG specification (third edition), section 9.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from polycodec.codecs.files.image.formats import libtiff
from polycodec.codecs.files.image.formats.png import SIGNATURE, Chunk, written
from polycodec.errors import InputError

_BAND = 64  # rows filtered at a time
_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER = {"L": "B", "B": "L"}


def is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Tell whether Pillow would cut 16-bit samples of ``image`` to 8 bits."""
    cut = image.format in ("PNG", "TIFF") and not image.mode.startswith("I")
    return cut and bool(image.tile) and "16" in _raw(image)


def read_deep(open_image: Callable[[], ImageFile.ImageFile]) -> np.ndarray:
    """Return (H, W, 2..4) uint16; ``open_image`` opens the same file each time.

    InputError for layouts whose low bytes Pillow cannot be asked for.
    """
    image = open_image()
    raw = _raw(image)
    layout, _, order = raw.partition(";16")
    order = _NATIVE if order == "N" else order
    if layout == "LA" and order in _OTHER:
        pairs = np.ascontiguousarray(_load_as(image, "RGBA"))
        return pairs.view(">u2" if order == "B" else "<u2").astype(np.uint16)
    if layout not in ("RGB", "RGBA", "RGBX") or order not in _OTHER:
        raise InputError(
            f"a 16-bit image with the layout {raw} is not supported; convert it to "
            "16-bit PNG"
        )
    samples = _load_as(image, f"{layout};16{order}").astype(np.uint16) << 8
    samples |= _load_as(open_image(), f"{layout};16{_OTHER[order]}")
    return samples


def _raw(image: ImageFile.ImageFile) -> str:
    args = image.tile[0][3] or ("",)
    return str(args if isinstance(args, str) else args[0])


def _load_as(image: ImageFile.ImageFile, raw: str) -> np.ndarray:
    """Decode ``image`` with another unpacker than the one Pillow chose."""
    tiles = []
    for codec, extents, offset, args in image.tile:
        args = raw if isinstance(args, str) else (raw, *(args or ())[1:])
        tiles.append(ImageFile._Tile(codec, extents, offset, args))
    image.tile = tiles
    load_as_stored(image)
    return np.asarray(image)


def load_as_stored(image: ImageFile.ImageFile) -> None:
    """Decode ``image`` without Pillow turning a TIFF by its orientation tag."""
    if image.format == "TIFF":
        image.getexif().pop(0x0112, None)
    with libtiff.heard():
        image.load()
    image._size = image.im.size


def write_png16(
    target: BinaryIO, samples: np.ndarray, chunks: Iterable[Chunk] = ()
) -> None:
    """Write ``samples`` (H, W, 1..4) uint16 as PNG; ``chunks`` go before the pixels."""
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    target.write(SIGNATURE)
    for chunk in ((b"IHDR", header), *chunks):
        target.write(written(chunk))
    deflate = zlib.compressobj(6)
    above = np.zeros((1, width * channels * 2), np.uint8)
    for top in range(0, height, _BAND):
        band = samples[top : top + _BAND].astype(">u2")
        rows = band.view(np.uint8).reshape(len(band), -1)
        filtered = _filtered(rows, np.concatenate([above, rows[:-1]]), channels * 2)
        above = rows[-1:]
        if packed := deflate.compress(filtered.tobytes()):
            target.write(written((b"IDAT", packed)))
    target.write(written((b"IDAT", deflate.flush())))
    target.write(written((b"IEND", b"")))


def _filtered(x: np.ndarray, b: np.ndarray, step: int) -> np.ndarray:
    """Return rows with their filter byte: x this row, b the row above, both uint8."""
    a, c = np.zeros_like(x), np.zeros_like(x)  # left, above left
    a[:, step:], c[:, step:] = x[:, :-step], b[:, :-step]
    wide = [v.astype(np.int16) for v in (a, b, c)]
    average = ((wide[0] + wide[1]) >> 1).astype(np.uint8)
    p = wide[0] + wide[1] - wide[2]
    pa, pb, pc = (np.abs(p - v) for v in wide)
    paeth = np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))
    candidates = np.stack([x, x - a, x - b, x - average, x - paeth])  # mod 256
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    rows = candidates[best, np.arange(len(x))]
    return np.concatenate([best[:, None].astype(np.uint8), rows], axis=1)
