# SPDX-License-Identifier: Apache-2.0
"""What a run on videos found out: BD-rates in RGB and in YUV apart, one frame."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import ClassVar

from polycodec.eval.image.result import ImageEvaluation
from polycodec.eval.text import number


@dataclass(frozen=True, kw_only=True)
class VideoEvaluation(ImageEvaluation):
    """All that a run on videos found out."""

    metrics: ClassVar[dict[str, str]] = {
        "psnr": "PSNR of RGB",
        "psnr_yuv": "PSNR of YUV (6:1:1)",
        "ms_ssim_db": "MS-SSIM in dB",
    }

    def samples(self) -> list[str]:
        """Return a window of one frame by every codec."""
        from polycodec.eval.page import page
        from polycodec.eval.video.samples import make_windows

        found = make_windows(list(self.rows), self.run)
        shown = [
            (label, f"{row.rate:.3f} bpp, {number(row.scores.get('psnr'))} dB", pixels)
            for label, row, pixels in found.shown
        ]
        sentence = (
            f"{found.file}, frame {found.frame}: the window with the most detail, by "
            "each codec at the setting whose rate is nearest to the first one's middle "
            "setting; figures are of the whole clip. Press on one to see the original."
        )
        heading = f"<h2>At about the same size</h2><p>{escape(sentence)}</p>"
        return [heading, page.crops(found.original, shown)]
