# SPDX-License-Identifier: Apache-2.0
"""A run on speech as text: means with their intervals, and Opus's rate for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polycodec.codecs.measures.speech import MEASURES, Measure
from polycodec.eval import text
from polycodec.eval.speech.curves import Mean, SpeechCurve, rate_for
from polycodec.eval.text import Table, number

if TYPE_CHECKING:
    from polycodec.eval.speech.result import SpeechEvaluation


def taken(result: SpeechEvaluation) -> list[Measure]:
    """The measures of a run, in their order."""
    return [measure for measure in MEASURES if measure.name in result.measures]


def points(result: SpeechEvaluation, *, intervals: bool = True) -> Table:
    """Return every codec at every setting."""
    measures = taken(result)
    header = ["codec", "setting", "kbit/s", "estimate"]
    header += [measure.label for measure in measures]
    header += ["encode RTF", "decode RTF"]
    rows = []
    for curve in result.curves:
        for point in curve.points:
            scores = [_cell(point.scores.get(m.name), m, intervals) for m in measures]
            rows.append(
                [
                    curve.label,
                    f"{point.setting:g}",
                    number(point.kbps),
                    number(point.estimated_kbps),
                    *scores,
                    number(point.encode_rtf, 3),
                    number(point.decode_rtf, 3),
                ]
            )
    return Table(header, rows)


def _cell(found: Mean | None, measure: Measure, intervals: bool) -> str:
    if found is None:
        return "–"
    cell = number(found.value, measure.digits)
    if intervals:
        low, high = (number(v, measure.digits) for v in (found.low, found.high))
        cell += f" [{low}, {high}]"
    return cell + (f" ({found.without} without)" if found.without else "")


def same_quality(result: SpeechEvaluation, codec: SpeechCurve) -> Table:
    """Return the kbit/s at which each anchor scores what ``codec`` does."""
    measures = [m for m in taken(result) if m.better > 0]
    anchors = [c for c in result.curves if c.kind == "anchor"]
    header = ["kbit/s of ours", "against", *[m.label for m in measures]]
    rows = []
    for point in codec.points:
        for base in anchors:
            cells = []
            for measure in measures:
                mean = point.scores.get(measure.name)
                found = rate_for(base, measure.name, mean.value) if mean else None
                cells.append("–" if found is None else _rate(*found))
            rows.append([number(point.kbps), base.label, *cells])
    return Table(header, rows)


def _rate(mark: str, rate: float) -> str:
    return f"{mark} {rate:.1f}".strip()


def each_file(result: SpeechEvaluation, measure: Measure) -> Table:
    """Return one measure of every file, a column for each codec and setting."""
    pairs = [(c, p.setting) for c in result.curves for p in c.points]
    known = {
        (row.file, row.codec, row.setting): row.scores.get(measure.name)
        for row in result.rows
    }
    header = ["file", *[f"{c.label} {setting:g}" for c, setting in pairs]]
    rows = [
        [
            file,
            *[number(known.get((file, c.name, s)), measure.digits) for c, s in pairs],
        ]
        for file in result.files
    ]
    return Table(header, rows)


def notes(result: SpeechEvaluation) -> list[str]:
    """What was left out, and files that a measure could not judge."""
    lines = [f"{name} left out: {why}." for name, why in result.skipped.items()]
    unjudged: dict[str, set[str]] = {}
    for row in result.rows:
        for name, why in row.notes.items():
            if name in result.measures:
                unjudged.setdefault(f"No {name}, {why}", set()).add(row.file)
    lines += [f"{note}: {', '.join(sorted(f))}." for note, f in unjudged.items()]
    return lines


def counted(result: SpeechEvaluation) -> list[str]:
    """Which bytes make each rate, and what the files around them would add."""
    lines = []
    for curve in result.curves:
        extra = max(p.file_kbps - p.kbps for p in curve.points)
        more = f", which would add {extra:.2f} kbit/s" if extra > 5e-3 else ""
        lines.append(f"{curve.label}: the rate counts {curve.counts}{more}.")
    return lines


def sections(result: SpeechEvaluation) -> list[str]:
    """Return all tables of a run as Markdown."""
    lines = ["Means over files, in brackets the 95 % bootstrap interval.", ""]
    lines += text.markdown(points(result))
    for curve in result.curves:
        if curve.kind == "codec":
            lines += ["", f"## Rate of the others for what {curve.label} scores", ""]
            lines += text.markdown(same_quality(result, curve))
    for measure in taken(result):
        lines += ["", f"## {measure.label} of every file", ""]
        lines += text.markdown(each_file(result, measure))
    lines += ["", "## How", ""]
    lines += [f"- {line}" for line in (*counted(result), *_measures(result))]
    return lines + [f"- {line}" for line in notes(result)]


def _measures(result: SpeechEvaluation) -> Sequence[str]:
    return [f"{m.label}: {result.measures[m.name]}." for m in taken(result)]
