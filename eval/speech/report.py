# SPDX-License-Identifier: Apache-2.0
"""The report of a run on speech: a page to look at and listen to.

pesq_wb, pesq_nb, stoi, visqol, si_sdr, mel   .svg and .png, those that were taken
report.html   headline figures, players, plots, tables, how it was measured
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from polycodec.eval.page import page, palette
from polycodec.eval.report import Drawing, Report
from polycodec.eval.speech import tables
from polycodec.eval.speech.plots import quality
from polycodec.eval.speech.samples import make_samples
from polycodec.eval.text import Table, number

_RULES = (
    "At 16 kHz, one channel, whole files, 16-bit samples. The delay of a classical "
    "codec is searched within 25 ms and taken out. ViSQOL: speech mode with the "
    "lattice mapping."
)


class SpeechReport(Report):
    """Players, and each measure over kbit/s."""

    def draw(self) -> dict[str, Drawing]:
        """Return a figure for each measure that was taken."""
        result = self.result
        looks = palette.looks(result.curves)
        note = "Upright strokes: 95 % bootstrap interval of the mean over files."
        if result.published:
            note += (
                " Hollow: points that others published on speech of their own; they "
                "say where a system stands, not who wins."
            )
        return {
            measure.name: Drawing(
                quality(result.curves, result.published, looks, measure),
                f"{measure.label} over kbit/s. {note}",
            )
            for measure in tables.taken(result)
        }

    def headline(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """Return what was measured, and the scores of each rate."""
        result, points = self.result, self.lead.points
        rates = [point.kbps for point in points]
        sentence = (
            f"{len(result.files)} files, {result.seconds:.0f} s, {len(points)} "
            f"settings from {number(min(rates))} to {number(max(rates))} kbit/s. Every "
            "rate is the size of real bytes, every figure was taken from the speech "
            "decoded from them."
        )
        items = []
        for point in points:
            scores = [
                f"{measure.label} {number(mean.value, measure.digits)}"
                for measure in tables.taken(result)[:3]
                if (mean := point.scores.get(measure.name)) is not None
            ]
            items.append((f"{number(point.kbps)} kbit/s", ", ".join(scores)))
        return sentence, items

    def body(self, plots: dict[str, str]) -> list[str]:
        """Return players, plots, and every setting."""
        drawn = ["<h2>Quality over rate</h2>", *plots.values()]
        return [*self._listen(), *drawn, *self._numbers()]

    def _listen(self) -> list[str]:
        run = self.run
        parts = [
            "<h2>Listen</h2>",
            '<p class="note">Files chosen by rule, evenly over the data set; scores '
            "are of the whole file. Stored as FLAC, which adds nothing of its own.</p>",
        ]
        for sample in make_samples(self.result.rows, run.subjects, run.items):
            parts.append(f"<h3>{escape(sample.file)}, {sample.seconds:.1f} s</h3>")
            parts.append(page.players(sample.versions))
        return parts

    def _numbers(self) -> list[str]:
        result, lead = self.result, self.lead
        parts = [
            "<h2>Every setting</h2>",
            "<p>Means over files with their 95 % interval. RTF: seconds of coding per "
            "second of speech, on this machine.</p>",
            page.table(tables.points(result), group=True),
        ]
        anchors = any(curve.kind == "anchor" for curve in result.curves)
        if lead.kind == "codec" and anchors:
            block = page.table(tables.same_quality(result, lead), text=(1,), group=True)
            parts += ["<h3>kbit/s at which the others score the same</h3>", block]
        for measure in tables.taken(result):
            block = page.table(tables.each_file(result, measure))
            parts.append(page.details(f"{measure.label} of every file", block))
        return parts

    def about(self) -> dict[str, Any]:
        """Return the rules of the measures beside versions and settings."""
        return {"measures": self.result.measures, **super().about()}

    def method(self) -> tuple[list[str], list[str]]:
        """Return how speech is compared, and the points of others."""
        sentences = [_RULES, *self.result.facts()]
        if not self.result.published:
            return sentences, []
        shown = (("pesq_wb", 2), ("pesq_nb", 2), ("stoi", 3), ("visqol", 2))
        header = ["codec", "kbit/s", "PESQ-WB", "PESQ-NB", "STOI", "ViSQOL"]
        rows = [
            [
                point.label,
                f"{point.kbps:g}",
                *[number(point.scores.get(name), digits) for name, digits in shown],
                point.test_set,
                point.status,
            ]
            for point in self.result.published
        ]
        cells = Table([*header, "measured on", "status"], rows)
        block = page.details("Published points", page.table(cells, text=(0, 6, 7)))
        return sentences, [block]
