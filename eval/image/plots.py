# SPDX-License-Identifier: Apache-2.0
"""The drawing that only images have: rate differences, quality by quality."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from polycodec.eval.bdrate import Comparison
from polycodec.eval.page import palette
from polycodec.eval.page.palette import Look
from polycodec.eval.page.plots import End, canvas, marks, spread_labels


def rate_difference(
    comparisons: Mapping[str, Comparison],
    labels: Mapping[str, str],
    looks: Mapping[str, Look],
) -> Figure:
    """Draw the rate of one codec in % against each anchor at equal PSNR."""
    with canvas(4.4) as (figure, axes):
        ends: list[End] = []
        values = [0.0]
        for name, found in comparisons.items():
            if not found.parts:
                continue
            x = [part.quality for part in found.parts]
            y = [part.rate_percent for part in found.parts]
            look = looks[name]
            axes.plot(x, y, color=look.colour, dashes=look.dashes, lw=1.8, zorder=3)
            marks(axes, x, y, look, "d-" + name, labels[name], "%")
            ends.append((x[-1], y[-1], labels[name], look))
            values += y
        axes.axhline(0, color=palette.SOFT, lw=1)
        # Nearly everything: a wild end must not flatten all.
        low, high = np.percentile(values, [1, 94])
        pad = 0.1 * (high - low + 1)
        axes.set_ylim(max(-100.0, min(low, 0.0) - pad), max(high, 0.0) + pad)
        spread_labels(axes, ends)
        axes.set_xlabel("PSNR, dB")
        axes.set_ylabel("rate difference, %")
    return figure
