# SPDX-License-Identifier: Apache-2.0
"""Images as evaluations see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polycodec.codecs.measures.image import RULES
from polycodec.errors import UsageError
from polycodec.eval.datasets import find
from polycodec.eval.image import curves
from polycodec.eval.image.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.image.datasets import IMAGES
from polycodec.eval.image.measure import ImageRow, judge
from polycodec.eval.image.result import ImageEvaluation, conclude
from polycodec.eval.image.subjects import ImageCodec
from polycodec.eval.kind import Kind, Run
from polycodec.eval.measure import Trip

if TYPE_CHECKING:
    from polycodec.eval.report import Report


class ImageKind(Kind):
    """Kodak or any images, beside JPEG, WebP, AVIF and others."""

    name = "image"
    datasets = IMAGES
    codec, own = "image/default", ImageCodec
    anchors, default_anchors = ANCHORS, DEFAULT_ANCHORS
    rate = "target_bpp"
    options = ("target_bpp", "reference", "published_ids", "show")
    row = ImageRow
    fixed_rules = {"metrics": RULES}  # noqa: RUF012

    def judge(
        self, trip: Trip, file: str, key: str, names: Sequence[str], known: Any
    ) -> ImageRow:
        """Compare the decoded image with its original."""
        return judge(trip, file, key)

    def published(self, run: Run) -> list[curves.ImageCurve]:
        """Read published curves of this data set; none where only a part is measured.

        UsageError for a reference that is no curve of this run.
        """
        options = run.options
        if options.show is not None:
            find(run.items, options.show)  # refused now, not after the long work
        path, ids = options.published, options.published_ids
        if path is None and ids is not None:
            raise UsageError(
                f"published curves {', '.join(ids)} of no file; name theirs "
                "(--published)"
            )
        dashed = []
        if path is not None:
            dashed = curves.published(path, dataset=run.dataset, ids=ids)
        if dashed and options.limit is not None:
            why = "they are of the whole data set, this run is not"
            run.skipped["published curves"] = why
            dashed = []
        known = [s.name for s in run.subjects] + [c.name for c in dashed]
        if options.reference is not None and options.reference not in known:
            raise UsageError(
                f"the reference '{options.reference}' is not part of this run; "
                f"expected one of {', '.join(known)}; add it to the anchors or "
                "published curves"
            )
        return dashed

    def conclude(
        self, run: Run, rows: list[Any], published: list[Any], about: dict[str, Any]
    ) -> ImageEvaluation:
        """Turn rows into curves and comparisons."""
        return conclude(run, rows, published, about)

    def report(self, run: Run, result: ImageEvaluation) -> Report:
        """Return the page with plots, crops and tables."""
        from polycodec.eval.image.report import ImageReport

        return ImageReport(run, result)


KIND = ImageKind()
