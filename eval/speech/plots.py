# SPDX-License-Identifier: Apache-2.0
"""Drawings of a run on speech: each measure over kbit/s, and what others published.

Lines: measured here, with the 95 % interval of each mean. Hollow marks: points that
others published, on speech of their own. Rates on a logarithmic axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polycodec.codecs.measures.speech import Measure
from polycodec.eval.page import palette, plots
from polycodec.eval.page.palette import Look
from polycodec.eval.speech.curves import Published, SpeechCurve

TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def quality(
    curves: Sequence[SpeechCurve],
    published: Sequence[Published],
    looks: Mapping[str, Look],
    measure: Measure,
) -> Figure:
    """Draw one measure over kbit/s."""
    with matplotlib.rc_context(plots.STYLE):
        figure, axes = plots.canvas(9.2, 5.2)
        ends: list[tuple[float, float, str, str]] = []
        for curve in curves:
            rates, means = curve.against(measure.name)
            if not rates:
                continue
            look, values = looks[curve.name], [mean.value for mean in means]
            axes.plot(rates, values, color=look.colour, lw=look.width, zorder=4)
            spans = ([m.low for m in means], [m.high for m in means])
            axes.vlines(rates, *spans, color=look.colour, lw=1.2, alpha=0.6, zorder=3)
            name = f"{measure.name}-{curve.name}"
            plots.marks(axes, rates, values, look, name, curve.label, measure.unit)
            ends.append((rates[-1], values[-1], curve.label, look.colour))
        _scale(axes, [rate for c in curves for rate in c.against(measure.name)[0]])
        _hollow(axes, published, measure)
        plots.spread_labels(axes, ends)
        axes.set_xlabel("kbit/s")
        arrow = "" if measure.better > 0 else " (less is better)"
        unit = f", {measure.unit}" if measure.unit else ""
        axes.set_ylabel(f"{measure.label}{unit}{arrow}")
    return figure


def _scale(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis around what was measured, with plain numbers."""
    axes.set_xscale("log", base=2)
    if rates:
        axes.set_xlim(min(rates) / 1.15, max(rates) * 1.15)
    low, high = axes.get_xlim()
    shown = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)


def _hollow(axes: Axes, published: Sequence[Published], measure: Measure) -> None:
    """Published points inside the drawing, which they do not stretch."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for at, point in enumerate(published):
        value = point.scores.get(measure.name)
        if value is None or not (low <= point.kbps <= high and bottom <= value <= top):
            continue
        (mark,) = axes.plot(
            [point.kbps],
            [value],
            "o",
            mfc="none",
            mec=palette.PUBLISHED[1],
            mew=1,
            ms=5,
            zorder=2,
        )
        text = f"{point.label}: {point.kbps:g} → {value:g}, {point.status}"
        mark.set_gid(f"{measure.name}-p{at}-tip:{text} on {point.test_set}")
