# SPDX-License-Identifier: Apache-2.0
"""Weights on lattices, range coded: one number at a time, or eight.

    scalar     k = round(w / Δ)                               Z
    lattice    the nearest of all eights of integers, or of integers and a half each,
               whose sum is even                              E8

Of all sources with a density, an ideally entropy-coded scalar quantizer is 1.53 dB
above the bound at high rates and E8 0.88 dB: the second moments of their cells are
1/12 and 0.0717 of a ball's 0.0586 (Conway and Sloane 1982, "Voronoi regions of
lattices", table 1). A setting is the step, 2^(q / 4) nearly.

Scales are one of all numbers, or one of each row, or one of each row's change from the
row before: rows that follow each other in time resemble each other. What is coded is
then the difference of two lattice points, which is a lattice point again: errors do not
add up.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Iterable

import numpy as np

from polycodec.codecs.quantizers.weights import entropy
from polycodec.codecs.quantizers.weights.base import (
    Offer,
    WeightQuantizer,
    damaged,
    steps_of,
)
from polycodec.cuda import StreamDecoder, StreamEncoder
from polycodec.errors import BitstreamError, InputError
from polycodec.registry import register

# BITSTREAM: step's exponent, what has a scale, shape.
HEAD = struct.Struct("<hBB")
ALL, ROWS, CHANGES = KINDS = range(3)  # BITSTREAM: what has a scale of its own
TRIED = 1 << 13  # numbers that offers are found with
ROW = 3.0  # bits that a row's scale takes, about
MOST = 32767  # of |k|


class LatticeQuantizer(WeightQuantizer):
    """Base of quantizers whose points are coded by scales of rows."""

    width: int  # numbers of a point

    def offers(self, w: np.ndarray) -> list[Offer]:
        energy = float(np.square(w).sum())
        if energy == 0.0:
            bits = self.cost(self.points(w), np.zeros(1, np.int64), entropy.SHAPES[0])
            return [Offer(0, HEAD.size + bits / 8, 0.0)]
        rms, found = np.sqrt(energy / w.size), []
        kind, shape = self._chosen(w, _middle(w))
        part = self._part(w, kind)
        # Numbers that are left out count by their energy.
        factor = energy / max(float(np.square(part).sum()), 1e-60)
        for q in steps_of(rms):
            points = self._points(part / step(q), kind)
            values = self._values(points, part.shape, kind) * step(q)
            error = factor * float(np.square(part - values).sum())
            bits = self._bits(points, part.shape, kind, shape) * w.size / part.size
            # Side information of the rows comes once, values as often as there are.
            sides = HEAD.size + ROW * self._rows(w.shape, kind) / 8
            found.append(Offer(q, sides + bits / 8, error))
        return found

    def encode(self, w: np.ndarray, setting: int) -> bytes:
        kind, _ = self._chosen(w, _middle(w))
        _, shape = self._chosen(w, step(setting), [kind])
        points = self._points(w / step(setting), kind)
        bins = entropy.row_bins(self._rms(points, w.shape, kind), shape)
        encoder = StreamEncoder()
        entropy.put_bins(encoder, bins)
        self.put(encoder, points, bins, shape)
        head = HEAD.pack(setting, kind, entropy.SHAPES.index(shape))
        return head + encoder.finish()

    def decode(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        if len(data) < HEAD.size:
            raise damaged(f"{len(data)} bytes of a lattice")
        setting, kind, tails = HEAD.unpack_from(data)
        if abs(setting) > 400 or kind not in KINDS or tails >= len(entropy.SHAPES):
            raise damaged(f"a lattice of step {setting}, scales {kind}, shape {tails}")
        try:
            decoder = StreamDecoder(data[HEAD.size :])
            bins = entropy.get_bins(decoder, self._rows(shape, kind))
            if bins.size and not 0 <= bins.min() <= bins.max() < entropy.BINS:
                raise damaged("a scale that there is not")
            size = self._whole(shape, kind)
            points = self.get(decoder, bins, size, entropy.SHAPES[tails])
            decoder.finish()
        except (BitstreamError, InputError) as error:
            raise damaged(str(error)) from error
        found = self._values(points, shape, kind)
        found *= step(setting)
        return found

    @abc.abstractmethod
    def points(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest points of x (R, C) in steps, as integers of any shape."""

    @abc.abstractmethod
    def values(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return x̂ (R, C) float64 of points."""

    @abc.abstractmethod
    def cost(self, points: np.ndarray, bins: np.ndarray, shape: entropy.Shape) -> float:
        """Return about how many bits points cost."""

    @abc.abstractmethod
    def put(
        self,
        encoder: StreamEncoder,
        points: np.ndarray,
        bins: np.ndarray,
        shape: entropy.Shape,
    ) -> None:
        """Append the passes of points."""

    @abc.abstractmethod
    def get(
        self,
        decoder: StreamDecoder,
        bins: np.ndarray,
        size: tuple[int, int],
        shape: entropy.Shape,
    ) -> np.ndarray:
        """Return the points; see `put`."""

    @abc.abstractmethod
    def by_rows(self, points: np.ndarray, rows: int) -> np.ndarray:
        """Return points as (rows, n) integers that scales are taken of."""

    def _rows(self, shape: tuple[int, ...], kind: int) -> int:
        """How many scales there are."""
        whole = self._whole(shape, kind)
        return shape[0] if kind != ALL and whole[1] % self.width == 0 else 1

    def _whole(self, shape: tuple[int, ...], kind: int) -> tuple[int, int]:
        """The size (R, C) that is coded: points of `CHANGES` keep to their rows."""
        more = -shape[1] % self.width if kind == CHANGES else 0
        return shape[0], shape[1] + more

    def _points(self, x: np.ndarray, kind: int) -> np.ndarray:
        """The points that are coded for x (R, C) in steps."""
        if kind != CHANGES:
            return self.points(x)
        whole = np.zeros(self._whole(x.shape, kind))
        whole[:, : x.shape[1]] = x.clip(-MOST // 2 + 2, MOST // 2 - 2)
        near = self.values(self.points(whole), whole.shape)
        return self.points(np.diff(near, axis=0, prepend=0))

    def _values(
        self, points: np.ndarray, shape: tuple[int, ...], kind: int
    ) -> np.ndarray:
        """`_points` undone, (R, C) float64."""
        found = self.values(points, self._whole(shape, kind))
        if kind == CHANGES:
            found = np.cumsum(found, axis=0)[:, : shape[1]]
        return found

    def _part(self, w: np.ndarray, kind: int) -> np.ndarray:
        """Some `TRIED` numbers of w, whole rows as far as they are no longer.

        Of `CHANGES` neighbouring rows, and columns from everywhere.
        """
        every = max(1, w.size // TRIED)
        if kind == CHANGES:
            rows = w[: TRIED // 16]
            return rows[:, :: max(1, rows.size // TRIED)]
        rows = w[:: min(every, max(1, len(w) // 8))]
        columns = max(TRIED // len(rows), 1)
        return rows[:, : -(-columns // self.width) * self.width]

    def _rms(self, points: np.ndarray, shape: tuple[int, ...], kind: int) -> np.ndarray:
        rows = self.by_rows(points, self._rows(shape, kind)).astype(np.float64)
        return np.sqrt(np.square(rows).mean(1))

    def _bits(
        self,
        points: np.ndarray,
        size: tuple[int, ...],
        kind: int,
        shape: entropy.Shape,
    ) -> float:
        bins = entropy.row_bins(self._rms(points, size, kind), shape)
        return self.cost(points, bins, shape)

    def _chosen(
        self, w: np.ndarray, width: float, kinds: Iterable[int] = KINDS
    ) -> tuple[int, entropy.Shape]:
        """What has a scale, and the shape, that are the cheapest for a step."""
        found = []
        for kind in kinds:
            part = self._part(w, kind)
            points = self._points(part / width, kind)
            for shape in entropy.SHAPES:
                bits = self._bits(points, part.shape, kind, shape)
                bits += ROW * len(part) * (kind != ALL)
                found.append((bits / part.size, kind, shape))
        return min(found)[1:]


@register("weights/scalar")
class ScalarQuantizer(LatticeQuantizer):
    """Each number by itself."""

    width = 1

    def points(self, x: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(x + 0.5), -MOST, MOST).astype(np.int32)

    def values(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return points.astype(np.float64).reshape(shape)

    def by_rows(self, points: np.ndarray, rows: int) -> np.ndarray:
        return points.reshape(rows, -1)

    def cost(self, points: np.ndarray, bins: np.ndarray, shape: entropy.Shape) -> float:
        return entropy.bits(self.by_rows(points, len(bins)), bins, shape)

    def put(
        self,
        encoder: StreamEncoder,
        points: np.ndarray,
        bins: np.ndarray,
        shape: entropy.Shape,
    ) -> None:
        columns = points.size // len(bins)
        encoder.put_prior(points.reshape(-1), entropy.prior(bins, columns, shape))

    def get(
        self,
        decoder: StreamDecoder,
        bins: np.ndarray,
        size: tuple[int, int],
        shape: entropy.Shape,
    ) -> np.ndarray:
        columns = size[0] * size[1] // len(bins)
        return decoder.get_prior(entropy.prior(bins, columns, shape))


def _middle(w: np.ndarray) -> float:
    """A quarter of the root mean square of w, nearly."""
    rms = float(np.sqrt(np.square(w).mean()))
    return step(round(4 * np.log2(max(rms, 1e-30)) - 8))


def step(q: int) -> float:
    """Return the step of a setting: 2^(q / 4) nearly, an exact number.  # BITSTREAM"""
    return float(np.ldexp((16.0, 19.0, 23.0, 27.0)[q % 4], q // 4 - 4))
