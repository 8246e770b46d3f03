# SPDX-License-Identifier: Apache-2.0
"""A speech run as text: means with their intervals, and Opus's rate for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polycodec.codecs.measures.speech import MEASURES, Measure
from polycodec.eval.image.tables import markdown_table, number
from polycodec.eval.speech.curves import Curve, Mean, rate_for

if TYPE_CHECKING:
    from polycodec.eval.speech.run import SpeechEvaluation


def taken(result: SpeechEvaluation) -> list[Measure]:
    """The measures of a run, in their order."""
    return [metric for metric in MEASURES if metric.name in result.measures]


def points_table(
    result: SpeechEvaluation, *, intervals: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Every codec at every setting: header and rows."""
    measures = taken(result)
    header = ["codec", "setting", "kbit/s", "estimate"]
    header += [metric.label for metric in measures]
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
    return header, rows


def _cell(found: Mean | None, metric: Measure, intervals: bool) -> str:
    if found is None:
        return "–"
    text = number(found.value, metric.digits)
    if intervals:
        low, high = (number(v, metric.digits) for v in (found.low, found.high))
        text += f" [{low}, {high}]"
    return text + (f" ({found.without} without)" if found.without else "")


def same_quality_table(
    result: SpeechEvaluation, codec: Curve
) -> tuple[list[str], list[list[str]]]:
    """The kbit/s at which each anchor scores what ``codec`` does."""
    measures = [m for m in taken(result) if m.better > 0]
    anchors = [c for c in result.curves if c.kind == "anchor"]
    header = ["kbit/s of ours", "against", *[m.label for m in measures]]
    rows = []
    for point in codec.points:
        for base in anchors:
            cells = []
            for metric in measures:
                mean = point.scores.get(metric.name)
                found = rate_for(base, metric.name, mean.value) if mean else None
                cells.append("–" if found is None else _rate(*found))
            rows.append([number(point.kbps), base.label, *cells])
    return header, rows


def _rate(mark: str, rate: float) -> str:
    return f"{mark} {rate:.1f}".strip()


def files_table(
    result: SpeechEvaluation, metric: Measure
) -> tuple[list[str], list[list[str]]]:
    """One measure of every file, a column for each codec and setting."""
    pairs = [(c, p.setting) for c in result.curves for p in c.points]
    known = {
        (row.file, row.codec, row.setting): row.scores.get(metric.name)
        for row in result.rows
    }
    header = ["file", *[f"{c.label} {setting:g}" for c, setting in pairs]]
    rows = [
        [file, *[number(known.get((file, c.name, s)), metric.digits) for c, s in pairs]]
        for file in result.files
    ]
    return header, rows


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


def summary(result: SpeechEvaluation) -> str:
    """The short answer for a terminal: aligned means, then what is behind them."""
    lines = [_title(result)]
    header, rows = points_table(result, intervals=False)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        rest = [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]))
    return "\n".join([*lines, *counted(result), *notes(result)])


def markdown(result: SpeechEvaluation) -> str:
    """All tables of a run as Markdown."""
    lines = [f"# {_title(result)}, {result.created}", ""]
    lines += ["Means over files, in brackets the 95 % bootstrap interval.", ""]
    lines += markdown_table(*points_table(result))
    for curve in result.curves:
        if curve.kind == "codec":
            lines += ["", f"## Rate of the others for what {curve.label} scores", ""]
            lines += markdown_table(*same_quality_table(result, curve))
    for metric in taken(result):
        lines += ["", f"## {metric.label} of every file", ""]
        lines += markdown_table(*files_table(result, metric))
    lines += ["", "## How", ""]
    lines += [f"- {line}" for line in (*counted(result), *_measures(result))]
    return "\n".join([*lines, *[f"- {line}" for line in notes(result)]]) + "\n"


def _measures(result: SpeechEvaluation) -> Sequence[str]:
    return [f"{m.label}: {result.measures[m.name]}." for m in taken(result)]


def _title(result: SpeechEvaluation) -> str:
    count = len(result.files)
    plural = "s" if count != 1 else ""
    return f"{result.dataset}: {count} file{plural}, {result.seconds:.0f} s"
