# SPDX-License-Identifier: Apache-2.0
"""What a run found out, how it describes itself, and how it is stored.

result ──► summary, for a terminal     ──► run.json, table.md     ──► report.html
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from polycodec.atomic import atomic_write
from polycodec.eval import text
from polycodec.eval.curves import Curve, Mean, shared
from polycodec.eval.kind import Run
from polycodec.eval.machine import described
from polycodec.eval.measure import Row
from polycodec.eval.text import Section, Table, number
from polycodec.plainjson import to_json

if TYPE_CHECKING:
    from polycodec.codecs.measures.base import Measure
    from polycodec.eval.page.palette import Look
    from polycodec.eval.report import Drawing

AnyEvaluation = TypeVar("AnyEvaluation", bound="Evaluation")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that a run found out; a kind's own adds what it compares."""

    run: Run
    created: str
    environment: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    curves: Sequence[Curve]
    published: Sequence[Curve]
    rows: Sequence[Row]

    @property
    def files(self) -> list[str]:
        """The names of the files that were measured."""
        return [item.name for item in self.run.items]

    @property
    def lead(self) -> Curve:
        """The curve a report is about: our first codec, or what came first."""
        return next((c for c in self.curves if c.kind == "codec"), self.curves[0])

    def curve(self, name: str) -> Curve:
        """Find a curve by name."""
        every = (*self.curves, *self.published)
        return next(curve for curve in every if curve.name == name)

    def title(self) -> str:
        """Say the data set and how much it holds."""
        thing = self.run.kind.datasets.thing
        return f"{self.run.dataset}: {text.plural(len(self.files), thing)}"

    def points(self, curves: Sequence[Curve], *, intervals: bool) -> Table:
        """Return the means of these codecs at every setting."""
        kind, measures = self.run.kind, self.run.measures
        header = ["codec", "setting", kind.rate[0], "estimate"]
        header += [f"{m.label} {m.unit}".strip() for m in measures]
        header += [f"encode {kind.pace}", f"decode {kind.pace}"]
        rows = [
            [
                curve.label,
                f"{point.setting:g}",
                number(point.rate, kind.rate[1]),
                number(point.estimated_rate, kind.rate[1]),
                *[cell(point.scores.get(m.name), m, intervals) for m in measures],
                number(point.encode_seconds, 3),
                number(point.decode_seconds, 3),
            ]
            for curve in curves
            for point in curve.points
        ]
        return Table(header, rows)

    def sections(self) -> list[Section]:
        """Return all tables: of every setting, then what the kind compares."""
        with_ends = self.run.kind.intervals
        note = "Means over files"
        note += ", in brackets the 95 % bootstrap interval." if with_ends else "."
        every = self.points(self.curves, intervals=with_ends)
        means = Section("Every setting", every, note, folded=False)
        return [means, *self.compared()]

    def compared(self) -> list[Section]:
        """Return tables of what this kind compares."""
        return []

    def findings(self) -> dict[str, Any]:
        """Return what this kind adds to ``run.json``."""
        return {}

    def verdicts(self) -> list[str]:
        """Return what is concluded, a sentence each."""
        return []

    def facts(self) -> list[str]:
        """Return verdicts, what rates count, what was left out or not judged."""
        kind, lines = self.run.kind, self.verdicts()
        for curve in self.curves:
            extra = max(point.file_rate - point.rate for point in curve.points)
            if extra > 5e-3:
                more = f"which would add {extra:.2f} {kind.rate[0]}"
                lines.append(f"{curve.label}: the rate counts {curve.note}, {more}.")
        lines += [f"{name} left out: {why}." for name, why in self.run.skipped.items()]
        unjudged: dict[str, set[str]] = {}
        for row in self.rows:
            for name, why in row.notes.items():
                if name in self.run.rules:
                    unjudged.setdefault(f"No {name}, {why}", set()).add(row.file)
        lines += [f"{n}: {', '.join(sorted(f))}." for n, f in unjudged.items()]
        return lines + [
            f"Means, rates and comparisons by {name} are over {len(found)} of "
            f"{text.plural(len(self.files), 'file')}, for which every codec has it at "
            "every setting."
            for name, found in shared(self.run.rules, self.rows).items()
            if len(found) < len(set(self.files))
        ]

    def headline(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """Return a sentence for the page, and the cards below it: (value, text)."""
        name, digits = self.run.kind.rate
        rates = [number(f(self.lead.rates), digits) for f in (min, max)]
        sentence = (
            f"{self.title()}, {len(self.lead.points)} settings from {rates[0]} to "
            f"{rates[1]} {name}. Every rate is the size of real bytes, every figure "
            "was taken from what was decoded from them."
        )
        return sentence, self.cards()

    def cards(self) -> list[tuple[str, str]]:
        """Return headline figures: (value, what it is)."""
        return []

    def drawings(self, looks: dict[str, Look]) -> dict[str, Drawing]:
        """Return what this kind draws beside quality over rate, by name."""
        return {}

    def samples(self) -> list[str]:
        """Return parts of the page to look at or to listen to."""
        return []

    def summary(self) -> str:
        """Return the short answer for a terminal: aligned means, then facts."""
        means = text.aligned(self.points(self.curves, intervals=False))
        return "\n".join([self.title(), *means, *self.facts()])

    def markdown(self) -> str:
        """Return all tables of a run as Markdown."""
        lines = [f"# {text.escaped(self.title())}, {self.created}", ""]
        lines += text.markdown(self.sections())
        rules = [f"{name}: {rule}." for name, rule in self.run.rules.items()]
        how = [f"- {text.escaped(line)}" for line in (*self.facts(), *rules)]
        return "\n".join([*lines, "## How", "", *how, "", *text.markdown(self.about())])

    def about(self) -> list[Section]:
        """Return how this run was started, on what machine, with which versions."""
        labels = {curve.name: curve.label for curve in self.curves}
        codecs = [
            [labels[name], described(facts)] for name, facts in self.versions.items()
        ]
        facts = [[name, str(value)] for name, value in self.environment.items()]
        return [
            Section("Versions and options", Table(["codec", ""], codecs, left=2)),
            Section("Machine", Table(["", ""], facts, left=2)),
        ]

    def content(self) -> dict[str, Any]:
        """Return ``run.json``: everything but the rows."""
        return {
            "kind": self.run.kind.name,
            "dataset": self.run.dataset,
            "created": self.created,
            "environment": self.environment,
            "versions": self.versions,
            "skipped": self.run.skipped,
            "measures": dict(self.run.rules),
            "files": self.files,
            "curves": [asdict(curve) for curve in self.curves],
            "published": [asdict(curve) for curve in self.published],
            **self.findings(),
        }

    def write(self) -> None:
        """Write ``run.json`` and ``table.md`` into the run's folder."""
        data = to_json(self.content(), indent=1) + "\n"
        replace_text(self.run.out / "run.json", data)
        replace_text(self.run.out / "table.md", self.markdown())


def cell(found: Mean | None, measure: Measure, intervals: bool) -> str:
    """Return a mean for a table, with its interval and the files it lacks."""
    if found is None:
        return "–"
    shown = number(found.value, measure.digits)
    if intervals:
        low, high = (number(v, measure.digits) for v in (found.low, found.high))
        shown += f" [{low}, {high}]"
    return shown + (f" ({found.without} without)" if found.without else "")


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, force=True) as file:
        file.write(text.encode("utf-8"))
