# SPDX-License-Identifier: Apache-2.0
"""The report of a run: plots as files, and one page to look at.

header    headline figures
plots     each measure over the rate, and what the kind draws beside
samples   crops to look at, players to listen to
tables    every setting, comparisons, published points
method    how it was measured, versions and settings
"""

from __future__ import annotations

import pathlib
from html import escape
from typing import NamedTuple

from matplotlib.figure import Figure

from polycodec.eval.page import page, palette, plots
from polycodec.eval.result import Evaluation, replace_text


class Drawing(NamedTuple):
    """A figure and what stands below it on the page."""

    figure: Figure
    caption: str


def write(result: Evaluation) -> pathlib.Path:
    """Write plots and page into the run's folder; returns the page's path."""
    out, title = result.run.out, f"{result.lead.label} on {result.run.dataset}"
    drawn = []
    for name, (figure, caption) in _draw(result).items():
        figure.savefig(out / f"{name}.png", dpi=160, facecolor="white")
        figure.savefig(out / f"{name}.svg", facecolor="white")
        drawn.append(page.plot(plots.svg_for_page(figure, name, caption), caption))
    sentence, cards = result.headline()
    parts = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(sentence)}</p>{page.cards(cards)}</header>',
        *["<h2>Quality over rate</h2>", *drawn, *result.samples()],
        *["<h2>Figures</h2>", *map(page.section, result.sections())],
        *_method(result),
    ]
    target = out / "report.html"
    replace_text(target, page.document(title, parts))
    return target


def _draw(result: Evaluation) -> dict[str, Drawing]:
    every, kind = [*result.curves, *result.published], result.run.kind
    looks = palette.looks(every)
    found = {}
    for measure in result.run.measures:
        if not any(curve.values(measure.name)[0] for curve in result.curves):
            continue
        caption = f"{measure.label} over {kind.rate[0]}, means over files."
        if kind.intervals:
            caption += " Upright strokes: 95 % bootstrap interval of the mean."
        if result.published:
            caption += " Dashed lines, hollow marks: published by others."
        figure = plots.quality(every, looks, measure, kind)
        found[measure.name] = Drawing(figure, caption)
    return {**found, **result.drawings(looks)}


def _method(result: Evaluation) -> list[str]:
    run = result.run
    rules = [f"{m.label}: {run.rules[m.name]}." for m in run.measures if not m.of_mean]
    sentences = [run.kind.method, *rules, *result.facts()]
    return [
        "<h2>How this was measured</h2>",
        *[f"<p>{escape(sentence)}</p>" for sentence in sentences],
        *[page.section(part._replace(folded=False)) for part in result.about()],
        f'<p class="note">{escape(result.created)}</p>',
    ]
