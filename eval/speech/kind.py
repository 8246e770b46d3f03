# SPDX-License-Identifier: Apache-2.0
"""Speech as evaluations see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycodec.codecs.measures import speech as measures
from polycodec.eval.kind import Kind, Run
from polycodec.eval.options import EvalOptions
from polycodec.eval.speech import curves
from polycodec.eval.speech.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.speech.datasets import SPEECH
from polycodec.eval.speech.measure import SpeechRow
from polycodec.eval.speech.result import SpeechEvaluation
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
    row, result = SpeechRow, SpeechEvaluation

    def rules(self, options: EvalOptions) -> tuple[dict[str, str], dict[str, str]]:
        """Return the measures asked for, or all that are installed."""
        untaken = measures.skipped() if options.measures is None else {}
        return measures.rules(options.measures), untaken

    def published(self, run: Run) -> list[curves.Published]:
        """Read points of other people."""
        path = run.options.published
        return [] if path is None else curves.published(path, list(run.rules))

    def report(self, run: Run, result: SpeechEvaluation) -> Report:
        """Return the page with players, plots and tables."""
        from polycodec.eval.speech.report import SpeechReport

        return SpeechReport(run, result)


KIND = SpeechKind()
