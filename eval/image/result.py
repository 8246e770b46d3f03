# SPDX-License-Identifier: Apache-2.0
"""What a run on images found out: curves, BD-rates, real bytes against estimates.

comparisons   every curve with every other: BD-rate over the common range
per_picture   the same image by image: whether the mean hides images that lose
overheads     how far real files exceed the model's own estimate
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.eval import bdrate, text
from polycodec.eval.image import curves, tables
from polycodec.eval.image.curves import ImageCurve
from polycodec.eval.image.measure import ImageRow
from polycodec.eval.kind import Run
from polycodec.eval.result import Evaluation

METRICS = ("psnr", "ms_ssim_db")


@dataclass(frozen=True)
class Overhead:
    """Real file bytes against the model's own estimate, over all images.

    ``percent`` is the mean excess. ``beyond`` is the largest number of bytes by
    which an image exceeds its estimate by more than 0.6 % + 40 bytes, negative
    when all stay within; ``worst`` is that image.
    """

    percent: float
    beyond: float
    worst: str
    pictures: int


@dataclass(frozen=True, kw_only=True)
class ImageEvaluation(Evaluation):
    """All that a run on images found out."""

    images: list[str]
    curves: list[ImageCurve]
    published: list[ImageCurve]
    rows: list[ImageRow]
    # comparisons[metric][test][anchor]
    comparisons: dict[str, dict[str, dict[str, bdrate.Comparison]]]
    # per_picture[test][anchor][image]: BD-rate in % by PSNR, for our codecs
    per_picture: dict[str, dict[str, dict[str, float]]]
    overheads: dict[str, Overhead]

    @classmethod
    def of(
        cls, run: Run, rows: list[Any], published: list[Any], about: dict[str, Any]
    ) -> ImageEvaluation:
        """Turn measured rows into curves and comparisons."""
        images = [item.name for item in run.items]
        found = [
            curves.measured(s, [row for row in rows if row.codec == s.name])
            for s in run.subjects
        ]
        return cls(
            images=images,
            curves=found,
            published=published,
            comparisons=_compare_all(found, published, run.options.reference),
            per_picture=_per_image(found, rows, images),
            overheads=overheads(rows),
            **about,
        )

    def title(self) -> str:
        """Say the data set and how many images it has."""
        return f"{self.dataset}: {text.plural(len(self.images), 'image')}"

    def points(self, *, short: bool = False) -> text.Table:
        """Return the means of every codec at every setting."""
        return tables.points(self)

    def facts(self) -> list[str]:
        """Return BD-rates in words, overheads, and what was left out."""
        return tables.facts(self)

    def sections(self) -> list[str]:
        """Return all tables as Markdown."""
        return tables.sections(self)


def overheads(rows: Sequence[ImageRow]) -> dict[str, Overhead]:
    """Compare real bytes with estimates, for codecs that have estimates."""
    table = {}
    for codec in dict.fromkeys(row.codec for row in rows):
        pairs = [
            (row, row.estimated_bpp * row.width * row.height / 8)
            for row in rows
            if row.codec == codec and row.estimated_bpp is not None
        ]
        if not pairs:
            continue
        excess = [row.bytes - 1.006 * estimate - 40 for row, estimate in pairs]
        at = max(range(len(pairs)), key=excess.__getitem__)
        total = sum(estimate for _, estimate in pairs)
        real = sum(row.bytes for row, _ in pairs)
        table[codec] = Overhead(
            percent=100 * (real / total - 1) if total else math.nan,
            beyond=excess[at],
            worst=f"{pairs[at][0].image} at {pairs[at][0].setting:g}",
            pictures=len(pairs),
        )
    return table


def _compare_all(
    found: Sequence[ImageCurve], dashed: Sequence[ImageCurve], reference: str | None
) -> dict[str, dict[str, dict[str, bdrate.Comparison]]]:
    """Compare every measured curve with every other, or with the reference."""
    references = [c for c in (*found, *dashed) if reference in (None, c.name)]
    return {
        metric: {
            test.name: {
                base.name: bdrate.compare(*base.against(metric), *test.against(metric))
                for base in references
                if base.name != test.name
            }
            for test in found
        }
        for metric in METRICS
    }


def _per_image(
    found: Sequence[ImageCurve], rows: Sequence[ImageRow], images: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """BD-rate in % by PSNR (Akima) of our codecs against everything measured.

    NaN where it does not exist.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        groups.setdefault((row.image, row.codec), []).append((row.bpp, row.psnr))

    def rate(image: str, test: str, anchor: str) -> float:
        pair = (np.transpose(groups[image, name]) for name in (anchor, test))
        return bdrate.compare(*(row for curve in pair for row in curve)).rate_akima

    return {
        test.name: {
            base.name: {image: rate(image, test.name, base.name) for image in images}
            for base in found
            if base.name != test.name
        }
        for test in found
        if test.kind == "codec"
    }
