# SPDX-License-Identifier: Apache-2.0
"""From rows of speech files to quality over kbit/s, with intervals; published points.

point = (bits of all files / their seconds, mean score, 95 % interval of the mean)

The interval is the percentile bootstrap over files: 2,000 times as many are drawn with
replacement, and the middle 95 % of the means is what is stated. It tells how far
another choice of such files would move the mean, not that of other speakers.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.errors import InputError
from polycodec.eval.curves import Curve, by_setting
from polycodec.eval.speech.measure import SpeechRow
from polycodec.eval.speech.subjects import SpeechSubject

DRAWS = 2000
# Statuses of published points that were not seen by anybody here.
UNSEEN = ("recollected",)


@dataclass(frozen=True)
class Mean:
    """A mean over files, its 95 % interval, and how many had no value."""

    value: float
    low: float
    high: float
    without: int


@dataclass(frozen=True)
class Point:
    """One setting of one codec over all files."""

    setting: float
    kbps: float
    file_kbps: float  # of everything written, containers too
    estimated_kbps: float | None
    scores: dict[str, Mean | None]
    encode_rtf: float  # seconds of coding per second of speech
    decode_rtf: float
    files: int


@dataclass(frozen=True, kw_only=True)
class SpeechCurve(Curve):
    """A codec's points, sorted by rate, and which bytes make the rate."""

    counts: str

    def against(self, metric: str) -> tuple[list[float], list[Mean]]:
        """Rates and means where ``metric`` has values."""
        known = [(p.kbps, p.scores.get(metric)) for p in self.points]
        pairs = [(rate, mean) for rate, mean in known if mean is not None]
        return [rate for rate, _ in pairs], [mean for _, mean in pairs]


@dataclass(frozen=True)
class Published:
    """A point somebody stated, on speech of their own."""

    label: str
    kbps: float
    scores: dict[str, float]
    test_set: str
    status: str
    source: str


def measured(
    subject: SpeechSubject, rows: Sequence[SpeechRow], names: Sequence[str]
) -> SpeechCurve:
    """Average the rows of one subject into its curve, for these measures."""
    points = [_point(at, group, names) for at, group in by_setting(rows).items()]
    points.sort(key=lambda point: point.kbps)
    return SpeechCurve(
        name=subject.name,
        label=subject.label,
        kind=subject.kind,
        counts=subject.counts,
        points=tuple(points),
    )


def mean(values: Sequence[float | None]) -> Mean | None:
    """Mean and bootstrap interval of the values there are; None without any."""
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known):
        return None
    # The same draws for every codec: their intervals differ by their scores alone.
    draws = np.random.default_rng(0).integers(0, len(known), (DRAWS, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return Mean(float(known.mean()), float(low), float(high), len(values) - len(known))


def rate_for(curve: SpeechCurve, metric: str, value: float) -> tuple[str, float] | None:
    """The kbit/s at which ``curve`` reaches ``value``: ("", r), ("<", r), (">", r).

    Straight lines over the logarithm of the rate; beyond its ends the end, marked.
    """
    rates, means = curve.against(metric)
    scores = [m.value for m in means]
    if len(rates) < 2 or any(b <= a for a, b in itertools.pairwise(scores)):
        return None
    if value < scores[0]:
        return "<", rates[0]
    if value > scores[-1]:
        return ">", rates[-1]
    return "", float(np.exp(np.interp(value, scores, np.log(rates))))


def published(path: str | pathlib.Path, names: Sequence[str]) -> list[Published]:
    """Read points of other people from ``{"points": [{codec, kbps, ...}]}``.

    Points without a rate or without any of the measures ``names`` and those that nobody
    here has seen printed are left out, as are measures of music.
    """
    path = pathlib.Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["points"]
        return [p for p in map(_published, entries) if _wanted(p, names)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read published points from {path}: {error!r}; expected JSON with "
            "a list 'points' of objects with codec and kbps; check the path"
        ) from error


def _published(entry: dict[str, Any]) -> Published:
    scores = {
        key: float(entry[key])
        for key in ("pesq_wb", "pesq_nb", "stoi", "visqol")
        if entry.get(key) is not None
    }
    return Published(
        label=str(entry["codec"]),
        kbps=float(entry["kbps"] or 0),
        scores=scores,
        test_set=str(entry.get("test_set", "")),
        status=str(entry.get("status", "")),
        source=str(entry.get("source", "")),
    )


def _wanted(point: Published, names: Sequence[str]) -> bool:
    fit = point.kbps > 0 and any(name in point.scores for name in names)
    return fit and point.status not in UNSEEN and "music" not in point.test_set


def _point(setting: float, rows: Sequence[SpeechRow], names: Sequence[str]) -> Point:
    seconds = sum(row.seconds for row in rows)
    estimates = [r.estimated_bits for r in rows if r.estimated_bits is not None]
    estimated = len(estimates) == len(rows)
    return Point(
        setting=setting,
        kbps=8 * sum(row.bytes for row in rows) / seconds / 1000,
        file_kbps=8 * sum(row.file_bytes for row in rows) / seconds / 1000,
        estimated_kbps=sum(estimates) / seconds / 1000 if estimated else None,
        scores={name: mean([row.scores.get(name) for row in rows]) for name in names},
        encode_rtf=sum(row.encode_seconds for row in rows) / seconds,
        decode_rtf=sum(row.decode_seconds for row in rows) / seconds,
        files=len(rows),
    )
