# SPDX-License-Identifier: Apache-2.0
"""Images as evaluations see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycodec.codecs.measures.image import RULES
from polycodec.errors import UsageError
from polycodec.eval.datasets import find
from polycodec.eval.image import curves
from polycodec.eval.image.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.image.datasets import IMAGES
from polycodec.eval.image.measure import ImageRow
from polycodec.eval.image.result import ImageEvaluation
from polycodec.eval.image.subjects import ImageCodec
from polycodec.eval.kind import Kind, Run

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
    row, result = ImageRow, ImageEvaluation
    fixed_rules = {"metrics": RULES}  # noqa: RUF012

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

    def report(self, run: Run, result: ImageEvaluation) -> Report:
        """Return the page with plots, crops and tables."""
        from polycodec.eval.image.report import ImageReport

        return ImageReport(run, result)


KIND = ImageKind()
