# SPDX-License-Identifier: Apache-2.0
"""Drawings of a run on images: rate-distortion, rate differences, BD-rate bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polycodec.eval.bdrate import Comparison
from polycodec.eval.image.curves import ImageCurve
from polycodec.eval.page import palette
from polycodec.eval.page.palette import Look
from polycodec.eval.page.plots import STYLE, canvas, marks, short, spread_labels
from polycodec.eval.text import number

AXIS = {"psnr": "PSNR, dB (RGB)", "ms_ssim_db": "MS-SSIM, dB"}


def rate_distortion(
    curves: Sequence[ImageCurve], looks: Mapping[str, Look], metric: str
) -> Figure:
    """Draw quality over bits per pixel; published curves dashed."""
    with matplotlib.rc_context(STYLE):
        figure, axes = canvas(9.2, 5.6)
        right = _last_rate(curves)
        ends: list[tuple[float, float, ImageCurve]] = []
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
        axes.set_yticks(range(len(shown)), [short(labels[n]) for n, _ in shown])
        axes.axvline(0, color=palette.SOFT[1], lw=1, zorder=4)
        axes.spines["left"].set_visible(False)
        low = min([0.0, *(value for _, value in shown)])
        high = max([0.0, *(value for _, value in shown)])
        room = 0.16 * (high - low + 1)  # for the figures beside the bars
        axes.set_xlim(low - room * (low < 0), high + room * (high > 0))
        axes.set_xlabel("BD-rate, % (left: fewer bits)")
    return figure


def _last_rate(curves: Sequence[ImageCurve]) -> float:
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
    curve: ImageCurve,
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


def _label_ends(
    axes: Axes,
    ends: Iterable[tuple[float, float, ImageCurve]],
    looks: Mapping[str, Look],
) -> None:
    texts = [(x, y, c.label, looks[c.name].colour) for x, y, c in ends]
    spread_labels(axes, texts)
