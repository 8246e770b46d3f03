# SPDX-License-Identifier: Apache-2.0
"""Classical codecs that ours are compared with, all through Pillow.

| name       | what a setting is     | options, beside it                        |
|------------|-----------------------|-------------------------------------------|
| `jpeg`     | quality 5..95         | 4:4:4, optimised Huffman tables           |
| `jpeg-420` | quality 5..95         | 4:2:0, optimised Huffman tables           |
| `webp`     | quality 0..95         | method 6 (slowest); VP8 has only 4:2:0    |
| `avif`     | quality 20..80        | speed 4, 4:4:4, one thread, no tiling     |
| `avif-psnr`| quality 20..80        | the same, libaom tuned for PSNR           |
| `jxl`      | quality 0..95         | effort 7, one thread, bare codestream     |
| `jpeg2000` | compression ratio     | 9/7 wavelet, colour transform, codestream |

An anchor gets the strong setting where one exists, because a weak anchor
flatters us. AVIF's own tuning aims at the eye; `avif-psnr` is the harder
opponent when PSNR is the measure, and so the one unless told. Pictures whose three
planes are equal are coded as one plane, AVIF's as 4:0:0; WebP has no such form. As
three, gray cost JPEG 3 to 60 % more bytes for the same pixels. JPEG XL comes
with pillow-jxl-plugin and is left out, with the reason, where that is not
installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, features

from polycodec.errors import InputError
from polycodec.eval.machine import described
from polycodec.eval.subjects import Coded, Decoded, Subject


@dataclass(frozen=True)
class PillowAnchor(Subject):
    """One image format of Pillow with fixed options and one free setting."""

    name: str
    label: str
    format: str  # Pillow's name of it, and below of the library behind it
    library: str
    settings: tuple[float, ...]
    options: dict[str, Any]
    gray: dict[str, Any] | None = None  # options of one plane; None: there is no such
    finest: tuple[float, float] = (0, 100)  # smallest and largest rate
    control: str = "quality"
    free: Callable[[float], dict[str, Any]] = lambda setting: {
        "quality": round(setting)
    }
    kind: str = field(default="anchor", init=False)

    def missing(self) -> str | None:
        """Say why this Pillow cannot write the format, or None."""
        if self.library == "jxl":
            if importlib.util.find_spec("pillow_jxl") is None:
                return "pillow-jxl-plugin is not installed"
            return None
        if not features.check(self.library):
            return f"this Pillow was built without {self.library}"
        return None

    def versions(self) -> dict[str, Any]:
        """List Pillow, the libraries behind the format, and the fixed options."""
        import PIL

        about: dict[str, Any] = {"Pillow": PIL.__version__}
        about |= {**_libraries(self.library), "options": self.options}
        if self.gray is not None:
            about["gray pictures"] = described({"planes": 1, **self.gray})
        return about

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Write (H, W, 3) uint8 into memory with this setting, gray as one plane."""
        self._prepare()
        image, options = Image.fromarray(signal), self.options
        if self.gray is not None and (signal == signal[..., :1]).all():
            image, options = image.getchannel(0), {**options, **self.gray}
            if self.control == "ratio":  # to a third as many samples now
                setting /= 3
        memory = io.BytesIO()
        begin = time.perf_counter()
        image.save(memory, self.format, **options, **self.free(setting))
        return Coded(memory.getvalue(), time.perf_counter() - begin)

    def decompress(self, data: bytes) -> Decoded:
        """Read the bytes back as 8-bit RGB."""
        self._prepare()
        begin = time.perf_counter()
        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            pixels = np.array(image.convert("RGB"))
        return Decoded(pixels, time.perf_counter() - begin)

    def _prepare(self) -> None:
        if self.library != "jxl":
            return
        from pillow_jxl import JpegXLImagePlugin

        # All anchors are timed on one thread.
        JpegXLImagePlugin.DECODE_THREADS = 0


def _libraries(name: str) -> dict[str, str]:
    """Return the libraries Pillow uses for ``name``, with their versions."""
    if name == "jxl":
        return {p: importlib.metadata.version(p) for p in ("pillow-jxl-plugin",)}
    if name == "jpg":
        turbo = features.check_feature("libjpeg_turbo")
        if turbo:
            return {"libjpeg-turbo": str(features.version_feature("libjpeg_turbo"))}
        return {"libjpeg": str(features.version_codec("jpg"))}
    if name == "jpg_2000":
        return {"openjpeg": str(features.version_codec("jpg_2000"))}
    found = {f"lib{name}": str(features.version_module(name))}
    if name == "avif":
        # "dav1d [dec]:1.5.3, aom [enc]:3.14.1": what codes and decodes behind it.
        from PIL import _avif

        for part in getattr(_avif, "codec_versions", str)().split(", "):
            codec, _, version = part.rpartition(":")
            found[codec.partition(" ")[0] or codec] = version
    return {library: version for library, version in found.items() if library}


def _ratio(setting: float) -> dict[str, Any]:
    return {"quality_layers": [float(setting)]}


def _jpeg(subsampling: str) -> dict[str, Any]:
    return {
        "settings": (5, 10, 20, 35, 55, 75, 88, 95),
        "options": {"subsampling": subsampling, "optimize": True},
        "gray": {},
        "finest": (1, 95),
    }


_AVIF = (20, 28, 36, 44, 53, 62, 71, 80)
_AVIF_OPTIONS: dict[str, Any] = {
    "speed": 4,
    "subsampling": "4:4:4",
    "max_threads": 1,
    "autotiling": False,
}
_AVIF_GRAY = {"subsampling": "4:0:0"}

ANCHORS: dict[str, PillowAnchor] = {
    anchor.name: anchor
    for anchor in (
        PillowAnchor("jpeg", "JPEG", "JPEG", "jpg", **_jpeg("4:4:4")),
        PillowAnchor("jpeg-420", "JPEG 4:2:0", "JPEG", "jpg", **_jpeg("4:2:0")),
        PillowAnchor(
            *("webp", "WebP", "WEBP", "webp"),
            settings=(0, 5, 15, 30, 50, 70, 85, 95),
            options={"method": 6},
        ),
        PillowAnchor("avif", "AVIF", "AVIF", "avif", _AVIF, _AVIF_OPTIONS, _AVIF_GRAY),
        PillowAnchor(
            *("avif-psnr", "AVIF tuned for PSNR", "AVIF", "avif"),
            settings=_AVIF,
            options={**_AVIF_OPTIONS, "advanced": {"tune": "psnr"}},
            gray=_AVIF_GRAY,
        ),
        PillowAnchor(
            *("jxl", "JPEG XL", "JXL", "jxl"),
            settings=(0, 10, 25, 40, 55, 70, 85, 93),
            options={"effort": 7, "num_threads": 1},
            gray={},
            finest=(0, 99),  # 100 is lossless, which the plugin refuses beside these
        ),
        PillowAnchor(
            *("jpeg2000", "JPEG 2000", "JPEG2000", "jpg_2000"),
            settings=(240, 140, 90, 56, 36, 22, 14, 9),
            options={
                "quality_mode": "rates",
                "irreversible": True,
                "mct": 1,
                "no_jp2": True,
            },
            gray={},
            finest=(400, 4),
            control="ratio",
            free=_ratio,
        ),
    )
}
DEFAULT_ANCHORS = ("jpeg", "webp", "avif-psnr", "jxl", "jpeg2000")


def match_rate(
    subject: PillowAnchor, pixels: np.ndarray, size: int, *, tries: int = 8
) -> tuple[float, Coded]:
    """Search the setting whose bytes for ``pixels`` come nearest to ``size``.

    Halves the range of settings ``tries`` times; bytes grow from the first to
    the second end of ``subject.finest``. Returns the setting and its bytes.
    """
    if size <= 0:
        raise InputError(f"cannot match {size} bytes; expected a positive size")
    low, high = subject.finest
    best: tuple[float, Coded] | None = None
    for _ in range(tries):
        middle = (low + high) / 2
        if subject.control == "quality":
            middle = float(round(middle))
        coded = subject.compress(pixels, middle)
        if best is None or abs(len(coded.data) - size) < abs(len(best[1].data) - size):
            best = (middle, coded)
        if len(coded.data) < size:
            low = middle
        else:
            high = middle
    assert best is not None
    return best
