# SPDX-License-Identifier: Apache-2.0
"""The report of a run on images.

rd-psnr, rd-ms-ssim, rate-difference, bd-rate   .svg and .png
report.html   headline figures, plots, crops, tables, how it was measured
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from polycodec.eval.image import plots, tables
from polycodec.eval.image.samples import make_crops
from polycodec.eval.page import page, palette
from polycodec.eval.report import Drawing, Report
from polycodec.eval.text import number, plural

_PSNR = (
    "Mean over images of the RGB PSNR, over mean bits per pixel of the whole files. Up "
    "and to the left is better."
)
_MS_SSIM = "Mean MS-SSIM in dB over mean bits per pixel of the whole files."
_DIFFERENCE = (
    "Bits needed against each anchor at the same PSNR, over the whole common range. "
    "Below zero: fewer bits."
)
_BARS = "Mean rate difference at equal PSNR (BD-rate, Akima). To the left: fewer bits."


class ImageReport(Report):
    """Rate and distortion, crops of about the same size, BD-rates."""

    def draw(self) -> dict[str, Drawing]:
        """Return all figures; MS-SSIM only where it was measured."""
        result = self.result
        every = [*result.curves, *result.published]
        looks = palette.looks(every)
        labels = {curve.name: curve.label for curve in every}
        dashed = " Dashed: published figures." if result.published else ""
        figure = plots.rate_distortion(every, looks, "psnr")
        found = {"rd-psnr": Drawing(figure, _PSNR + dashed)}
        if any(v is not None for curve in result.curves for v in curve.ms_ssim_db):
            figure = plots.rate_distortion(every, looks, "ms_ssim_db")
            found["rd-ms-ssim"] = Drawing(figure, _MS_SSIM + dashed)
        against = result.comparisons["psnr"][self.lead.name]
        if any(one.parts for one in against.values()):
            figure = plots.rate_difference(against, labels, looks, "psnr")
            found["rate-difference"] = Drawing(figure, _DIFFERENCE)
            found["bd-rate"] = Drawing(plots.bd_bars(against, labels, looks), _BARS)
        return found

    def headline(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """Return what was measured, and BD-rates against the anchors."""
        result, lead = self.result, self.lead
        rates = f"{number(min(lead.bpp))} to {number(max(lead.bpp))} bits per pixel"
        sentence = (
            f"{plural(len(result.images), 'image')}, {len(lead.points)} settings from "
            f"{rates}. Every rate is the size of a real file, every figure was taken "
            "from the image decoded from it."
        )
        items = []
        for base, found in result.comparisons["psnr"][lead.name].items():
            if found.overlap and result.curve(base).kind == "anchor":
                value = f"{number(found.rate_akima, 1, sign=True)} %"
                items.append((value, f"against {result.curve(base).label}"))
        if items:
            sentence += " Bits needed for the same PSNR (BD-rate, Akima):"
        return sentence, items

    def body(self, plots: dict[str, str]) -> list[str]:
        """Return plots, BD-rates, crops, and every setting."""
        label = escape(self.lead.label)
        parts = ["<h2>Rate and distortion</h2>"]
        parts += [plots[name] for name in ("rd-psnr", "rd-ms-ssim") if name in plots]
        if "rate-difference" in plots:
            parts.append(f"<h2>{label} against the others</h2>")
            parts += [plots["rate-difference"], plots["bd-rate"]]
        return [*parts, *self._bd(label), *self._crops(), *self._numbers()]

    def _bd(self, label: str) -> list[str]:
        """BD-rates, and the same difference at single qualities."""
        result, lead = self.result, self.lead
        parts = [f"<h3>Rate of {label} in % against each, by PSNR</h3>"]
        parts.append(page.table(tables.parts(result, lead.name, "psnr")))
        if result.per_picture.get(lead.name):
            block = page.table(tables.each_image(result, lead.name))
            parts.append(page.details("BD-rate on each image", block))
        note = (
            '<p class="note">Negative: the test codec needs fewer bits than the '
            "anchor. The common range is where both curves have measured points; "
            "nothing is extrapolated.</p>"
        )
        for metric, name in tables.METRICS:
            block = page.table(tables.bd(result, metric), text=(0, 1), group=True)
            parts.append(page.details(f"BD-rate by {name}, every pair", note + block))
        return parts

    def _crops(self) -> list[str]:
        run = self.run
        crops = make_crops(
            self.result.rows, run.subjects, run.items, show=run.options.show
        )
        x, y, width, height = crops.box
        sentence = (
            f"{crops.image}, window {width}×{height} at ({x}, {y}): the image of "
            "median PSNR and its window with the most detail, unless the run named "
            "another. The classical codecs are set to come nearest to the first one's "
            "size. Press on a crop to see the original in its place."
        )
        shown = [
            (c.label, f"{number(c.bpp, 3)} bpp, {number(c.psnr)} dB", c.window)
            for c in crops.shown
        ]
        return [
            "<h2>At about the same size</h2>",
            f"<p>{escape(sentence)}</p>",
            page.crops(crops.original, shown),
        ]

    def _numbers(self) -> list[str]:
        every = tables.points(self.result)
        own = [row for row in every.rows if row[0] == self.lead.label]
        parts = [
            "<h2>Every setting</h2>",
            "<p>Means over all images. Times are of this machine, one image at a time; "
            "classical codecs are timed in memory, ours from file to file.</p>",
            page.table(every._replace(rows=own)),
            page.details("All codecs, all settings", page.table(every, group=True)),
        ]
        for codec, over in self.result.overheads.items():
            parts.append(f"<h3>Real bytes against the estimate: {escape(codec)}</h3>")
            parts.append(f"<p>{escape(tables.overhead_sentence(over))}</p>")
        return parts

    def method(self) -> tuple[list[str], list[str]]:
        """Return the rules of PSNR, MS-SSIM and BD-rate, and what was left out."""
        rules = (
            "PSNR: on 8-bit RGB, for each image, then averaged. MS-SSIM: five scales, "
            "11-tap Gaussian window, on RGB; in dB of the mean. BD-rate: bjontegaard "
            "package, over the common PSNR range. Bits per pixel count every byte of a "
            "file, its header too."
        )
        skipped = self.result.skipped.items()
        return [rules, *[f"Left out: {n}, because {why}." for n, why in skipped]], []
