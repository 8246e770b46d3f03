# SPDX-License-Identifier: Apache-2.0
"""Images as evaluations see them: PSNR and MS-SSIM over bits per pixel."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from polycodec.codecs.measures.image import MEASURES
from polycodec.eval.curves import Curve, chosen, published_point
from polycodec.eval.datasets import find
from polycodec.eval.image.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.image.datasets import IMAGES
from polycodec.eval.image.result import ImageEvaluation
from polycodec.eval.image.subjects import ImageCodec
from polycodec.eval.kind import Kind, Run

# A readable choice for a first look: a standard, an early and a recent codec.
PUBLISHED = ("vtm", "bpg444", "compressai-mbt2018-mean-mse", "elic", "lalic")


class ImageKind(Kind):
    """Kodak or any images, beside JPEG, WebP, AVIF and others."""

    name = "image"
    datasets = IMAGES
    codec, own = "image/default", ImageCodec
    anchors, default_anchors = ANCHORS, DEFAULT_ANCHORS
    measures, result = MEASURES, ImageEvaluation
    control = "target_bpp"
    options = ("target_bpp", "reference", "published_ids", "show")
    rate, pace = ("bpp", 4), "s"
    logarithmic = intervals = False
    method = (
        "PSNR of each image, then averaged; MS-SSIM in dB of the mean. BD-rate: "
        "bjontegaard package, over the common range of quality. Bits per pixel count "
        "every byte of a file, its header too. Times are of this machine, one image at "
        "a time; classical codecs are timed in memory, ours from file to file."
    )

    def amount(self, signal: np.ndarray) -> float:
        """Return the pixels of (H, W, 3)."""
        return float(signal.shape[0] * signal.shape[1])

    def rate_of(self, size: float, amount: float) -> float:
        """Return bits per pixel."""
        return 8 * size / amount

    def published(self, run: Run) -> list[Curve]:
        """Read published curves of this data set; none where only a part is measured.

        UsageError for a reference that is no curve of this run.
        """
        options = run.options
        if options.show is not None:
            find(run.items, options.show)  # refused now, not after the long work
        read = functools.partial(read_curves, dataset=run.dataset)
        expected = (
            f"{{{run.dataset!r}: [...]}}, objects with id and bpp, psnr, ms_ssim_db of "
            "equal length, null where unknown"
        )
        dashed = self.curves_in(options, read, expected)
        if dashed and options.limit is not None:
            why = "they are of the whole data set, this run is not"
            run.skipped["published curves"] = why
            dashed = []
        elif options.published is not None and not dashed:
            why = f"the file has none of '{run.dataset}'"
            run.skipped["published curves"] = why
        self.check_reference(run, dashed)
        return dashed


def read_curves(content: Any, dataset: str, ids: Any = None) -> list[Curve]:
    """Return the curves of a data set in ``{dataset: [{id, label, bpp, psnr, ...}]}``.

    ``ids`` chooses; by default a few well-known ones, or all when none of those is
    there.
    """
    entries = content.get(dataset) or ()
    return [_curve(entry) for entry in chosen(entries, ids, PUBLISHED)]


def _curve(entry: dict[str, Any]) -> Curve:
    rates = entry["bpp"]
    names = ("psnr", "ms_ssim_db")
    columns = [entry.get(name) or [None] * len(rates) for name in names]
    return Curve(
        name=entry["id"],
        label=entry.get("label", entry["id"]),
        kind="published",
        points=tuple(
            published_point(rate, dict(zip(names, values, strict=True)))
            for rate, *values in zip(rates, *columns, strict=True)
        ),
        note=entry.get("source", ""),
    )


KIND = ImageKind()
