# SPDX-License-Identifier: Apache-2.0
"""Drawings of a run: rate-distortion curves, rate differences, BD-rate bars.

Each function returns a matplotlib figure; nothing touches pyplot's global
state. ``svg_for_page`` turns a figure into SVG that lives inside the page: text
stays text in the page's font, colours follow light and dark, and every measured
point says its numbers when the pointer rests on it.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polycodec.eval.bdrate import Comparison
from polycodec.eval.image.curves import Curve
from polycodec.eval.image.tables import number
from polycodec.eval.page import palette
from polycodec.eval.page.palette import Look

AXIS = {"psnr": "PSNR, dB (RGB)", "ms_ssim_db": "MS-SSIM, dB"}
STYLE = {
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


def rate_distortion(
    curves: Sequence[Curve], looks: Mapping[str, Look], metric: str
) -> Figure:
    """Draw quality over bits per pixel; published curves dashed."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(9.2, 5.6)
        right = _last_rate(curves)
        ends: list[tuple[float, float, Curve]] = []
        visible: list[float] = []
        for curve in sorted(curves, key=lambda c: c.kind != "published"):
            rates, values = curve.against(metric)
            if len(rates) < 2:
                continue
            _draw_curve(axes, curve, looks[curve.name], rates, values, metric)
            inside = [v for r, v in zip(rates, values, strict=True) if r <= right]
            x = min(right, rates[-1])
            y = float(np.interp(x, rates, values))
            visible += [*inside, y]
            ends.append((x, y, curve))
        axes.set_xlim(0, right)
        if visible:
            pad = 0.04 * (max(visible) - min(visible) + 1e-9)
            axes.set_ylim(min(visible) - pad, max(visible) + pad)
        _label_ends(axes, ends, looks)
        axes.set_xlabel("bits per pixel, whole file")
        axes.set_ylabel(AXIS[metric])
    return figure


def rate_difference(
    comparisons: Mapping[str, Comparison],
    labels: Mapping[str, str],
    looks: Mapping[str, Look],
    metric: str,
) -> Figure:
    """Draw the rate of one codec against each anchor, quality by quality."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(9.2, 4.4)
        ends: list[tuple[float, float, str]] = []
        for name, found in comparisons.items():
            if not found.parts:
                continue
            x = [part.quality for part in found.parts]
            y = [part.rate_percent for part in found.parts]
            look = looks[name]
            (line,) = axes.plot(x, y, color=look.colour, lw=1.8, zorder=3)
            if look.dashes:
                line.set_dashes(look.dashes)
            marks(axes, x, y, look, "d-" + name, labels[name], "%")
            ends.append((x[-1], y[-1], name))
        axes.axhline(0, color=palette.SOFT[1], lw=1)
        axes.set_ylim(*_limits([comparisons[name] for _, _, name in ends]))
        texts = [(x, y, labels[name], looks[name].colour) for x, y, name in ends]
        spread_labels(axes, texts)
        axes.set_xlabel(AXIS[metric])
        axes.set_ylabel("rate difference, %")
    return figure


def bd_bars(
    comparisons: Mapping[str, Comparison],
    labels: Mapping[str, str],
    looks: Mapping[str, Look],
) -> Figure:
    """Draw one codec's BD-rate (Akima) against each anchor as bars."""
    shown = [(n, c.rate_akima) for n, c in comparisons.items() if c.overlap]
    shown.sort(key=lambda pair: -pair[1])
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(9.2, 0.8 + 0.42 * max(1, len(shown)))
        axes.grid(axis="y", visible=False)
        for row, (name, value) in enumerate(shown):
            axes.barh(row, value, height=0.62, color=looks[name].colour, zorder=3)
            axes.annotate(
                f"{number(value, 1, sign=True)} %",
                (value, row),
                (6 if value >= 0 else -6, 0),
                textcoords="offset points",
                ha="left" if value >= 0 else "right",
                va="center",
            )
        axes.set_yticks(range(len(shown)), [_short(labels[n]) for n, _ in shown])
        axes.axvline(0, color=palette.SOFT[1], lw=1, zorder=4)
        axes.spines["left"].set_visible(False)
        low = min([0.0, *(value for _, value in shown)])
        high = max([0.0, *(value for _, value in shown)])
        room = 0.16 * (high - low + 1)  # for the figures beside the bars
        axes.set_xlim(low - room * (low < 0), high + room * (high > 0))
        axes.set_xlabel("BD-rate, % (left: fewer bits)")
    return figure


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


def _last_rate(curves: Sequence[Curve]) -> float:
    """Where the drawing ends: a little right of what our codecs reach."""
    ours = [max(c.bpp) for c in curves if c.kind == "codec" and c.bpp]
    anchors = [max(c.bpp) for c in curves if c.kind == "anchor" and c.bpp]
    if ours:
        return 1.08 * max(ours)
    return min(2.0, max(anchors)) if anchors else 2.0


def _limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Limits in % that show nearly everything: a wild end must not flatten all."""
    values = [part.rate_percent for found in comparisons for part in found.parts]
    if not values:
        return -100.0, 100.0
    low, high = np.percentile([*values, 0.0], [1, 94])
    pad = 0.1 * (high - low + 1)
    return max(-100.0, min(low, 0.0) - pad), max(high, 0.0) + pad


def _draw_curve(
    axes: Axes,
    curve: Curve,
    look: Look,
    rates: Sequence[float],
    values: Sequence[float],
    metric: str,
) -> None:
    front = {"codec": 5, "anchor": 4, "published": 2}[curve.kind]
    (line,) = axes.plot(rates, values, color=look.colour, lw=look.width, zorder=front)
    if look.dashes:
        line.set_dashes(look.dashes)
    else:
        marks(axes, rates, values, look, metric + curve.name, curve.label, "dB")


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


def _label_ends(
    axes: Axes, ends: Iterable[tuple[float, float, Curve]], looks: Mapping[str, Look]
) -> None:
    texts = [(x, y, c.label, looks[c.name].colour) for x, y, c in ends]
    spread_labels(axes, texts)


def spread_labels(
    axes: Axes, texts: Sequence[tuple[float, float, str, str]], gap: float = 0.052
) -> None:
    """Write each curve's name beside its right end, moved apart where crowded."""
    low, high = axes.get_ylim()
    ordered = sorted(texts, key=lambda item: item[1])
    places = _apart([(item[1] - low) / (high - low) for item in ordered], gap)
    for place, (x, y, text, colour) in zip(places, ordered, strict=True):
        axes.annotate(
            _short(text),
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


def _short(text: str, longest: int = 30) -> str:
    """Cut a long name at a comma or before a bracket that would stay open."""
    if len(text) <= longest:
        return text
    cut = text[:longest].rsplit(",", 1)[0]
    return cut.rsplit(" (", 1)[0] if cut.count("(") > cut.count(")") else cut
