# SPDX-License-Identifier: Apache-2.0
"""Pillow opens and saves ``.plc`` images once this module is imported.

    import polycodec.pillow
    image = Image.open("photo.plc")               size, mode, ICC, EXIF: not decoded yet
    image.save("small.plc", quality=60)           any option of `polycodec.encode`

As with Pillow's own formats, ``save`` keeps an ICC profile, and EXIF where ``exif=``
gives it. Modes are 1, L, LA, RGB and RGBA of 8 bits, and I;16: Pillow has none of 16
bits with colour or alpha, so such images are handed out in 8. There is no draft mode,
since a smaller image takes as long; `polycodec.decode(size=...)` spares the memory.

As users of Pillow expect it, errors are OSError with our message, or ValueError where
an option is wrong, and notes are warnings.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import ImageGeometry, Reader
from polycodec.codecs.files.container.layout import MAGIC
from polycodec.codecs.files.image.data import UNITS, ImageData, to_depth
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.image.records import beside_of
from polycodec.codecs.files.keywords import EncodeKeywords
from polycodec.errors import CodecError, UsageError

_INCH = UNITS["inch"]
_SAVED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")


class PlcImageFile(ImageFile.ImageFile):
    """An image of a ``.plc`` file, decoded when its pixels are asked for."""

    format = "PLC"
    format_description = "polycodec"

    def _open(self) -> None:
        with _pillows_errors():
            self._reader = Reader(self.fp)  # type: ignore[arg-type]  # of binary files
            beside = beside_of(self._reader)
        geometry = self._reader.header.geometry
        if not isinstance(geometry, ImageGeometry):
            raise OSError(f"the file holds {self._reader.header.kind}, no image")
        alpha = any(entry["type"] == "alpha" for entry in self._reader.directory)
        self._size = geometry.width, geometry.height
        self._mode = _mode(geometry.colour, geometry.depth, alpha)
        self.info |= {
            name: beside[field]
            for name, field in (("icc_profile", "icc"), ("xmp", "xmp"))
            if beside[field]
        }
        self.info |= dict(beside["text"])
        if beside["exif"]:
            self.info["exif"] = b"Exif\0\0" + beside["exif"]
        if (density := beside["density"]) and density.unit != "aspect":
            scale = _INCH / UNITS[density.unit]
            self.info["dpi"] = scale * density.x, scale * density.y
        raw = "1;8" if self.mode == "1" else self.mode
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, raw)]

    def load(self) -> Any:
        """Decode the pixels, once."""
        if self.tile:
            header = self._reader.header
            with _pillows_errors():
                codec = _codec(header.model, header.digest)
                image, notes = read_plc(self._reader, codec=codec)
            _warn(notes)
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = io.BytesIO(_samples(image, self.mode))
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Stay: what is loaded is in memory, from its beginning."""


def _mode(colour: str, depth: int, alpha: bool) -> str:
    if colour != "gray":
        return "RGBA" if alpha else "RGB"
    if alpha:
        return "LA"
    return "1" if depth == 1 else "L" if depth <= 8 else "I;16"


def _samples(image: ImageData, mode: str) -> bytes:
    """The samples as Pillow's raw decoder takes them."""
    depth = 16 if mode == "I;16" else 8
    pixels = to_depth(image.pixels, image.depth, depth)
    if image.alpha is not None:
        alpha = to_depth(image.alpha, 8 * image.alpha.itemsize, depth)
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    return pixels.astype("<u2" if depth == 16 else "u1").tobytes()


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode an image; what is no option of `polycodec.encode` is for its metadata."""
    if image.mode not in _SAVED:
        raise OSError(f"cannot write mode {image.mode} as PLC; convert it to RGB")
    known = {field.name for field in fields(EncodeKeywords)}
    asked = getattr(image, "encoderinfo", {})
    about = {"icc_profile", "exif", "dpi", "pnginfo"} & set(asked)
    kept: dict[str, Any] = {name: asked[name] for name in about}
    xmp = asked.get("xmp", image.info.get("xmp"))
    if xmp and "pnginfo" not in kept:
        kept["pnginfo"] = PngImagePlugin.PngInfo()
        kept["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    source = io.BytesIO()
    plain = image.convert("RGBA") if image.mode == "PA" else image.copy()
    plain.save(source, "PNG", compress_level=1, **kept)
    options = {k: v for k, v in asked.items() if k not in (*about, "xmp")}
    if wrong := set(options) - known:
        raise ValueError(f"no option of a .plc file is called {', '.join(wrong)}")
    with _pillows_errors():
        source.seek(0)
        result = api.encode(source, file, **options)  # type: ignore[arg-type]
    _warn(result.notes)


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode the only image of a file; several are refused."""
    more = getattr(image, "encoderinfo", {}).pop("append_images", ())
    if more or getattr(image, "n_frames", 1) > 1:
        raise ValueError("a .plc file holds one image; save them one by one")
    _save(image, file, filename)


@functools.lru_cache(maxsize=2)
def _codec(name: str, digest: bytes) -> Codec:
    return zoo.load(name, digest=digest)


@contextlib.contextmanager
def _pillows_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error
    except CodecError as error:
        raise OSError(str(error)) from error


def _warn(notes: list[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=4)


Image.register_open(
    PlcImageFile.format, PlcImageFile, lambda start: start.startswith(MAGIC)
)
Image.register_save(PlcImageFile.format, _save)
Image.register_save_all(PlcImageFile.format, _save_all)
Image.register_extension(PlcImageFile.format, ".plc")
Image.register_mime(PlcImageFile.format, "image/x-polycodec")
