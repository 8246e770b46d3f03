# SPDX-License-Identifier: Apache-2.0
"""How much rate one curve saves against another: BD-rate, and part by part.

    BD-rate = 10^(mean over the common PSNR range of
                  log10 R_test(PSNR) - log10 R_anchor(PSNR)) - 1      in %

Negative: the test codec needs fewer bits. Interpolation and integral come from
the `bjontegaard` package, by Akima splines (the field's advice) and by PCHIP.
One average can hide a crossing, so the same difference is also given at single
qualities over the whole common range. Bjontegaard 2001, VCEG-M33; Herglotz et
al. 2022, https://arxiv.org/abs/2202.12565.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Pair: TypeAlias = tuple[np.ndarray, np.ndarray]  # rates, qualities
MIN_POINTS = 4  # a third-order spline through fewer points is an invention


@dataclass(frozen=True)
class Part:
    """The rate difference in % at one quality in dB, and the two rates there."""

    quality: float
    rate_percent: float
    anchor_bpp: float
    test_bpp: float


@dataclass(frozen=True)
class Comparison:
    """One test curve against one anchor curve.

    Without a common range all figures are NaN and ``reason`` says why.
    ``overlap`` is the common quality range in dB; ``share_anchor`` and
    ``share_test`` are the parts of each curve's own range that it covers.
    """

    rate_akima: float  # %
    rate_pchip: float  # %
    quality_akima: float  # dB, at equal rate
    quality_pchip: float  # dB, at equal rate
    overlap: tuple[float, float] | None
    share_anchor: float
    share_test: float
    parts: tuple[Part, ...]
    below_everywhere: bool  # fewer bits at every part
    reason: str | None


def compare(
    anchor_rate: Sequence[float],
    anchor_quality: Sequence[float],
    test_rate: Sequence[float],
    test_quality: Sequence[float],
) -> Comparison:
    """Compare two curves of rates (bpp) and qualities (dB); negative % is better.

    Each curve needs ``MIN_POINTS`` points whose quality rises with the rate.
    The parts are both ends of the common range and every whole dB inside it.
    """
    anchor = _sorted(anchor_rate, anchor_quality)
    test = _sorted(test_rate, test_quality)
    reason = _fault("anchor", *anchor) or _fault("test", *test)
    if reason is None:
        ranges = [
            (float(quality[0]), float(quality[-1])) for _, quality in (anchor, test)
        ]
        low, high = max(ranges[0][0], ranges[1][0]), min(ranges[0][1], ranges[1][1])
        if low >= high:
            said = [f"{first:.2f}..{last:.2f} dB" for first, last in ranges]
            reason = (
                f"no common quality: the anchor covers {said[0]}, the test {said[1]}"
            )
    if reason is not None:
        nan = math.nan
        return Comparison(nan, nan, nan, nan, None, 0.0, 0.0, (), False, reason)
    parts = _parts(anchor, test, low, high)
    shares = [(high - low) / (last - first) for first, last in ranges]
    return Comparison(
        rate_akima=_bd("bd_rate", "akima", anchor, test),
        rate_pchip=_bd("bd_rate", "pchip", anchor, test),
        quality_akima=_bd_quality("akima", anchor, test),
        quality_pchip=_bd_quality("pchip", anchor, test),
        overlap=(low, high),
        share_anchor=shares[0],
        share_test=shares[1],
        parts=parts,
        below_everywhere=all(part.rate_percent < 0 for part in parts),
        reason=None,
    )


def _sorted(rate: Sequence[float], quality: Sequence[float]) -> Pair:
    order = np.argsort(np.asarray(rate, np.float64), kind="stable")
    if len(rate) != len(quality):
        raise ValueError(f"{len(rate)} rates, {len(quality)} qualities")
    return np.asarray(rate, np.float64)[order], np.asarray(quality, np.float64)[order]


def _fault(which: str, rate: np.ndarray, quality: np.ndarray) -> str | None:
    """Say what makes a curve unfit for comparison, or None."""
    if len(rate) < MIN_POINTS:
        return f"the {which} has {len(rate)} points; needs {MIN_POINTS}"
    if not (np.isfinite(rate).all() and np.isfinite(quality).all()):
        return f"the {which} has values that are not finite"
    if rate[0] <= 0:
        return f"the {which} has a rate of {rate[0]:g}; needs positive rates"
    if (np.diff(rate) <= 0).any():
        return f"the {which} has two points of the same rate"
    falls = np.flatnonzero(np.diff(quality) <= 0)
    if len(falls):
        points = [
            f"{quality[k]:.2f} dB at {rate[k]:.3f} bpp" for k in falls[0] + (0, 1)
        ]
        return f"the {which}'s quality does not rise with its rate: {', '.join(points)}"
    return None


def _bd(function: str, method: str, anchor: Pair, test: Pair) -> float:
    import bjontegaard

    return float(
        getattr(bjontegaard, function)(
            *anchor,
            *test,
            method=method,
            require_matching_points=False,
            # The overlap is stated with the result instead of warned about.
            min_overlap=0,
        )
    )


def _bd_quality(method: str, anchor: Pair, test: Pair) -> float:
    """BD-PSNR; NaN when the curves share qualities but no rates."""
    rates = (anchor[0], test[0])
    if min(rate[-1] for rate in rates) <= max(rate[0] for rate in rates):
        return math.nan
    return _bd("bd_psnr", method, anchor, test)


def _parts(anchor: Pair, test: Pair, low: float, high: float) -> tuple[Part, ...]:
    """Rate differences at both ends and at whole dBs, monotone between the points."""
    from scipy.interpolate import PchipInterpolator

    qualities = [low, *np.arange(math.floor(low) + 1, math.ceil(high)), high]
    rates = [
        np.exp(PchipInterpolator(quality, np.log(rate))(qualities))
        for rate, quality in (anchor, test)
    ]
    return tuple(
        Part(float(quality), 100.0 * (float(b / a) - 1.0), float(a), float(b))
        for quality, a, b in zip(qualities, *rates, strict=True)
    )
