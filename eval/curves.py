# SPDX-License-Identifier: Apache-2.0
"""From rows to curves: quality over rate, with intervals; published ones beside them.

    point = one setting: mean rate, mean scores and their 95 % intervals, mean seconds
    curve = the points of one codec, sorted by rate

A measure is averaged over the same files for every codec and setting: those that it
judged for all of them. The interval is the percentile bootstrap over files: 2,000 times
as many are drawn with replacement, and the middle 95 % of the means is what is stated.
It tells how far another choice of such files would move the mean.
"""

from __future__ import annotations

import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.errors import InputError, UnknownNameError
from polycodec.eval.measure import Row

if TYPE_CHECKING:
    from polycodec.eval.kind import Run

DRAWS = 2000


@dataclass(frozen=True)
class Mean:
    """A mean over files, its 95 % interval, and how many files it is without."""

    value: float
    low: float
    high: float
    without: int = 0

    def through(self, function: Callable[[float], float]) -> Mean:
        """Return a rising function of the mean and of both ends."""
        value, low, high = map(function, (self.value, self.low, self.high))
        return Mean(value, low, high, self.without)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of one codec over all files; of published ones rate and scores.

    Rates and seconds are of a pixel and an image, or of a second of speech. ``rates``:
    by measure, of the files it is averaged over (`shared`), where those are not all.
    """

    rate: float
    scores: dict[str, Mean | None]
    rates: dict[str, float] = field(default_factory=dict)
    setting: float = math.nan
    file_rate: float = math.nan  # of everything written, containers too
    estimated_rate: float | None = None
    encode_seconds: float = math.nan
    decode_seconds: float = math.nan
    files: int = 0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A codec's points, sorted by rate. ``kind``: codec, anchor or published.

    ``note``: which bytes make the rate, or what published points were measured on.
    """

    name: str
    label: str
    kind: str
    points: tuple[Point, ...]
    note: str = ""

    @property
    def rates(self) -> list[float]:
        """The rates of all points."""
        return [point.rate for point in self.points]

    def against(self, metric: str) -> tuple[list[float], list[Mean]]:
        """Rates and means where ``metric`` has values, both of the same files."""
        known = [
            (p.rates.get(metric, p.rate), p.scores.get(metric)) for p in self.points
        ]
        pairs = [(rate, mean) for rate, mean in known if mean is not None]
        return [rate for rate, _ in pairs], [mean for _, mean in pairs]

    def values(self, metric: str) -> tuple[list[float], list[float]]:
        """Rates and values where ``metric`` has values."""
        rates, means = self.against(metric)
        return rates, [mean.value for mean in means]


def measured(run: Run, rows: Sequence[Row]) -> list[Curve]:
    """Average the rows of each subject into its curve."""
    files, points = shared(run.rules, rows), dict[str, list[Point]]()
    for (codec, _), group in _settings(rows).items():
        points.setdefault(codec, []).append(_point(run, group, files))
    return [
        Curve(
            name=subject.name,
            label=subject.label,
            kind=subject.kind,
            points=tuple(sorted(points[subject.name], key=lambda point: point.rate)),
            note=subject.counts,
        )
        for subject in run.subjects
    ]


def shared(names: Iterable[str], rows: Sequence[Row]) -> dict[str, set[str]]:
    """Return, by measure, the files that every codec has a value for at every setting.

    Only those are averaged: means of other files do not compare. A setting that a
    measure judged on no file has no mean and takes no file from the others.
    """
    files = {}
    for name in names:
        judged = [
            {row.file for row in group if row.scores.get(name) is not None}
            for group in _settings(rows).values()
        ]
        known = [found for found in judged if found]
        files[name] = set.intersection(*known) if known else set()
    return files


def _settings(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.codec, row.setting), []).append(row)
    return groups


def _point(run: Run, rows: Sequence[Row], files: dict[str, set[str]]) -> Point:
    kind = run.kind
    shares = np.array([kind.share(row.amount) for row in rows])

    def rate(sizes: Sequence[float | None]) -> float:
        """The mean over the files that have a size."""
        known = [(s, row) for s, row in zip(sizes, rows, strict=True) if s is not None]
        each = [kind.rate_of(size, row.amount) for size, row in known]
        of = np.array([kind.share(row.amount) for _, row in known])
        return float(of @ each / of.sum())

    scores = {
        name: mean(
            [row.scores.get(name) if row.file in files[name] else None for row in rows]
        )
        for name in run.rules
    }
    rates = {
        name: rate([r.bytes if r.file in files[name] else None for r in rows])
        for name, found in scores.items()
        if found is not None and found.without
    }
    for measure in run.measures:
        if measure.of_mean is not None:
            source, function = measure.of_mean
            found = scores[source]
            scores[measure.name] = None if found is None else found.through(function)
            if source in rates:
                rates[measure.name] = rates[source]
    estimates = [r.estimated_bits / 8 for r in rows if r.estimated_bits is not None]
    return Point(
        setting=rows[0].setting,
        rate=rate([row.bytes for row in rows]),
        file_rate=rate([row.file_bytes for row in rows]),
        estimated_rate=rate(estimates) if len(estimates) == len(rows) else None,
        scores=scores,
        rates=rates,
        encode_seconds=sum(row.encode_seconds for row in rows) / shares.sum(),
        decode_seconds=sum(row.decode_seconds for row in rows) / shares.sum(),
        files=len(rows),
    )


def mean(values: Sequence[float | None]) -> Mean | None:
    """Mean and bootstrap interval of the values there are; None without any."""
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known):
        return None
    means = known[_draws(len(known))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Mean(float(known.mean()), float(low), float(high), len(values) - len(known))


@functools.cache
def _draws(count: int) -> np.ndarray:
    """The same for every codec: their intervals differ by their scores alone."""
    return np.random.default_rng(0).integers(0, count, (DRAWS, count))


def published(
    path: str | pathlib.Path, read: Callable[[Any], list[Curve]], expected: str
) -> list[Curve]:
    """Read curves of other people from a JSON file; InputError says what it lacks."""
    try:
        return read(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read published curves from {path}: {error!r}; expected JSON with "
            f"{expected}; correct the path or the file"
        ) from error


def chosen(
    entries: Iterable[dict[str, Any]], ids: Sequence[str] | None, usual: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the entries of these ``ids``; of the ``usual`` ones unless told, or all.

    UnknownNameError names the nearest one.
    """
    known = {entry["id"]: entry for entry in entries}
    if ids is None:
        ids = [name for name in usual if name in known] or list(known)
    for name in ids:
        if name not in known:
            raise UnknownNameError.of("published curve", name, known)
    return [known[name] for name in ids]


def published_point(rate: float, scores: dict[str, float | None]) -> Point:
    """Return a point that somebody stated; a score may be None."""
    exact = {n: None if v is None else Mean(v, v, v) for n, v in scores.items()}
    return Point(rate=rate, scores=exact)
