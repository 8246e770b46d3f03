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

import numpy as np

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
    anchor = _Curve.of(anchor_rate, anchor_quality)
    test = _Curve.of(test_rate, test_quality)
    reason = _fault("anchor", anchor) or _fault("test", test)
    if reason is None:
        low = float(max(anchor.quality[0], test.quality[0]))
        high = float(min(anchor.quality[-1], test.quality[-1]))
        if low >= high:
            reason = (
                "no common quality: the anchor covers "
                f"{anchor.quality[0]:.2f}..{anchor.quality[-1]:.2f} dB, the test "
                f"{test.quality[0]:.2f}..{test.quality[-1]:.2f} dB"
            )
    if reason is not None:
        nan = math.nan
        return Comparison(nan, nan, nan, nan, None, 0.0, 0.0, (), False, reason)
    parts = _parts(anchor, test, _qualities(low, high))
    return Comparison(
        rate_akima=_bd("bd_rate", "akima", anchor, test),
        rate_pchip=_bd("bd_rate", "pchip", anchor, test),
        quality_akima=_bd_quality("akima", anchor, test),
        quality_pchip=_bd_quality("pchip", anchor, test),
        overlap=(low, high),
        share_anchor=(high - low) / float(np.ptp(anchor.quality)),
        share_test=(high - low) / float(np.ptp(test.quality)),
        parts=parts,
        below_everywhere=all(part.rate_percent < 0 for part in parts),
        reason=None,
    )


@dataclass(frozen=True)
class _Curve:
    rate: np.ndarray
    quality: np.ndarray

    @classmethod
    def of(cls, rate: Sequence[float], quality: Sequence[float]) -> _Curve:
        order = np.argsort(np.asarray(rate, dtype=np.float64), kind="stable")
        return cls(
            np.asarray(rate, dtype=np.float64)[order],
            np.asarray(quality, dtype=np.float64)[order],
        )


def _fault(which: str, curve: _Curve) -> str | None:
    """Say what makes a curve unfit for comparison, or None."""
    if len(curve.rate) != len(curve.quality):
        return (
            f"the {which} has {len(curve.rate)} rates, {len(curve.quality)} qualities"
        )
    if len(curve.rate) < MIN_POINTS:
        return f"the {which} has {len(curve.rate)} points; needs {MIN_POINTS}"
    if not (np.isfinite(curve.rate).all() and np.isfinite(curve.quality).all()):
        return f"the {which} has values that are not finite"
    if curve.rate[0] <= 0:
        return f"the {which} has a rate of {curve.rate[0]:g}; needs positive rates"
    if (np.diff(curve.rate) <= 0).any():
        return f"the {which} has two points of the same rate"
    falls = np.flatnonzero(np.diff(curve.quality) <= 0)
    if len(falls):
        at = int(falls[0])
        return (
            f"the {which}'s quality does not rise with its rate: "
            f"{curve.quality[at]:.2f} dB at {curve.rate[at]:.3f} bpp, "
            f"{curve.quality[at + 1]:.2f} dB at {curve.rate[at + 1]:.3f} bpp"
        )
    return None


def _bd(function: str, method: str, anchor: _Curve, test: _Curve) -> float:
    import bjontegaard

    return float(
        getattr(bjontegaard, function)(
            anchor.rate,
            anchor.quality,
            test.rate,
            test.quality,
            method=method,
            require_matching_points=False,
            # The overlap is stated with the result instead of warned about.
            min_overlap=0,
        )
    )


def _bd_quality(method: str, anchor: _Curve, test: _Curve) -> float:
    """BD-PSNR; NaN when the curves share qualities but no rates."""
    common = min(anchor.rate[-1], test.rate[-1]) - max(anchor.rate[0], test.rate[0])
    if common <= 0:
        return math.nan
    return _bd("bd_psnr", method, anchor, test)


def _qualities(low: float, high: float) -> np.ndarray:
    """Both ends of a range in dB and the whole dBs between them."""
    whole = np.arange(math.floor(low) + 1, math.ceil(high))
    return np.concatenate([[low], whole, [high]])


def _parts(anchor: _Curve, test: _Curve, qualities: np.ndarray) -> tuple[Part, ...]:
    """Rate differences at single qualities, monotone between the points."""
    from scipy.interpolate import PchipInterpolator

    rates = [
        np.exp(PchipInterpolator(curve.quality, np.log(curve.rate))(qualities))
        for curve in (anchor, test)
    ]
    return tuple(
        Part(float(quality), 100.0 * (float(b / a) - 1.0), float(a), float(b))
        for quality, a, b in zip(qualities, *rates, strict=True)
    )
