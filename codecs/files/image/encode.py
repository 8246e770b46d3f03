# SPDX-License-Identifier: Apache-2.0
"""Image files in; `api.py` calls this for what it recognises as images.

    photo.png ─ read ─ tiles ─ codec ─ quality search ─ container ─ photo.plc

Everything that can be refused is refused before the long work begins, and nothing
is written unless all of it can be. The way back is in `decode.py`.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable

import numpy as np

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    Record,
    write_plc,
)
from polycodec.codecs.files.ends import Ends, Progress, codec_for, counted
from polycodec.codecs.files.image import rate
from polycodec.codecs.files.image.alpha import CODED_ALPHA, encode_alpha, seal_of
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.image.orientation import as_stored, upright
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.image.records import records_of
from polycodec.codecs.files.image.write import losses_in_png
from polycodec.codecs.files.options import ImageEncode
from polycodec.codecs.files.rate import limit_of, quality_asked
from polycodec.codecs.files.results import ImageEncoded
from polycodec.codecs.files.sources import grown
from polycodec.codecs.measures import image as measures
from polycodec.codecs.refined import Found, gained
from polycodec.codecs.signals import tiles
from polycodec.codecs.signals.grid import choose_tile
from polycodec.errors import InputError
from polycodec.progress import Tick

logger = logging.getLogger(__name__)
UNHEARD = (
    "roi changes nothing: all of it is alike or flat, or the quality leaves no choice"
)


def encode(ends: Ends[ImageEncode]) -> ImageEncoded:
    """Encode an image file to a ``.plc`` file; see `api.encode`."""
    image, options = read_image(ends.source), ends.options
    image.notes += losses_in_png(image)
    job = Job(codec_for("image", ends), image, options)
    quality = job.choose()
    data = job.file(quality, ends.progress)
    with ends.writing() as file:
        file.write(data)
    if job.codec.levels == 1 and options.quality is not None:
        image.notes.append(f"'{job.codec.name}' has one rate; quality changes nothing")
    if options.roi is not None and not job.encoder.heeded(quality):
        image.notes.append(UNHEARD)
    pixels, searched = image.width * image.height, job.encoder.searched
    return ImageEncoded(
        **ends.about(job.codec.name),
        bytes=len(data),
        bpp=8 * len(data) / pixels,
        estimated_bpp=job.encoder.estimated_bits / pixels,
        quality=quality,
        psnr=job.psnr(quality) if options.psnr else None,
        searched=gained(*searched) if searched else None,
        notes=[*image.notes, *grown(ends.source, len(data))],
    )


def _watching(
    progress: Progress | None, parts: int
) -> Callable[[int, Found], None] | None:
    """Tell ``progress`` how far a search is, and where people watch what it found."""
    if progress is None:
        return None

    def watch(k: int, found: Found) -> None:
        progress(k * found.steps + found.step, parts * found.steps)
        if isinstance(progress, Tick):
            best = f"{found.best.bits:.3f} bpp {found.best.psnr:.2f} dB"
            progress.say(f"step {found.step} of {found.steps}: {best}")

    return watch


class Job:
    """One image on its way into a file: codings at any quality, and their sizes."""

    def __init__(self, codec: Codec, image: ImageData, options: ImageEncode) -> None:
        self.codec, self.image, self.options = codec, image, options
        size, effort = (image.height, image.width), options.effort
        self.tile = choose_tile(codec.tiling, *size, options.tile, effort)
        self.peak = (1 << image.depth) - 1
        self.records = records_of(image)  # the same at any quality
        wanted = self.peak, self.tile, effort
        self.encoder = codec.image_encoder(image.pixels, *wanted)
        if (detail := self._detail()) is not None:
            self.encoder.wish(detail)
        self._last: tuple[float, bytes] | None = None
        self._lossless: bytes | None = None  # the alpha plane, the same at any quality
        logger.info(
            "%d x %d %s of %d bits, %s alpha, %d tiles (side %d), %d steps of search",
            *(image.width, image.height, image.colour, image.depth),
            "no" if image.alpha is None else options.alpha,
            *(len(self.encoder.grid), self.tile, effort),
        )

    def _detail(self) -> np.ndarray | None:
        """What --roi asks for, (H, W) in [0, 1], of rows as the picture has them."""
        if self.options.roi is None:
            return None
        drawn, image = read_image(self.options.roi), self.image
        whole: np.ndarray = drawn.pixels.mean(2) / ((1 << drawn.depth) - 1)
        if drawn.alpha is not None:  # what cannot be seen is not white
            whole = whole * drawn.alpha / np.iinfo(drawn.alpha.dtype).max
        whole = upright(whole, drawn.exif)
        height, width = upright(image.pixels[..., 0], image.exif).shape
        if whole.shape != (height, width):
            raise InputError(
                f"roi '{self.options.roi}' is {whole.shape[1]}x{whole.shape[0]}; "
                f"expected {width}x{height}, the size of the picture as it is seen, "
                "white where detail is wished for"
            )
        return as_stored(whole, image.exif)

    def file(self, quality: float, progress: Progress | None = None) -> bytes:
        """The whole file at ``quality``."""
        if self._last is None or self._last[0] != quality:
            header = self.header(quality)  # alpha goes into the seal of the chunks
            parts = len(self.encoder.grid)
            self.encoder.watch = _watching(progress, parts)
            chunks = self.encoder.chunks(quality)
            chunks = counted(chunks, parts, progress)
            out = io.BytesIO()
            started = time.perf_counter()
            size = write_plc(out, header, chunks)
            seconds = time.perf_counter() - started
            logger.debug("quality %g: %d bytes in %.2f s", quality, size, seconds)
            self._last = quality, out.getvalue()
        return self._last[1]

    def psnr(self, quality: float) -> float:
        """PSNR in dB of the decoded samples against the image's."""
        reader = Reader(io.BytesIO(self.file(quality)))
        decoded, _ = read_plc(reader, codec=self.codec)
        pair = self.image.pixels, decoded.pixels
        return measures.psnr(*pair, peak=self.peak, exact=math.inf)

    def choose(self) -> float:
        """The quality that meets the request, by real coded sizes."""
        options, area = self.options, self.image.width * self.image.height
        if options.min_psnr is not None:
            return rate.smallest_reaching(self.psnr, options.min_psnr)
        if limit := limit_of(options):
            most = limit.bytes({"target_bpp": area})
            return rate.largest_within(lambda q: len(self.file(q)), most, str(limit))
        return quality_asked(options)

    def header(self, quality: float) -> Header:
        """The file's header; the chunks that are made next are sealed for it."""
        image, records = self.image, list(self.records)
        if image.alpha is not None:
            records.append(Record("alpha", self._alpha(image.alpha, quality)))
            self.encoder.grid.beside = seal_of(records[-1].data)
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="image",
            geometry=ImageGeometry(
                image.width, image.height, image.depth, image.colour, self.tile
            ),
            quality=quality,
            records=tuple(records),
        )

    def _alpha(self, plane: np.ndarray, quality: float) -> bytes:
        if self.options.alpha == "lossless":
            self._lossless = self._lossless or encode_alpha(plane)
            return self._lossless
        peak = int(np.iinfo(plane.dtype).max)
        x = tiles.to_tensor(plane[..., None], peak, self.codec.device)
        deep = b"\1" if peak > 255 else b"\0"
        return bytes([CODED_ALPHA]) + deep + self.codec.compress(x, quality)[0]
