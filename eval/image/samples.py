# SPDX-License-Identifier: Apache-2.0
"""The same window of one image by every codec at about the same size in bytes.

Image and window are chosen by rule, not by taste: the image whose PSNR is
the median of the data set, and in it the window with the most detail. Our codec
sets the size; for the classical ones the setting that comes nearest is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polycodec.codecs.measures import image as measures
from polycodec.eval.datasets import Item, find
from polycodec.eval.image.anchors import PillowAnchor, match_rate
from polycodec.eval.measure import Row, naming
from polycodec.eval.subjects import Coded, Subject

# Where differences between codecs are plain to see, yet none is hopeless.
TARGET_BPP = 0.35


@dataclass(frozen=True)
class Crop:
    """One codec's window: bpp and PSNR belong to the whole image."""

    label: str
    setting: float
    bpp: float
    psnr: float
    window: np.ndarray


@dataclass(frozen=True)
class Crops:
    """All windows of one image, the original first."""

    image: str
    box: tuple[int, int, int, int]  # x, y, width, height
    original: np.ndarray
    shown: list[Crop]


def make_crops(
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    images: Sequence[Item],
    *,
    show: str | None = None,
    side: int = 288,
) -> Crops:
    """Code one image by every subject at about equal size and cut it."""
    lead = next((s for s in subjects if s.kind == "codec"), subjects[0])
    setting = nearest_setting(rows, lead)
    chosen = _choose(rows, lead, setting, images, show)
    pixels = chosen.read()
    x, y, w, h = busiest_window(pixels, side)
    first = lead.compress(pixels, setting)
    shown = []
    for subject in [lead, *(s for s in subjects if s is not lead)]:
        at, coded = setting, first
        with naming(subject, at, chosen.name):
            if subject is not lead:
                at, coded = _at_size(subject, pixels, len(first.data), rows)
            decoded = subject.decompress(coded.data).signal
        shown.append(
            Crop(
                label=subject.label,
                setting=at,
                bpp=8 * len(coded.data) / (pixels.shape[0] * pixels.shape[1]),
                psnr=measures.psnr(pixels, decoded),
                window=decoded[y : y + h, x : x + w],
            )
        )
    return Crops(chosen.name, (x, y, w, h), pixels[y : y + h, x : x + w], shown)


def nearest_setting(rows: Sequence[Row], subject: Subject) -> float:
    """The measured setting whose mean rate is nearest to ``TARGET_BPP``."""

    def distance(setting: float) -> float:
        rates = [r.rate for r in _rows_of(rows, subject, setting)]
        return abs(np.log(np.mean(rates) / TARGET_BPP))

    return min(subject.settings, key=distance)


def busiest_window(pixels: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Find the window (x, y, w, h) with the largest mean gradient of luminance."""
    height, width = pixels.shape[:2]
    w, h = min(side, width), min(side, height)
    grey = pixels.astype(np.float64).mean(axis=2)
    detail = np.zeros_like(grey)
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    detail[1:, :] += np.abs(np.diff(grey, axis=0))
    total = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(x), int(y), w, h


def _choose(
    rows: Sequence[Row],
    subject: Subject,
    setting: float,
    images: Sequence[Item],
    show: str | None,
) -> Item:
    if show is not None:
        return find(images, show)
    group = _rows_of(rows, subject, setting)
    median = sorted(group, key=lambda row: row.scores.get("psnr") or 0)[len(group) // 2]
    return next(item for item in images if item.name == median.file)


def _rows_of(rows: Sequence[Row], subject: Subject, setting: float) -> list[Row]:
    return [r for r in rows if r.codec == subject.name and r.setting == setting]


def _at_size(
    subject: Subject, pixels: np.ndarray, size: int, rows: Sequence[Row]
) -> tuple[float, Coded]:
    """Code at about ``size`` bytes: searched for anchors, nearest for codecs."""
    if isinstance(subject, PillowAnchor):
        return match_rate(subject, pixels, size)
    setting = nearest_setting(rows, subject)
    return setting, subject.compress(pixels, setting)
