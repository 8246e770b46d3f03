# SPDX-License-Identifier: Apache-2.0
"""The lattice E8: eight weights at once, at a tenth of a bit less each than alone.

    point = k + h / 2        k (8,) integers of even sum, h 0 or 1 for all eight
    coded: h, a bit;  k_1 … k_7;  (k_8 - parity) / 2, for the others say its parity

The nearest point is the nearer of two: each integer rounded, and where their sum is odd
the worst of them the other way (Conway and Sloane 1982, "Fast quantizing and decoding
algorithms for lattice quantizers and codes").
"""

from __future__ import annotations

import numpy as np

from polycodec.codecs.quantizers.weights import entropy
from polycodec.codecs.quantizers.weights.scalar import MOST, LatticeQuantizer
from polycodec.cuda import Categorical, StreamDecoder, StreamEncoder
from polycodec.registry import register

EIGHT = 8
UNIT = 64  # of means


@register("weights/lattice")
class E8Quantizer(LatticeQuantizer):
    """Eights of numbers, in the order of the matrix; points are (n, 9): k and h."""

    width = EIGHT

    def points(self, x: np.ndarray) -> np.ndarray:
        flat = np.zeros(-(-x.size // EIGHT) * EIGHT)
        flat[: x.size] = x.reshape(-1)
        eights = np.clip(flat, -MOST + 2, MOST - 2).reshape(-1, EIGHT)
        whole, far = _even(eights)
        half, farther = _even(eights - 0.5)
        h = (farther < far).astype(np.int32)
        return np.concatenate([np.where(h[:, None], half, whole), h[:, None]], axis=1)

    def values(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        eights = points[:, :EIGHT] + points[:, EIGHT:] / 2
        return eights.reshape(-1)[: int(np.prod(shape))].reshape(shape)

    def by_rows(self, points: np.ndarray, rows: int) -> np.ndarray:
        return self.values(points, (rows, len(points) * EIGHT // rows))

    def cost(self, points: np.ndarray, bins: np.ndarray, shape: entropy.Shape) -> float:
        per = np.repeat(bins, len(points) // len(bins))
        k, h = points[:, :EIGHT], points[:, EIGHT:]
        seven = entropy.bits(k[:, :-1], per, shape, -h / 2)
        parity = k[:, :-1].sum(1, keepdims=True) & 1
        half, mean = (k[:, -1:] - parity) >> 1, -h / 4 - parity / 2
        last = entropy.bits(half, np.maximum(per - 4, 0), shape, mean)
        return len(points) + seven + last

    def put(
        self,
        encoder: StreamEncoder,
        points: np.ndarray,
        bins: np.ndarray,
        shape: entropy.Shape,
    ) -> None:
        k, h = points[:, :EIGHT], points[:, EIGHT]
        encoder.put_prior(h, _coin(len(points)))
        seven, last = k[:, :-1], k[:, -1]
        parity = seven.sum(1) & 1
        encoder.put_prior(seven.reshape(-1), _sevens(bins, h, shape))
        encoder.put_prior((last - parity) >> 1, _last(bins, h, parity, shape))

    def get(
        self,
        decoder: StreamDecoder,
        bins: np.ndarray,
        size: tuple[int, int],
        shape: entropy.Shape,
    ) -> np.ndarray:
        n = -(-size[0] * size[1] // EIGHT)
        h = decoder.get_prior(_coin(n))
        seven = decoder.get_prior(_sevens(bins, h, shape)).reshape(n, 7)
        parity = seven.sum(1) & 1
        last = 2 * decoder.get_prior(_last(bins, h, parity, shape)) + parity
        return np.concatenate([seven, last[:, None], h[:, None]], axis=1)


def _even(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest integers of even sum of x (n, 8), and their squared distances (n,)."""
    near = np.floor(x + 0.5)
    rest = x - near
    worst = np.abs(rest).argmax(1)[:, None]
    odd = near.sum(1, keepdims=True) % 2
    way = np.where(np.take_along_axis(rest, worst, 1) < 0, -1.0, 1.0) * odd
    moved = np.take_along_axis(near, worst, 1) + way
    np.put_along_axis(near, worst, moved, 1)
    return near.astype(np.int32), np.square(x - near).sum(1)


def _coin(n: int) -> Categorical:
    return Categorical(np.zeros((n, 2), np.int16))


def _sevens(bins: np.ndarray, h: np.ndarray, shape: entropy.Shape) -> entropy.Mixture:
    per = np.repeat(bins, len(h) // len(bins))
    means = np.repeat(h * (-UNIT // 2), 7).astype(np.int32)
    return entropy.prior(per, 7, shape, means)


def _last(
    bins: np.ndarray, h: np.ndarray, parity: np.ndarray, shape: entropy.Shape
) -> entropy.Mixture:
    """Of half the eighth: mean and scale are halves, four bins lower."""
    per = np.maximum(np.repeat(bins, len(h) // len(bins)) - 4, 0)
    means = (h * (-UNIT // 4) - parity * (UNIT // 2)).astype(np.int32)
    return entropy.prior(per, 1, shape, means)
