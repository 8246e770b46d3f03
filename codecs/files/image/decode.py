# SPDX-License-Identifier: Apache-2.0
"""Image files out; `api.py` calls this for ``.plc`` files that hold an image.

    photo.plc ─ header ─ weights by name and digest ─ tiles ─ photo.png

A region is made from the tiles it needs, and is equal to that part of the whole. A
preview (``size``) is made smaller on the way.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import ImageGeometry, Reader, Stored
from polycodec.codecs.files.ends import Ends, Given, Progress, codec_of
from polycodec.codecs.files.image.alpha import CODED_ALPHA, decode_alpha, seal_of
from polycodec.codecs.files.image.data import Density, ImageData
from polycodec.codecs.files.image.records import beside_of
from polycodec.codecs.files.image.smaller import render_smaller
from polycodec.codecs.files.image.write import write_image
from polycodec.codecs.files.options import ImageDecode
from polycodec.codecs.files.results import ImageDecoded
from polycodec.codecs.signals import tiles
from polycodec.codecs.signals.grid import Grid, Span
from polycodec.errors import BitstreamError, UsageError

logger = logging.getLogger(__name__)


def decode(reader: Reader, ends: Ends[ImageDecode]) -> ImageDecoded:
    """Decode an opened image file; see `api.decode`."""
    image, notes = read_plc(
        reader, ends.options, codec=ends.codec, progress=ends.progress
    )
    read = reader.bytes_read
    with ends.writing() as file:
        notes += write_image(image, file, suffix=ends.suffix)
    return ImageDecoded(
        **ends.about(reader.header.model),
        bytes=read,
        width=image.width,
        height=image.height,
        notes=notes,
    )


def read_plc(
    reader: Stored,
    options: ImageDecode | None = None,
    *,
    codec: Given = None,
    progress: Progress | None = None,
) -> tuple[ImageData, list[str]]:
    """Decode an opened image file to a ImageData, and say what was left out."""
    options = options or ImageDecode()
    header = reader.header
    span = region_of(options.region, _geometry_of(reader))
    opened = Opened(reader, codec_of(header, options, codec))
    grid, geometry = opened.grid, opened.geometry
    logger.info(
        "%d x %d at %d, %d of %d x %d: %d of %d tiles (side %d), quality %g",
        *(span.size[1], span.size[0], span.left, span.top),
        *(geometry.width, geometry.height),
        *(len(grid.touching(span)), len(grid), geometry.tile, header.quality),
    )
    started = time.perf_counter()
    alpha = None if opened.alpha is None else opened.alpha[span.slices]
    decoder, samples = opened.decoder, opened.samples
    if options.size is None or max(span.size) <= options.size:
        pixels = decoder.render(span, *samples, progress)
    else:
        pixels, alpha = render_smaller(
            lambda part: decoder.render(part, *samples),
            *(span, options.size, grid.tile_h, alpha, progress),
        )
        pixels = pixels.clip(0, samples[0])
        density = opened.beside["density"]
        if density and density.unit != "aspect":
            scale = options.size / max(span.size)
            x, y = (max(1, round(scale * n)) for n in (density.x, density.y))
            opened.beside["density"] = Density(x, y, density.unit)
    logger.debug("decoded in %.2f s", time.perf_counter() - started)
    return opened.image(pixels, alpha), list(reader.warnings)


class Opened:
    """A stored image on its way to pixels: its decoder, and what stands beside them.

    ``samples``: the largest one, and how many a pixel has.
    """

    def __init__(self, reader: Stored, codec: Codec) -> None:
        header, self.geometry = reader.header, _geometry_of(reader)
        geometry = self.geometry
        self.grid = Grid(geometry.height, geometry.width, geometry.tile)
        self.decoder = codec.image_decoder(self.grid, header.quality, reader.chunk)
        peak = (1 << geometry.depth) - 1
        self.samples = peak, 1 if geometry.colour == "gray" else 3
        self.beside = beside_of(reader)
        self.alpha: np.ndarray | None = None
        record = header.record("alpha")
        if record is not None:
            self.grid.beside = seal_of(record)
            self.alpha = _alpha(record, geometry, codec)

    def image(self, pixels: np.ndarray, alpha: np.ndarray | None) -> ImageData:
        """The image of decoded pixels."""
        return ImageData(
            pixels=pixels,
            depth=self.geometry.depth,
            alpha=alpha,
            format="plc",
            **self.beside,
        )


def _geometry_of(reader: Stored) -> ImageGeometry:
    return reader.geometry(ImageGeometry, "an image")


def _alpha(data: bytes, geometry: ImageGeometry, codec: Codec) -> np.ndarray:
    """The whole alpha plane (height, width), uint8 or uint16."""
    if data[:1] != bytes([CODED_ALPHA]):
        return decode_alpha(data, geometry.width, geometry.height)
    peak = 65535 if data[1:2] == b"\1" else 255
    expected, _ = codec.signal.parse(data[2:])
    if expected != (geometry.height, geometry.width):
        raise BitstreamError(
            f"the alpha plane is {expected}; expected "
            f"{(geometry.height, geometry.width)} rows and columns"
        )
    return tiles.to_pixels(codec.decompress([data[2:]]), peak, 1)[..., 0]


def region_of(
    region: tuple[int, int, int, int] | None, geometry: ImageGeometry
) -> Span:
    """The pixels of (x, y, width, height), None: all; UsageError outside of them."""
    if region is None:
        return Span(0, 0, geometry.height, geometry.width)
    x, y, w, h = region
    fits = x >= 0 and y >= 0 and w > 0 and h > 0
    if not fits or x + w > geometry.width or y + h > geometry.height:
        raise UsageError(
            f"region {x},{y},{w},{h} does not lie in the image; expected X,Y,W,H "
            f"inside {geometry.width}x{geometry.height}"
        )
    return Span(y, x, y + h, x + w)
