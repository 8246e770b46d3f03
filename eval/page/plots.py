# SPDX-License-Identifier: Apache-2.0
"""What all drawings share: style, axes, points that tell, labels that keep apart.

Nothing touches pyplot's global state. ``svg_for_page`` turns a figure into SVG that
lives inside the page: text stays text in the page's font, colours follow light and
dark, and every measured point says its numbers when the pointer rests on it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from polycodec.codecs.measures.base import Measure
from polycodec.eval.curves import Curve
from polycodec.eval.page import palette
from polycodec.eval.page.palette import Look

if TYPE_CHECKING:
    from polycodec.eval.kind import Kind

End: TypeAlias = tuple[float, float, str, Look]  # where a curve ends, and whose

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": palette.RULE,
    "axes.labelcolor": palette.SOFT,
    "xtick.color": palette.SOFT,
    "ytick.color": palette.SOFT,
    "text.color": palette.INK,
    "grid.color": palette.RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def quality(
    curves: Sequence[Curve], looks: Mapping[str, Look], measure: Measure, kind: Kind
) -> Figure:
    """Draw one measure over the rate; published curves dashed, their points hollow."""
    with canvas(5.6) as (figure, axes):
        left, right = _extent(curves, kind)
        ends: list[End] = []
        visible: list[float] = []
        for curve in sorted(curves, key=lambda c: c.kind != "published"):
            rates, means = curve.against(measure.name)
            values, look = [mean.value for mean in means], looks[curve.name]
            if look.dashes and len(rates) < 2:
                _hollow(axes, curve, rates, values, measure)
            if not rates or (look.dashes and len(rates) < 2):
                continue
            line: dict[str, Any] = {"color": look.colour, "lw": look.width}
            line |= {"dashes": look.dashes, "zorder": 2 if look.dashes else 4}
            axes.plot(rates, values, **line)
            x = min(right, rates[-1])
            ends.append((x, float(np.interp(x, rates, values)), curve.label, look))
            visible += [v for r, v in zip(rates, values, strict=True) if r <= right]
            visible.append(ends[-1][1])
            if look.dashes:
                continue
            if kind.intervals:
                spans = ([m.low for m in means], [m.high for m in means])
                visible += [*spans[0], *spans[1]]
                axes.vlines(rates, *spans, **line | {"lw": 1.2, "alpha": 0.6})
            name = f"{measure.name}-{curve.name}"
            marks(axes, rates, values, look, name, curve.label, measure.unit)
        if kind.logarithmic:
            axes.set_xscale("log", base=2)
            shown = [tick for tick in TICKS if left <= tick <= right]
            axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
            axes.set_xticks([], minor=True)
        axes.set_xlim(left, right)
        if visible:
            pad = 0.04 * (max(visible) - min(visible) + 1e-9)
            axes.set_ylim(min(visible) - pad, max(visible) + pad)
        spread_labels(axes, ends)
        axes.set_xlabel(kind.rate[0])
        unit = f", {measure.unit}" if measure.unit else ""
        less = "" if measure.better > 0 else " (less is better)"
        axes.set_ylabel(f"{measure.label}{unit}{less}")
    return figure


def _extent(curves: Sequence[Curve], kind: Kind) -> tuple[float, float]:
    """Where the drawing begins and ends: around all that was measured, or ours."""
    measured = [curve for curve in curves if curve.kind != "published"]
    ours = [curve for curve in measured if curve.kind == "codec"]
    shown = measured if kind.logarithmic else ours or measured
    rates = [rate for curve in shown for rate in curve.rates]
    return (min(rates) / 1.15 if kind.logarithmic else 0.0), 1.1 * max(rates)


def _hollow(
    axes: Axes,
    curve: Curve,
    rates: Sequence[float],
    values: Sequence[float],
    measure: Measure,
) -> None:
    """Draw a curve of one point; those that others published say on what."""
    style: dict[str, Any] = {"mfc": "none", "mec": palette.PUBLISHED, "zorder": 2}
    for x, y in zip(rates, values, strict=True):
        (mark,) = axes.plot([x], [y], "o", ms=5, mew=1, **style)
        text = f"{curve.label}: {x:g} → {y:g}, {curve.note}"
        mark.set_gid(f"{measure.name}-{curve.name}-tip:{text}")


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


@contextlib.contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure, 9.2 inches wide, with axes, to be filled in this style."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, height), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=True, lw=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        yield figure, axes


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


def spread_labels(axes: Axes, ends: Sequence[End], gap: float = 0.052) -> None:
    """Write each curve's name beside its right end, moved apart where crowded."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    places = apart([(end[1] - low) / (high - low) for end in ordered], gap)
    for place, (x, y, text, look) in zip(places, ordered, strict=True):
        arrow = {"arrowstyle": "-", "color": look.colour, "lw": 0.6, "alpha": 0.5}
        axes.annotate(
            short(text),
            xy=(x, min(max(y, low), high)),
            xytext=(1.02, place),
            textcoords="axes fraction",
            color=look.colour,
            va="center",
            arrowprops={**arrow, "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 3},
            annotation_clip=False,
        )


def apart(places: Sequence[float], gap: float) -> np.ndarray:
    """Move sorted places in [0, 1] as little as possible until ``gap`` apart.

    With i * gap taken off, this is least squares under a rising order.
    """
    steps = gap * np.arange(len(places))
    if not len(places):
        return steps
    level = isotonic_regression(np.asarray(places) - steps).x
    return np.clip(level, 0.0, max(1.0 - steps[-1], 0.0)) + steps


def short(text: str, longest: int = 30) -> str:
    """Cut a long name at a comma or before a bracket that would stay open."""
    if len(text) <= longest:
        return text
    cut = text[:longest].rsplit(",", 1)[0]
    return cut.rsplit(" (", 1)[0] if cut.count("(") > cut.count(")") else cut
