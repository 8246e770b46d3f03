# SPDX-License-Identifier: Apache-2.0
"""Weights on lattices, range coded: one number at a time, or eight.

    scalar     k = round(w / Δ)                               Z
    lattice    the nearest of all eights of integers, or of integers and a half each,
               whose sum is even                              E8

Of all sources with a density, an ideally entropy-coded scalar quantizer is 1.53 dB
above the bound at high rates and E8 0.88 dB: the second moments of their cells are
1/12 and 0.0717 of a ball's 0.0586 (Conway and Sloane 1982, "Voronoi regions of
lattices", table 1). A setting is the step, 2^(q / 4) nearly.
"""

from __future__ import annotations

import abc
import struct

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

# BITSTREAM: step's exponent, whether rows have scales of their own, shape.
HEAD = struct.Struct("<hBB")
TRIED = 1 << 13  # numbers that offers are found with
ROW = 3.0  # bits that a row's scale takes, about
MOST = 32767  # of |k|


class LatticeQuantizer(WeightQuantizer):
    """Base of quantizers whose points are coded by scales of rows."""

    width: int  # numbers of a point

    def offers(self, w: np.ndarray) -> list[Offer]:
        part, energy = self._part(w), float(np.square(w).sum())
        if energy == 0.0:
            bits = self.cost(self.points(w), np.zeros(1, np.int64), entropy.SHAPES[0])
            return [Offer(0, HEAD.size + bits / 8, 0.0)]
        # Numbers that are left out count by their energy.
        factor = energy / max(float(np.square(part).sum()), 1e-60)
        rms, found = np.sqrt(energy / w.size), []
        kind = self._chosen(part, step(round(4 * np.log2(rms) - 8)))
        for q in steps_of(rms):
            points = self.points(part / step(q))
            error = np.square(part - self.values(points, part.shape) * step(q)).sum()
            bits = self._bits(points, part.shape, *kind) * w.size / part.size
            # Side information of the rows comes once, values as often as there are.
            sides = HEAD.size + ROW * self.rows(w.shape, kind[1]) / 8
            found.append(Offer(q, sides + bits / 8, factor * float(error)))
        return found

    def encode(self, w: np.ndarray, setting: int) -> bytes:
        shape, by_row = self._chosen(self._part(w), step(setting))
        points = self.points(w / step(setting))
        bins = entropy.row_bins(self._rms(points, w.shape, by_row), shape)
        encoder = StreamEncoder()
        entropy.put_bins(encoder, bins)
        self.put(encoder, points, bins, w.shape, shape)
        head = HEAD.pack(setting, by_row, entropy.SHAPES.index(shape))
        return head + encoder.finish()

    def decode(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        if len(data) < HEAD.size:
            raise damaged(f"{len(data)} bytes of a lattice")
        setting, by_row, kind = HEAD.unpack_from(data)
        if abs(setting) > 400 or by_row > 1 or kind >= len(entropy.SHAPES):
            raise damaged(f"a lattice of step {setting}, rows {by_row}, shape {kind}")
        try:
            decoder = StreamDecoder(data[HEAD.size :])
            bins = entropy.get_bins(decoder, self.rows(shape, by_row))
            if bins.size and not 0 <= bins.min() <= bins.max() < entropy.BINS:
                raise damaged("a scale that there is not")
            points = self.get(decoder, bins, shape, entropy.SHAPES[kind])
            decoder.finish()
        except (BitstreamError, InputError) as error:
            raise damaged(str(error)) from error
        found = self.values(points, shape)
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
        size: tuple[int, ...],
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

    def rows(self, shape: tuple[int, ...], by_row: int) -> int:
        """Return the number of rows with a scale of their own."""
        return shape[0] if by_row and shape[1] % self.width == 0 else 1

    def _part(self, w: np.ndarray) -> np.ndarray:
        """Some `TRIED` numbers of w, whole rows as far as they are no longer."""
        every = max(1, w.size // TRIED)
        rows = w[:: min(every, max(1, len(w) // 8))]
        columns = max(TRIED // len(rows), 1)
        return rows[:, : -(-columns // self.width) * self.width]

    def _rms(
        self, points: np.ndarray, size: tuple[int, ...], by_row: int
    ) -> np.ndarray:
        rows = self.by_rows(points, self.rows(size, by_row)).astype(np.float64)
        return np.sqrt(np.square(rows).mean(1))

    def _bits(
        self,
        points: np.ndarray,
        size: tuple[int, ...],
        shape: entropy.Shape,
        by_row: int,
    ) -> float:
        bins = entropy.row_bins(self._rms(points, size, by_row), shape)
        return self.cost(points, bins, shape)

    def _chosen(self, part: np.ndarray, width: float) -> tuple[entropy.Shape, int]:
        """The cheapest shape for a step, and whether rows have scales of their own."""
        points, found = self.points(part / width), []
        for by_row in {0, int(self.rows(part.shape, 1) > 1)}:
            for shape in entropy.SHAPES:
                cost = self._bits(points, part.shape, shape, by_row)
                cost += ROW * by_row * len(part)
                found.append((cost, shape, by_row))
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
        size: tuple[int, ...],
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


def step(q: int) -> float:
    """Return the step of a setting: 2^(q / 4) nearly, an exact number.  # BITSTREAM"""
    return float(np.ldexp((16.0, 19.0, 23.0, 27.0)[q % 4], q // 4 - 4))
