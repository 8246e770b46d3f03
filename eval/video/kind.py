# SPDX-License-Identifier: Apache-2.0
"""Videos as evaluations see them: PSNR and MS-SSIM of frames over bits per pixel."""

from __future__ import annotations

import numpy as np

from polycodec.eval.curves import Curve
from polycodec.eval.datasets import Item
from polycodec.eval.kind import Kind, Run
from polycodec.eval.options import EvalOptions
from polycodec.eval.video import clip
from polycodec.eval.video.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.video.datasets import VIDEOS
from polycodec.eval.video.measures import MEASURES
from polycodec.eval.video.published import EXPECTED, read_curves
from polycodec.eval.video.result import VideoEvaluation
from polycodec.eval.video.subjects import VideoCodec


class VideoKind(Kind):
    """UVG or any clips, beside x264, x265 and SVT-AV1."""

    name = "video"
    datasets = VIDEOS
    codec, own = "image/default", VideoCodec
    anchors, default_anchors = ANCHORS, DEFAULT_ANCHORS
    measures, result = MEASURES, VideoEvaluation
    control = "target_bpp"
    options = ("target_bpp", "reference", "published_ids", "frames")
    rate, pace = ("bpp", 4), "s"
    logarithmic, intervals = True, False
    method = (
        "Clips are 8-bit 4:2:0 in and out, the same samples for every codec; RGB is "
        "made of both sides alike. Measures are of each frame, then the mean. Bits per "
        "pixel count every byte of our files, headers too, over all frames' pixels. "
        "Times are of this machine, a clip at a time."
    )

    def amount(self, signal: np.ndarray) -> float:
        """Return the pixels of all frames."""
        return float(np.prod(clip.size_of(signal)))

    def rate_of(self, size: float, amount: float) -> float:
        """Return bits per pixel."""
        return 8 * size / amount

    def taken(self, item: Item, options: EvalOptions) -> np.ndarray:
        """Read the first frames, where only some are wanted."""
        return clip.read(item.path, options.frames)

    def published(self, run: Run) -> list[Curve]:
        """Curves of UVG; none where anything but all of it is measured.

        UsageError for a reference that is no curve of this run.
        """
        options = run.options
        dashed = self.curves_in(options, read_curves, EXPECTED)
        if options.published is not None:
            part = options.limit is not None or options.frames is not None
            if part or run.dataset != self.datasets.own:
                why = "they are of all frames of UVG, this run is not"
                run.skipped["published curves"], dashed = why, []
        self.check_reference(run, dashed)
        return dashed


KIND = VideoKind()
