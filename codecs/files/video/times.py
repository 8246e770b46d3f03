# SPDX-License-Identifier: Apache-2.0
"""When frames are shown: by a rate alone, or by a record of times.

    times = Times.of(pts, last, time_base, rate)        last: how long the last one is
    times.record                                        bytes, None: the rate says it

Containers round: Matroska counts milliseconds. Times that are what rounding makes of a
rate are those of the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from polycodec.codecs.files.container.fields import Cursor, Varint
from polycodec.errors import BitstreamError

_TERM = Varint(1, 1 << 31)
_ANY = Varint(0, 1 << 55)


@dataclass(frozen=True)
class Times:
    """Presentation times ``pts`` in units of ``time_base`` seconds; ``rate`` a second.

    ``last``: how long the last frame is shown, 0: not known. ``even``: the rate says
    it all. ``lost``: a file told times that no frames can have, so the rate says them.
    """

    pts: Sequence[int]
    last: int
    time_base: Fraction
    rate: Fraction
    even: bool
    lost: bool = False

    @classmethod
    def of(
        cls,
        pts: Sequence[int | None],
        last: int,
        time_base: Fraction,
        rate: Fraction,
    ) -> Times:
        """Times as a file tells them, or of the rate where it does not."""
        count = len(pts)
        known = [t for t in pts if t is not None]
        if len(known) < count or any(a >= b for a, b in pairwise(known)):
            return replace(cls.even_of(count, rate), lost=bool(known))
        if count > 1:
            step = Fraction(known[-1] - known[0], count - 1) * time_base
            rate = _nearest(rate, 1 / step, known, time_base)
        if all(t == _rounded(k / rate / time_base) for k, t in enumerate(known)):
            return cls.even_of(count, rate)
        return cls(known, last, time_base, _small(rate), False)

    @classmethod
    def even_of(cls, count: int, rate: Fraction) -> Times:
        """``count`` frames at a rate."""
        rate = _small(rate)
        return cls(range(count), 1, 1 / rate, rate, True)

    @property
    def seconds(self) -> float:
        """From the first frame's time to the last one's end."""
        shown = self.last or 1 / self.rate / self.time_base
        return float((self.pts[-1] - self.pts[0] + shown) * self.time_base)

    @property
    def record(self) -> bytes | None:
        """What the file keeps; see FORMAT.md.  # BITSTREAM"""
        if self.even:
            return None
        out = bytearray()
        _TERM.put(out, self.time_base.numerator)
        _TERM.put(out, self.time_base.denominator)
        first = self.pts[0]
        _ANY.put(out, 2 * first if first >= 0 else -2 * first - 1)
        for a, b in pairwise(self.pts):
            _ANY.put(out, b - a)
        _ANY.put(out, self.last)
        return bytes(out)

    @classmethod
    def read(cls, record: bytes | None, count: int, rate: Fraction) -> Times:
        """Times of a file; BitstreamError for a record that cannot be."""
        if record is None:
            return cls.even_of(count, rate)
        if len(record) < count:
            raise BitstreamError(
                f"the times record has {len(record)} bytes for {count} frames; "
                "expected one a frame at least"
            )
        cursor = Cursor(record)
        base = Fraction(_TERM.get(cursor), _TERM.get(cursor))
        folded = _ANY.get(cursor)
        steps = [_ANY.get(cursor) for _ in range(count)]
        if cursor.left or 0 in steps[:-1] or sum(steps) >= 1 << 55:
            raise BitstreamError(
                f"the times record does not hold {count} times that increase"
            )
        pts = [folded // 2 if folded % 2 == 0 else -(folded // 2) - 1]
        for step in steps[:-1]:
            pts.append(pts[-1] + step)
        return cls(pts, steps[-1], base, rate, False)

    def part(self, first: int, last: int) -> Times:
        """Those of frames [first, last), from 0 on."""
        if self.even:
            return Times.even_of(last - first, self.rate)
        follows = last < len(self.pts)
        shown = self.pts[last] - self.pts[last - 1] if follows else self.last
        moved = [t - self.pts[first] for t in self.pts[first:last]]
        return Times(moved, shown, self.time_base, self.rate, False)


def _rounded(value: Fraction) -> int:
    """The nearest whole number, halves upwards."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def _nearest(
    told: Fraction, mean: Fraction, pts: Sequence[int], base: Fraction
) -> Fraction:
    """The rate told where times are its own; else the mean one, as a small number."""
    if all(t == _rounded(k / told / base) for k, t in enumerate(pts)):
        return told
    small = mean.limit_denominator(1001)
    if all(t == _rounded(k / small / base) for k, t in enumerate(pts)):
        return small
    return mean


def _small(rate: Fraction) -> Fraction:
    """A rate whose terms a header can hold."""
    if max(rate.numerator, rate.denominator) < 1 << 31:
        return rate
    return rate.limit_denominator(1 << 20)
