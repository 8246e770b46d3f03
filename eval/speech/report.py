# SPDX-License-Identifier: Apache-2.0
"""The report of a speech run: plots as files, and one page to look at and listen to.

pesq_wb, pesq_nb, stoi, visqol, si_sdr, mel   .svg and .png, those that were taken
report.html   headline figures, players, plots, tables, how it was measured
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from polycodec.eval.image import result
from polycodec.eval.image.tables import number
from polycodec.eval.page import page, palette, plots
from polycodec.eval.speech import tables
from polycodec.eval.speech.curves import Curve
from polycodec.eval.speech.listen import Sample, make_samples
from polycodec.eval.speech.plots import quality

if TYPE_CHECKING:
    import pathlib

    from polycodec.eval.speech.datasets import Utterance
    from polycodec.eval.speech.run import SpeechEvaluation
    from polycodec.eval.speech.subjects import SpeechSubject


def write_report(
    found: SpeechEvaluation,
    subjects: Sequence[SpeechSubject],
    files: Sequence[Utterance],
) -> pathlib.Path:
    """Write plots and page into the run's folder; returns the page's path."""
    looks = palette.looks(found.curves)
    drawings = {}
    for metric in tables.taken(found):
        figure = quality(found.curves, found.published, looks, metric)
        figure.savefig(found.out / f"{metric.name}.png", dpi=160, facecolor="white")
        figure.savefig(found.out / f"{metric.name}.svg", facecolor="white")
        title = f"{metric.label} over kbit/s"
        drawings[metric.name] = plots.svg_for_page(figure, metric.name, title)
    samples = make_samples(found.rows, subjects, files)
    target = found.out / "report.html"
    result.replace_text(target, _page(found, drawings, samples))
    return target


def _lead(found: SpeechEvaluation) -> Curve:
    """The curve the report is about: our first codec, or what came first."""
    return next((c for c in found.curves if c.kind == "codec"), found.curves[0])


def _page(
    found: SpeechEvaluation, drawings: dict[str, str], samples: Sequence[Sample]
) -> str:
    lead = _lead(found)
    title = f"{lead.label} on {found.dataset}"
    body = [_header(found, lead, title)]
    body += _listen_section(samples)
    body += _plots_section(found, drawings)
    body += _numbers_section(found, lead)
    body += _method_section(found)
    return page.document(title, body)


def _header(found: SpeechEvaluation, lead: Curve, title: str) -> str:
    rates = [point.kbps for point in lead.points]
    sentence = (
        f"{len(found.files)} utterances, {found.seconds:.0f} s, {len(lead.points)} "
        f"settings from {number(min(rates))} to {number(max(rates))} kbit/s. Every "
        "rate is the size of real bytes, every figure was taken from the sound "
        "decoded from them."
    )
    items = []
    for point in lead.points:
        scores = [
            f"{metric.label} {number(mean.value, metric.digits)}"
            for metric in tables.taken(found)[:3]
            if (mean := point.scores.get(metric.name)) is not None
        ]
        items.append((f"{number(point.kbps)} kbit/s", ", ".join(scores)))
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(sentence)}</p>'
        f"{page.cards(items)}</header>"
    )


def _listen_section(samples: Sequence[Sample]) -> list[str]:
    parts = ["<h2>Listen</h2>"]
    parts.append(
        '<p class="note">Utterances chosen by rule, evenly over the data set; scores '
        "are of the whole file. Stored as FLAC, which adds nothing of its own.</p>"
    )
    for sample in samples:
        parts.append(f"<h3>{escape(sample.file)}, {sample.seconds:.1f} s</h3>")
        parts.append(page.players(sample.sounds))
    return parts


def _plots_section(found: SpeechEvaluation, drawings: dict[str, str]) -> list[str]:
    parts = ["<h2>Quality over rate</h2>"]
    note = "Upright strokes: 95 % bootstrap interval of the mean over utterances."
    if found.published:
        note += (
            " Hollow: points that others published on utterances of their own; they "
            "say where a system stands, not who wins."
        )
    for metric in tables.taken(found):
        parts.append(page.plot(drawings[metric.name], f"{metric.label}. {note}"))
    return parts


def _numbers_section(found: SpeechEvaluation, lead: Curve) -> list[str]:
    parts = [
        "<h2>Every setting</h2>",
        "<p>Means over files with their 95 % interval. RTF: seconds of coding per "
        "second of sound, on this machine.</p>",
        page.table(*tables.points_table(found), group=True),
    ]
    anchors = any(curve.kind == "anchor" for curve in found.curves)
    if lead.kind == "codec" and anchors:
        block = page.table(
            *tables.same_quality_table(found, lead), text_columns=(1,), group=True
        )
        parts += ["<h3>kbit/s at which the others score the same</h3>", block]
    for metric in tables.taken(found):
        block = page.table(*tables.files_table(found, metric))
        summary = f"<summary>{escape(metric.label)} of every file</summary>"
        parts.append(f"<details>{summary}{block}</details>")
    return parts


def _method_section(found: SpeechEvaluation) -> list[str]:
    lines = [*tables.counted(found), *tables.notes(found)]
    about = {
        "measures": found.measures,
        "environment": found.environment,
        "codecs": found.versions,
    }
    text = escape(json.dumps(about, indent=1, default=str))
    parts = [
        "<h2>How this was measured</h2>",
        "<p>At 16 kHz, one channel, whole utterances, 16-bit samples. The delay of a "
        "classical codec is searched within 25 ms and taken out. ViSQOL: speech mode "
        "with the lattice mapping.</p>",
        *[f"<p>{escape(line)}</p>" for line in lines],
        f"<details><summary>Versions and rules</summary><pre>{text}</pre></details>",
    ]
    if found.published:
        header = ["codec", "kbit/s", "PESQ-WB", "PESQ-NB", "STOI", "ViSQOL"]
        header += ["measured on", "status"]
        rows = [
            [
                point.label,
                f"{point.kbps:g}",
                *[
                    number(point.scores.get(name), 3 if name == "stoi" else 2)
                    for name in ("pesq_wb", "pesq_nb", "stoi", "visqol")
                ],
                point.test_set,
                point.status,
            ]
            for point in found.published
        ]
        block = page.table(header, rows, text_columns=(0, 6, 7))
        parts.append(f"<details><summary>Published points</summary>{block}</details>")
    return [*parts, f'<p class="note">{escape(found.created)}</p>']
