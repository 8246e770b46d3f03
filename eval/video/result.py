# SPDX-License-Identifier: Apache-2.0
"""What a run on videos found out: BD-rates in RGB and in YUV apart, one frame."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import ClassVar

from polycodec.eval.image.result import ImageEvaluation
from polycodec.eval.image.samples import busiest_window
from polycodec.eval.measure import Trip, naming
from polycodec.eval.text import number
from polycodec.eval.video import clip


@dataclass(frozen=True, kw_only=True)
class VideoEvaluation(ImageEvaluation):
    """All that a run on videos found out."""

    metrics: ClassVar[dict[str, str]] = {
        "psnr": "PSNR of RGB",
        "psnr_yuv": "PSNR of YUV (6:1:1)",
        "ms_ssim_db": "MS-SSIM in dB",
    }

    def samples(self) -> list[str]:
        """Return a window of the middle frame of the first clip by every codec."""
        from polycodec.eval.page import page

        run, item = self.run, self.run.items[0]
        signal = run.kind.taken(item.read(), run.options)
        middle = len(signal) // 2
        original = clip.rgb(signal[middle])
        x, y, w, h = busiest_window(original, 288)
        window = original[y : y + h, x : x + w]
        known = {(r.file, r.codec, r.setting): r for r in self.rows}
        shown, wanted = [], None
        for subject in run.subjects:
            rows = [known[item.name, subject.name, float(s)] for s in subject.settings]
            # The first one's middle setting, and what of the others is nearest to it.
            wanted = wanted or rows[len(rows) // 2].rate
            distances = [abs(row.rate - wanted) for row in rows]
            row = rows[distances.index(min(distances))]
            with naming(subject, row.setting, item.name):
                decoded = Trip.of(subject, signal, row.setting).decoded.signal
            frame = clip.rgb(decoded[middle])[y : y + h, x : x + w]
            score = number(row.scores.get("psnr"))
            shown.append((subject.label, f"{row.rate:.3f} bpp, {score} dB", frame))
        sentence = (
            f"{item.name}, frame {middle}: the window with the most detail, by each "
            "codec at the setting whose rate is nearest to the first one's middle "
            "setting; figures are of the whole clip. Press on one to see the original."
        )
        heading = f"<h2>At about the same size</h2><p>{escape(sentence)}</p>"
        return [heading, page.crops(window, shown)]
