# SPDX-License-Identifier: Apache-2.0
"""What a run on videos found out: BD-rates in RGB and in YUV apart, frames to see."""

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
            "setting; figures are of the whole clip. Its middle plays, 25 frames a "
            "second, as lossy WebP; below is one frame, without loss: press on one to "
            "see the original."
        )
        heading = f"<h2>At about the same size</h2><p>{escape(sentence)}</p>"
        names = ["Original", *(label for label, *_ in found.shown)]
        film = page.film(found.playing, names, 1 / 25)
        return [heading, film, page.crops(found.original, shown)]
