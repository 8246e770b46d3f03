# SPDX-License-Identifier: Apache-2.0
"""What a run on speech found out: curves with intervals, points of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from polycodec.eval import text
from polycodec.eval.kind import Run
from polycodec.eval.result import Evaluation
from polycodec.eval.speech import tables
from polycodec.eval.speech.curves import Published, SpeechCurve, measured
from polycodec.eval.speech.measure import SpeechRow
from polycodec.eval.speech.subjects import SpeechSubject


@dataclass(frozen=True, kw_only=True)
class SpeechEvaluation(Evaluation):
    """All that a run on speech found out."""

    files: list[str]
    seconds: float
    measures: dict[str, str]  # name: packages, versions, rule
    curves: list[SpeechCurve]
    published: list[Published]
    rows: list[SpeechRow]

    @classmethod
    def of(
        cls, run: Run, rows: list[Any], published: list[Any], about: dict[str, Any]
    ) -> SpeechEvaluation:
        """Turn measured rows into curves."""
        files = {row.file: row.seconds for row in rows}
        curves = [
            measured(
                cast(SpeechSubject, subject),
                [row for row in rows if row.codec == subject.name],
                list(run.rules),
            )
            for subject in run.subjects
        ]
        return cls(
            files=list(files),
            seconds=sum(files.values()),
            measures=dict(run.rules),
            curves=curves,
            published=published,
            **about,
        )

    def title(self) -> str:
        """Say the data set, its files and their seconds."""
        files = text.plural(len(self.files), "file")
        return f"{self.dataset}: {files}, {self.seconds:.0f} s"

    def points(self, *, short: bool = False) -> text.Table:
        """Return the means of every codec; ``short``: without intervals."""
        return tables.points(self, intervals=not short)

    def facts(self) -> list[str]:
        """Return which bytes count, and what was left out."""
        return [*tables.counted(self), *tables.notes(self)]

    def sections(self) -> list[str]:
        """Return all tables as Markdown."""
        return tables.sections(self)
