# SPDX-License-Identifier: Apache-2.0
"""One photograph at several rates, beside JPEG, WebP and AVIF of the same size.

    make demo        or        python docs/demo.py OUT [--photo FILE]

    photo ── polycodec -q 10 … 90 ──► .plc ──► PNG ──► bytes, bpp, PSNR
      └───── JPEG, WebP, AVIF: the quality whose bytes come nearest to those

Every size is that of a real file or stream, every PSNR that of its decoded pixels.
Without --photo it is `coffee` out of scikit-image's wheel: nothing is downloaded.
In OUT: the .plc files, what they decode to, and crops.png to look at.
"""

from __future__ import annotations

import argparse
import pathlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import polycodec
from polycodec.codecs.measures.image import psnr
from polycodec.errors import CodecError, InputError
from polycodec.eval.image.anchors import ANCHORS as KNOWN
from polycodec.eval.image.anchors import match_rate
from polycodec.eval.image.samples import busiest_window
from polycodec.eval.subjects import Coded

QUALITIES = (10, 30, 50, 70, 90)
SHOWN = (10, 50)  # the rows of crops.png
ANCHORS = ("jpeg", "webp", "avif")
SIDE = 240  # of a crop, in pixels
MARGIN, CAPTION = 8, 40


@dataclass(frozen=True)
class Result:
    """One codec at one rate: real bytes and what they decode to."""

    label: str
    setting: float
    bytes: int
    pixels: np.ndarray
    psnr: float

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return 8 * self.bytes / (self.pixels.shape[0] * self.pixels.shape[1])


def main() -> None:
    """Run the demonstration and print its table."""
    parser = argparse.ArgumentParser(description="polycodec beside JPEG, WebP, AVIF")
    parser.add_argument("out", type=pathlib.Path, help="folder for the files")
    parser.add_argument("--photo", type=pathlib.Path, help="your own photograph")
    parser.add_argument("--checkpoint", help="an exported training run")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        demonstrate(args.photo or bundled(args.out), args.out, args.checkpoint)
    except CodecError as error:
        raise SystemExit(f"demo: error: {error}") from None


def bundled(out: pathlib.Path) -> pathlib.Path:
    """Copy the photograph in scikit-image's wheel (CC0, by Rachel Michetti)."""
    from skimage import data

    path = out / "coffee.png"
    Image.fromarray(data.coffee()).save(path)
    return path


def demonstrate(
    photo: pathlib.Path, out: pathlib.Path, checkpoint: str | None = None
) -> None:
    """Code ``photo`` at all rates, print the table, draw crops.png."""
    original = read(photo)
    height, width = original.shape[:2]
    print(f"{photo.name}, {width}x{height} pixels, PNG {photo.stat().st_size} bytes\n")
    print(f"{'':12}{'quality':>8}{'bytes':>9}{'bpp':>8}{'PSNR':>9}")
    anchors, rows = [Anchor(name, original) for name in ANCHORS], {}
    for quality in QUALITIES:
        ours = code(photo, original, quality, out, checkpoint)
        rows[quality] = [ours, *(a.match(ours.bytes) for a in anchors)]
        for result in rows[quality]:
            print(
                f"{result.label:12}{result.setting:8g}{result.bytes:9d}"
                f"{result.bpp:8.3f}{result.psnr:6.2f} dB"
            )
        print()
    draw(original, [rows[quality] for quality in SHOWN]).save(out / "crops.png")
    print(f"crops side by side: {out / 'crops.png'}")


def code(
    photo: pathlib.Path,
    original: np.ndarray,
    quality: float,
    out: pathlib.Path,
    checkpoint: str | None,
) -> Result:
    """Encode into a file, decode that file, compare."""
    file = out / f"{photo.stem}-q{quality}.plc"
    back = file.with_suffix(".png")
    polycodec.encode(photo, file, quality=quality, checkpoint=checkpoint, force=True)
    polycodec.decode(file, back, checkpoint=checkpoint, force=True)
    pixels = read(back)
    size = file.stat().st_size
    return Result("polycodec", quality, size, pixels, psnr(original, pixels))


class Anchor:
    """A classical codec and what it made of the one photograph, at each quality."""

    def __init__(self, name: str, original: np.ndarray) -> None:
        self.subject, self.original = KNOWN[name], original
        self.finest, self.control = self.subject.finest, self.subject.control
        self.known: dict[float, Coded] = {}
        if self.subject.missing():
            raise InputError(f"{self.subject.missing()}; install Pillow's own wheel")

    def compress(self, original: np.ndarray, setting: float) -> Coded:
        """Code the photograph, or hand out what was coded before."""
        if setting not in self.known:
            self.known[setting] = self.subject.compress(original, setting)
        return self.known[setting]

    def match(self, size: int) -> Result:
        """Search the quality whose bytes come nearest to ``size``."""
        setting, coded = match_rate(self, self.original, size)
        pixels = self.subject.decompress(coded.data).signal
        measured = len(coded.data), pixels, psnr(self.original, pixels)
        return Result(self.subject.label, setting, *measured)


def draw(original: np.ndarray, rows: list[list[Result]]) -> Image.Image:
    """Put the same window of all results side by side, one row for each rate."""
    x, y, w, h = busiest_window(original, SIDE)
    window = np.s_[y : y + h, x : x + w]
    columns = 1 + len(rows[0])
    size = columns * (w + MARGIN) + MARGIN, len(rows) * (h + CAPTION + MARGIN) + MARGIN
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for j, row in enumerate(rows):
        top = MARGIN + j * (h + CAPTION + MARGIN)
        cells = [(original, "original", "PNG")]
        cells += [(r.pixels, r.label, f"{r.bytes} bytes, {r.psnr:.2f} dB") for r in row]
        for k, (pixels, label, figures) in enumerate(cells):
            left = MARGIN + k * (w + MARGIN)
            sheet.paste(Image.fromarray(pixels[window]), (left, top))
            pen.text((left, top + h + 3), f"{label}\n{figures}", "black", font)
    return sheet


def read(path: pathlib.Path) -> np.ndarray:
    """Read an image as (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
