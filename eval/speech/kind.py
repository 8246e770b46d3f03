# SPDX-License-Identifier: Apache-2.0
"""Speech as evaluations see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polycodec.codecs.measures import speech as measures
from polycodec.eval.kind import Kind, Run
from polycodec.eval.measure import Trip
from polycodec.eval.options import EvalOptions
from polycodec.eval.speech import curves
from polycodec.eval.speech.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.speech.datasets import SPEECH
from polycodec.eval.speech.measure import SpeechRow, judge
from polycodec.eval.speech.result import SpeechEvaluation, conclude
from polycodec.eval.speech.subjects import SpeechCodec

if TYPE_CHECKING:
    from polycodec.eval.report import Report


class SpeechKind(Kind):
    """Speech at 16 kHz, beside Opus and Codec2."""

    name = "speech"
    datasets = SPEECH
    codec, own = "speech/default", SpeechCodec
    anchors, default_anchors = ANCHORS, DEFAULT_ANCHORS
    rate = "target_kbps"
    options = ("target_kbps", "measures")
    row = SpeechRow

    def rules(self, options: EvalOptions) -> tuple[dict[str, str], dict[str, str]]:
        """Return the measures asked for, or all that are installed."""
        untaken = measures.skipped() if options.measures is None else {}
        return measures.rules(options.measures), untaken

    def judge(
        self, trip: Trip, file: str, key: str, names: Sequence[str], known: Any
    ) -> SpeechRow:
        """Take out the delay of a classical codec and take the measures."""
        return judge(trip, file, key, names, known)

    def published(self, run: Run) -> list[curves.Published]:
        """Read points of other people."""
        path = run.options.published
        return [] if path is None else curves.published(path, list(run.rules))

    def conclude(
        self, run: Run, rows: list[Any], published: list[Any], about: dict[str, Any]
    ) -> SpeechEvaluation:
        """Turn rows into curves."""
        return conclude(run, rows, published, about)

    def report(self, run: Run, result: SpeechEvaluation) -> Report:
        """Return the page with players, plots and tables."""
        from polycodec.eval.speech.report import SpeechReport

        return SpeechReport(run, result)


KIND = SpeechKind()
