# SPDX-License-Identifier: Apache-2.0
"""What all drawings share: style, axes, points that tell, labels that keep apart.

Nothing touches pyplot's global state. ``svg_for_page`` turns a figure into SVG that
lives inside the page: text stays text in the page's font, colours follow light and
dark, and every measured point says its numbers when the pointer rests on it.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polycodec.eval.page import palette
from polycodec.eval.page.palette import Look

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": palette.RULE[1],
    "axes.labelcolor": palette.SOFT[1],
    "xtick.color": palette.SOFT[1],
    "ytick.color": palette.SOFT[1],
    "text.color": palette.INK[1],
    "grid.color": palette.RULE[1],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg_for_page(figure: Figure, name: str, title: str) -> str:
    """Render a figure as SVG to be put inside an HTML page."""
    memory = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(memory, format="svg", transparent=True, metadata={"Date": None})
    svg = memory.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    svg = re.sub(r"(font: (?:\d+ )?[\d.]+px)[^;\"]*", r"\1 var(--sans)", svg)
    # Two drawings in one page must not share names.
    svg = svg.replace(' id="', f' id="{name}-').replace('href="#', f'href="#{name}-')
    svg = svg.replace("url(#", f"url(#{name}-")
    # A point's name carries its text; the text becomes its tool tip.
    tips = itertools.count()
    svg = re.sub(
        r'<g id="[^"]*?-tip:([^"]*)">',
        lambda found: f'<g id="{name}-tip-{next(tips)}"><title>{found[1]}</title>',
        svg,
    )
    return palette.to_variables(svg)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure (in inches) with the axes of this style."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure, axes


def marks(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    look: Look,
    name: str,
    label: str,
    unit: str,
) -> None:
    """Draw measured points that will say their numbers on the page."""
    for at, (a, b) in enumerate(zip(x, y, strict=True)):
        (point,) = axes.plot(
            [a], [b], look.mark or "o", color=look.colour, ms=4.6, mew=0, zorder=6
        )
        text = f"{label}: {a:.3f} → {b:.2f} {unit}"
        point.set_gid(f"{name}-{at}-tip:{text}")


def spread_labels(
    axes: Axes, texts: Sequence[tuple[float, float, str, str]], gap: float = 0.052
) -> None:
    """Write each curve's name beside its right end, moved apart where crowded."""
    low, high = axes.get_ylim()
    ordered = sorted(texts, key=lambda item: item[1])
    places = _apart([(item[1] - low) / (high - low) for item in ordered], gap)
    for place, (x, y, text, colour) in zip(places, ordered, strict=True):
        axes.annotate(
            short(text),
            xy=(x, min(max(y, low), high)),
            xytext=(1.02, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.6,
                "alpha": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 3,
            },
            annotation_clip=False,
        )


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """Move sorted places as little as possible until they are ``gap`` apart.

    With i * gap taken off, this is least squares under a rising order: pool
    neighbours that are out of order into their mean.
    """
    pools: list[list[float]] = []  # sum, count
    for at, place in enumerate(places):
        pools.append([place - at * gap, 1])
        while len(pools) > 1 and (
            pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]
        ):
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    level = [total / count for total, count in pools for _ in range(int(count))]
    top = 1 - gap * (len(places) - 1)
    return [min(max(x, 0.0), max(top, 0.0)) + at * gap for at, x in enumerate(level)]


def short(text: str, longest: int = 30) -> str:
    """Cut a long name at a comma or before a bracket that would stay open."""
    if len(text) <= longest:
        return text
    cut = text[:longest].rsplit(",", 1)[0]
    return cut.rsplit(" (", 1)[0] if cut.count("(") > cut.count(")") else cut
