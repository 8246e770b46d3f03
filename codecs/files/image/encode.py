# SPDX-License-Identifier: Apache-2.0
"""Image files in and out; `api.py` calls this for what it recognises as images.

    photo.png ─ read ─ tiles ─ codec ─ quality search ─ container ─ photo.plc
    photo.plc ─ header ─ weights by name and digest ─ tiles ─ photo.png

Everything that can be refused is refused before the long work begins, and nothing
is written unless all of it can be.
"""

from __future__ import annotations

import io
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polycodec.codecs import zoo
from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    Record,
    write_plc,
)
from polycodec.codecs.files.ends import (
    Source,
    Target,
    check_kind,
    check_rate,
    codec_of,
    name_of,
    put,
    target_of,
)
from polycodec.codecs.files.image import chunks as tiles
from polycodec.codecs.files.image import rate
from polycodec.codecs.files.image.alpha import decode_alpha, encode_alpha
from polycodec.codecs.files.image.picture import Picture
from polycodec.codecs.files.image.read import read_image, write_image
from polycodec.codecs.measures import image as measures
from polycodec.errors import BitstreamError, InputError, UsageError

DEFAULT_QUALITY = 50.0
CODED_ALPHA = 6  # BITSTREAM: first byte of an alpha record made by the codec itself


@dataclass
class EncodeResult:
    """What an encoding made. ``bpp`` counts every byte of the file."""

    input: str
    output: str
    model: str
    bytes: int
    bpp: float
    estimated_bpp: float
    seconds: float
    quality: float
    psnr: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class DecodeResult:
    """What a decoding made; ``bytes`` were read from the file."""

    input: str
    output: str
    model: str
    bytes: int
    seconds: float
    width: int
    height: int
    notes: list[str] = field(default_factory=list)


def encode(
    input: Source,
    output: Target | None = None,
    *,
    model: str | None = None,
    quality: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    min_psnr: float | None = None,
    effort: int = 0,
    tile: int | None = None,
    alpha: str = "lossless",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    psnr: bool = False,
    force: bool = False,
    codec: Any = None,
    progress: tiles.Progress | None = None,
) -> EncodeResult:
    """Encode an image file to a ``.plc`` file; see `api.encode`."""
    started = time.perf_counter()
    name = name_of(input)
    target = target_of(input, output, ".plc", force)
    check_rate(
        quality=quality,
        target_bpp=target_bpp,
        target_size=target_size,
        min_psnr=min_psnr,
    )
    if effort < 0:
        raise UsageError(f"effort is {effort}; expected 0 or more steps")
    if alpha not in ("lossless", "codec"):
        raise UsageError(f"alpha is '{alpha}'; expected lossless or codec")
    picture = read_image(input)
    codec = codec or zoo.load(model or "image/default", device, checkpoint=checkpoint)
    check_kind(codec, "image")
    job = _Job(codec, picture, tile, alpha, effort)
    quality = job.choose(quality, target_bpp, target_size, min_psnr)
    data = job.file(quality, progress)
    put(target, data, force)
    pixels = picture.width * picture.height
    return EncodeResult(
        input=name,
        output=name_of(target),
        model=codec.name,
        bytes=len(data),
        bpp=8 * len(data) / pixels,
        estimated_bpp=job.encoder.estimated_bits / pixels,
        seconds=time.perf_counter() - started,
        quality=quality,
        psnr=job.psnr(quality) if psnr else None,
        notes=list(picture.notes),
    )


def decode(
    reader: Reader,
    input: Source,
    output: Target | None = None,
    *,
    region: tuple[int, int, int, int] | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    force: bool = False,
    codec: Any = None,
    progress: tiles.Progress | None = None,
) -> DecodeResult:
    """Decode an opened image file; see `api.decode`."""
    started = time.perf_counter()
    target = target_of(input, output, ".png", force)
    picture, notes = read_plc(
        reader,
        region=region,
        device=device,
        checkpoint=checkpoint,
        codec=codec,
        progress=progress,
    )
    read = reader.bytes_read
    suffix = None if isinstance(target, (str, os.PathLike)) else ".png"
    notes += write_image(picture, target, suffix=suffix, force=force)
    return DecodeResult(
        input=name_of(input),
        output=name_of(target),
        model=reader.header.model,
        bytes=read,
        seconds=time.perf_counter() - started,
        width=picture.width,
        height=picture.height,
        notes=notes,
    )


def read_plc(
    reader: Reader,
    *,
    region: tuple[int, int, int, int] | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    codec: Any = None,
    progress: tiles.Progress | None = None,
) -> tuple[Picture, list[str]]:
    """Decode an opened image file to a Picture, and say what was left out."""
    header, geometry = reader.header, reader.header.geometry
    if not isinstance(geometry, ImageGeometry):
        raise InputError(f"the file holds {header.kind}; this build decodes images")
    grid = tiles.Grid(geometry.height, geometry.width, geometry.tile)
    span = _region(region, geometry)
    quality = _quality(header.params)
    codec = codec_of(
        *(header.model, header.digest, "image", codec),
        device=device,
        checkpoint=checkpoint,
    )
    decoder = tiles.TileDecoder(codec, grid, quality, reader.chunk)
    peak = (1 << geometry.depth) - 1
    channels = 1 if geometry.colour == "gray" else 3
    pixels = decoder.render(span, peak, channels, progress)
    alpha = header.record("alpha")
    if alpha is not None:
        alpha = _alpha_plane(alpha, geometry, codec)[span.slices]
    picture = Picture(
        pixels=pixels,
        depth=geometry.depth,
        alpha=alpha,
        icc=header.record("icc"),
        exif=header.record("exif"),
        xmp=header.record("xmp"),
        format="plc",
    )
    return picture, list(reader.warnings)


class _Job:
    """One picture on its way into a file: codings at any quality, and their sizes."""

    def __init__(
        self, codec, picture: Picture, tile: int | None, alpha: str, effort: int
    ) -> None:
        self.codec, self.picture, self.alpha = codec, picture, alpha
        self.tile = tiles.choose_tile(picture.height, picture.width, tile, effort)
        self.peak = (1 << picture.depth) - 1
        self.encoder = tiles.TileEncoder(
            codec, picture.pixels, self.peak, self.tile, effort
        )
        self._last: tuple[float, bytes] | None = None

    def file(self, quality: float, progress: tiles.Progress | None = None) -> bytes:
        """The whole file at ``quality``."""
        if self._last is None or self._last[0] != quality:
            chunks = self.encoder.chunks(quality)
            if progress:
                chunks = _counted(chunks, len(self.encoder.grid), progress)
            out = io.BytesIO()
            write_plc(out, self._header(quality), chunks)
            self._last = quality, out.getvalue()
        return self._last[1]

    def psnr(self, quality: float) -> float:
        """PSNR in dB of the decoded samples against the picture's."""
        reader = Reader(io.BytesIO(self.file(quality)))
        decoded, _ = read_plc(reader, codec=self.codec)
        pair = self.picture.pixels, decoded.pixels
        return measures.psnr(*pair, peak=self.peak, exact=math.inf)

    def choose(
        self,
        quality: float | None,
        target_bpp: float | None,
        target_size: int | None,
        min_psnr: float | None,
    ) -> float:
        """The quality that meets the request, by real coded sizes."""
        if min_psnr is not None:
            return rate.smallest_reaching(self.psnr, min_psnr)[0]
        if target_size is None and target_bpp is None:
            quality = DEFAULT_QUALITY if quality is None else quality
            self.codec.level_of(quality)  # refuses what is outside 0 … 100
            return round(100 * quality) / 100
        what = f"--target-size {target_size}"
        if target_size is None:
            area = self.picture.width * self.picture.height
            target_size = int(target_bpp * area / 8)
            what = f"--target-bpp {target_bpp:g}"
        size_of = lambda q: len(self.file(q))  # noqa: E731
        return rate.largest_within(size_of, target_size, what)[0]

    def _header(self, quality: float) -> Header:
        picture = self.picture
        records = [
            Record(kind, getattr(picture, kind))
            for kind in ("icc", "exif", "xmp")
            if getattr(picture, kind) is not None
        ]
        if picture.alpha is not None:
            records.append(Record("alpha", self._alpha(quality)))
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="image",
            geometry=ImageGeometry(
                picture.width, picture.height, picture.depth, picture.colour, self.tile
            ),
            params=round(100 * quality).to_bytes(2, "little"),
            records=tuple(records),
        )

    def _alpha(self, quality: float) -> bytes:
        plane = self.picture.alpha
        if self.alpha == "lossless":
            if not hasattr(self, "_alpha_bytes"):
                self._alpha_bytes = encode_alpha(plane)
            return self._alpha_bytes
        peak = int(np.iinfo(plane.dtype).max)
        x = tiles.to_tensor(plane[..., None], peak, tiles.device_of(self.codec))
        deep = b"\1" if peak > 255 else b"\0"
        return bytes([CODED_ALPHA]) + deep + self.codec.compress(x, quality)[0]


def _alpha_plane(data: bytes, geometry: ImageGeometry, codec) -> np.ndarray:
    if data[:1] != bytes([CODED_ALPHA]):
        return decode_alpha(data, geometry.width, geometry.height)
    peak = 65535 if data[1:2] == b"\1" else 255
    expected = codec.size_of(data[2:])
    if expected != (geometry.height, geometry.width):
        raise BitstreamError(
            f"the alpha plane is {expected}; expected "
            f"{(geometry.height, geometry.width)} rows and columns"
        )
    return tiles.to_pixels(codec.decompress([data[2:]]), peak, 1)[..., 0]


def _quality(params: bytes) -> float:
    value = int.from_bytes(params, "little")
    if len(params) != 2 or value > 10000:
        raise BitstreamError(
            f"codec parameters are {params.hex()}; expected 2 bytes, 100 x quality"
        )
    return value / 100


def _region(
    region: tuple[int, int, int, int] | None, geometry: ImageGeometry
) -> tiles.Span:
    if region is None:
        return tiles.Span(0, 0, geometry.height, geometry.width)
    x, y, w, h = region
    fits = x >= 0 and y >= 0 and w > 0 and h > 0
    if not fits or x + w > geometry.width or y + h > geometry.height:
        raise UsageError(
            f"region {x},{y},{w},{h} does not lie in the image; expected X,Y,W,H "
            f"inside {geometry.width}x{geometry.height}"
        )
    return tiles.Span(y, x, y + h, x + w)


def _counted(chunks, total: int, progress: tiles.Progress):
    for done, chunk in enumerate(chunks):
        progress(done + 1, total)
        yield chunk
