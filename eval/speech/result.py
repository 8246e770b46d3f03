# SPDX-License-Identifier: Apache-2.0
"""What a run on speech found out: rates of the others for equal scores, every file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from polycodec.eval.curves import Curve
from polycodec.eval.result import Evaluation, cell
from polycodec.eval.text import Section, Table, number

if TYPE_CHECKING:
    from polycodec.codecs.measures.base import Measure


@dataclass(frozen=True, kw_only=True)
class SpeechEvaluation(Evaluation):
    """All that a run on speech found out."""

    @property
    def seconds(self) -> float:
        """Seconds of all files together."""
        return sum({row.file: row.amount for row in self.rows}.values())

    def title(self) -> str:
        """Say the data set, its files and their seconds."""
        return f"{super().title()}, {self.seconds:.0f} s"

    def cards(self) -> list[tuple[str, str]]:
        """Return the scores of each rate."""
        items = []
        for point in self.lead.points:
            scores = [
                f"{measure.label} {cell(point.scores[measure.name], measure, False)}"
                for measure in self.run.measures[:3]
            ]
            items.append((f"{number(point.rate)} kbit/s", ", ".join(scores)))
        return items

    def compared(self) -> list[Section]:
        """Return rates for equal scores, every file, and what others published."""
        parts = []
        for curve in self.curves:
            if curve.kind == "codec" and any(c.kind == "anchor" for c in self.curves):
                title = f"kbit/s at which the others score what {curve.label} does"
                parts.append(Section(title, self.same_quality(curve), folded=False))
        for measure in self.run.measures:
            title = f"{measure.label} of every file"
            parts.append(Section(title, self.each_file(measure)))
        if self.published:
            parts.append(Section("Published points", self._published()))
        return parts

    def same_quality(self, codec: Curve) -> Table:
        """Return the kbit/s at which each anchor scores what ``codec`` does."""
        measures = [m for m in self.run.measures if m.better > 0]
        header = ["against", "kbit/s of ours", *[m.label for m in measures]]
        rows = []
        for base in self.curves:
            if base.kind != "anchor":
                continue
            for point in codec.points:
                means = [(m, point.scores.get(m.name)) for m in measures]
                cells = [
                    "–" if mean is None else rate_for(base, measure.name, mean.value)
                    for measure, mean in means
                ]
                rows.append([base.label, number(point.rate), *cells])
        return Table(header, rows)

    def each_file(self, measure: Measure) -> Table:
        """Return one measure of every file, a column for each codec and setting."""
        pairs = [(c, p.setting) for c in self.curves for p in c.points]
        known = {
            (row.file, row.codec, row.setting): row.scores.get(measure.name)
            for row in self.rows
        }
        rows = [
            [file, *[number(known[file, c.name, s], measure.digits) for c, s in pairs]]
            for file in self.files
        ]
        return Table(["file", *[f"{c.label} {s:g}" for c, s in pairs]], rows)

    def _published(self) -> Table:
        measures, rows = self.run.measures, []
        for curve in self.published:
            point = curve.points[0]
            scores = [cell(point.scores.get(m.name), m, False) for m in measures]
            rows.append([curve.label, curve.note, f"{point.rate:g}", *scores])
        header = ["codec", "measured", "kbit/s", *[m.label for m in measures]]
        return Table(header, rows, left=2)

    def samples(self) -> list[str]:
        """Return players of a few files by every codec at every setting."""
        from polycodec.eval.page import page
        from polycodec.eval.speech.samples import make_samples

        parts = [
            "<h2>Listen</h2>",
            '<p class="note">Files chosen by rule, evenly over the data set; scores '
            "are of the whole file. Stored as FLAC, which adds nothing of its own.</p>",
        ]
        for sample in make_samples(self.rows, self.run):
            parts.append(f"<h3>{escape(sample.file)}, {sample.seconds:.1f} s</h3>")
            parts.append(page.players(sample.versions))
        return parts


def rate_for(curve: Curve, metric: str, value: float) -> str:
    """The kbit/s at which ``curve`` reaches ``value``: "12.3", "< 6.0", "> 24.0".

    Straight lines over the logarithm of the rate; beyond its ends the end, marked. A
    dash where the scores do not rise with the rate.
    """
    rates, scores = curve.values(metric)
    if len(rates) < 2 or not _rising(scores):
        return "–"
    if value < scores[0]:
        return f"< {rates[0]:.1f}"
    if value > scores[-1]:
        return f"> {rates[-1]:.1f}"
    return f"{np.exp(np.interp(value, scores, np.log(rates))):.1f}"


def _rising(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))
