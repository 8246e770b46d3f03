# SPDX-License-Identifier: Apache-2.0
"""Mixtures of up to four Gaussians with fractional means, in integers.

    m_j   mean of component j                       in 1/64, |m| <= 2^21
    s_j   its scale: a bin of a ScaleSet            0 .. S-1
    w_j   its weight                                in 1/256, all together 256

    z_j(v) = (clamp(64 v - 32 - m_j, ±limit) * reciprocal + 2^19) >> 20
                         edge below the value v, from the mean, in 1/128 sigma
    F(v)   = (sum_j w_j * PHI[z_j(v)]) >> 8         0 .. 65535, PHI = 65535 * Φ
    c(k)   = (F(first + k - 1) * (2^15 - 2^w) >> 16) + k      0 < k < 2^w

Slot 0 is the escape, slot k the value first + k - 1. The window, `first` and its 2^w
slots, covers the reach of every component:

    a = (min_j(m_j - reach) + 32) >> 6,  b = (max_j(m_j + reach) + 32) >> 6
    w = bits of (b - a + 1), 12 at most;  first = a - ((2^w - 1 - (b - a + 1)) >> 1)

One Gaussian with a fractional mean is a mixture of one. Compare FlashGMM
(arXiv 2509.18815): a search in the CDF instead of tables.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.cuda.host.abi import SCALE
from polycodec.cuda.host.checksum import crc32c
from polycodec.cuda.priors.integer_cdf import (
    PRECISION,
    WHOLE,
    Expanded,
    Intervals,
    as_array,
    integers,
    within,
)
from polycodec.errors import InputError, ModelError

MEAN_UNIT = 64  # BITSTREAM: means in 1/64
MEAN_LIMIT = 1 << 21  # BITSTREAM: of |mean|, in those units
WEIGHT_UNIT = 256  # BITSTREAM
MAX_COMPONENTS = 4
WINDOW_BITS = 12  # BITSTREAM: 2^12 slots at most
SIGMA_UNIT = 128  # BITSTREAM: PHI's steps in a sigma
Z_LIMIT = 576  # BITSTREAM: 4.5 sigma; farther out PHI is 0 or 65535
Z_SHIFT = 20  # BITSTREAM: of reciprocals
MAX_SCALES = 256
_ROUND = (Z_LIMIT << Z_SHIFT) + (1 << Z_SHIFT - 1)


def phi_above_half(x: np.ndarray) -> np.ndarray:
    """Return Φ(x) - 1/2 of 0 <= x <= 4.5 or so, float64, the same on every machine.

    x/√(2π) Σ (-x²/2)^n / (n! (2n + 1)), by additions, multiplications and divisions of
    float64 only.  # BITSTREAM
    """
    term, total = np.ones_like(x), np.ones_like(x)
    for n in range(1, 80):
        term = term * (x * x) / (-2.0 * n)
        total = total + term / (2 * n + 1)
    return 0.3989422804014327 * (x * total)


@functools.cache
def phi_table() -> np.ndarray:
    """Return PHI: 65535 * Φ(z / 128) for z = -576 .. 576, (1153,) uint16."""
    upper = 0.5 + phi_above_half(np.arange(Z_LIMIT + 1) / SIGMA_UNIT)
    half = np.floor(65535 * upper + 0.5).astype(np.int64)
    table = np.concatenate([65535 - half[:0:-1], half]).astype(np.uint16)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, eq=False)
class ScaleSet:
    """Scales that components choose by an index; stored with the weights.

    reciprocal: (S,) int32   2^20 * 2 / sigma, what makes 1/128 sigma of 1/64
    reach:      (S,) int32   how far from its mean a component's window must go, 1/64

    Raises ModelError when the numbers are not valid.
    """

    reciprocal: np.ndarray
    reach: np.ndarray

    def __post_init__(self) -> None:
        limits = {"reciprocal": (1, Z_LIMIT << Z_SHIFT), "reach": (0, MEAN_LIMIT)}
        for name, (low, high) in limits.items():
            array = as_array(getattr(self, name), name)
            _require(array.dtype.kind in "iu" and array.ndim == 1, f"{name}: no row")
            _require(1 <= array.size <= MAX_SCALES, f"{array.size} scales, not 1..256")
            fits = low <= int(array.min()) and int(array.max()) <= high
            _require(fits, f"{name} outside {low}..{high}")
            array = array.astype(np.int32)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        same = self.reciprocal.size == self.reach.size
        _require(same, "reciprocal and reach differ in length")

    @classmethod
    def from_scales(cls, scales: Any) -> ScaleSet:
        """Round scales (S,) float, in symbols, 0.0035 at least; once, at export.

        The reach is where the bits of more escapes cost as much as those of the
        larger window, whose every slot takes 1 of the 2^15.
        """
        sigma = as_array(scales, "scales").astype(np.float64)
        fine = sigma.ndim == 1 and np.isfinite(sigma).all() and (sigma > 0).all()
        _require(bool(fine), "scales must be finite and above 0")
        reciprocal = np.rint(SIGMA_UNIT / MEAN_UNIT * (1 << Z_SHIFT) / sigma)
        # 31 bits * density at both ends = 1/ln 2 * 1.5 * 2 sigma / 2^15; a window is
        # half as large again as asked for, on average
        density = 3 / math.log(2) * sigma / WHOLE / 62
        far = np.sqrt(np.maximum(-2 * np.log(density * math.sqrt(2 * math.pi)), 4))
        reach = np.minimum(np.ceil(MEAN_UNIT * far * sigma), MEAN_LIMIT)
        return cls(reciprocal.astype(np.int64), reach.astype(np.int64))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the set as plain arrays, to be stored with the weights."""
        return {"reciprocal": self.reciprocal, "reach": self.reach}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> ScaleSet:
        """Rebuild from :meth:`to_arrays`; raises ModelError when not valid."""
        missing = {"reciprocal", "reach"} - set(arrays)
        _require(not missing, f"arrays {sorted(missing)} are missing")
        return cls(arrays["reciprocal"], arrays["reach"])

    def fingerprint(self) -> int:
        """Return 32 bits that differ (almost surely) when any number does."""
        value = crc32c(self.reciprocal.astype("<i4").tobytes())  # BITSTREAM
        return crc32c(self.reach.astype("<i4").tobytes(), value)

    def __len__(self) -> int:
        return int(self.reciprocal.size)

    @functools.cached_property
    def limit(self) -> np.ndarray:
        """Distance from the mean that PHI ends at, in 1/64, (S,) int32."""
        return (Z_LIMIT << Z_SHIFT) // self.reciprocal

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """The scales as kernels read them, (S,) SCALE."""
        rows = np.zeros(len(self), SCALE)
        rows["reciprocal"], rows["limit"] = self.reciprocal, self.limit
        rows["reach"] = self.reach
        rows.flags.writeable = False
        return rows


@dataclass(frozen=True, eq=False)
class Mixture:
    """The distributions of n symbols, each a mixture of K = 1..4 Gaussians.

    scales:  the set that indexes point into
    means:   (K, n) int32, in 1/64, within ±2^21 (±32768 symbols)
    indexes: (K, n) uint8, each below len(scales)
    weights: (K, n) int16, in 1/256, their sums 256; None: K is 1

    NumPy arrays or CPU tensors of any integer type. A component of weight 0 does not
    count. Raises InputError for other shapes and numbers.
    """

    scales: ScaleSet
    means: Any
    indexes: Any
    weights: Any = None

    def __post_init__(self) -> None:
        means = integers(self.means, "means", "(components, n)", 2)
        if not 1 <= means.shape[0] <= MAX_COMPONENTS:
            raise InputError(f"{means.shape[0]} components; expected 1..4")
        weights = self.weights
        if weights is None and means.shape[0] == 1:
            weights = np.full(means.shape, WEIGHT_UNIT, np.int16)
        indexes = integers(self.indexes, "indexes", "(components, n)", 2)
        weights = integers(weights, "weights", "(components, n)", 2)
        if not means.shape == indexes.shape == weights.shape:
            raise InputError(
                f"a mixture has means {means.shape}, indexes {indexes.shape} and "
                f"weights {weights.shape}; expected one shape (components, n)"
            )
        arrays = {"means": means, "indexes": indexes, "weights": weights}
        vars(self).update(arrays)
        self.check()  # before they are narrowed
        for name, dtype in zip(arrays, (np.int32, np.uint8, np.int16), strict=True):
            vars(self)[name] = np.ascontiguousarray(arrays[name], dtype)

    @classmethod
    def trusted(
        cls,
        scales: ScaleSet,
        means: np.ndarray,
        indexes: np.ndarray,
        weights: np.ndarray,
    ) -> Mixture:
        """Return a mixture of contiguous arrays of its own types, known to be right.

        Nothing is looked at here: for many symbols that takes as long as a fifth of
        coding them. The coder refuses bins that do not exist all the same.
        """
        found = cls.__new__(cls)
        vars(found).update(scales=scales, means=means, indexes=indexes, weights=weights)
        return found

    def check(self) -> None:
        """Raise InputError unless the arrays are distributions."""
        within(self.means, -MEAN_LIMIT, MEAN_LIMIT, "means")
        within(self.indexes, 0, len(self.scales) - 1, "indexes")
        within(self.weights, 0, WEIGHT_UNIT, "weights")
        if (self.weights.sum(axis=0, dtype=np.int32) != WEIGHT_UNIT).any():
            raise InputError("the weights of a mixture must have the sum 256")

    def __len__(self) -> int:
        return int(self.means.shape[1])

    def checksum(self, value: int = 0) -> int:
        """Return the CRC-32C of means, indexes and weights, on from ``value``."""
        for array in (self.means, self.indexes, self.weights):  # BITSTREAM
            octets = array.astype(array.dtype.newbyteorder("<"), copy=False)
            value = crc32c(octets.tobytes(), value)
        return value

    def clamp(self, values: Any) -> np.ndarray:
        """Return the nearest values that can be coded: those of 16 bits, int32."""
        limits = np.iinfo(np.int16)
        return np.clip(np.asarray(values), limits.min, limits.max).astype(np.int32)

    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each symbol's ``first`` and w, (n,) int64."""
        means, counts = self.means.astype(np.int64), self.weights > 0
        reach = self.scales.reach[self.indexes].astype(np.int64)
        far = 4 * MEAN_LIMIT
        low = np.where(counts, means - reach, far).min(axis=0) + 32 >> 6
        high = np.where(counts, means + reach, -far).max(axis=0) + 32 >> 6
        wanted = high - low + 1
        bits = np.frexp(np.minimum(wanted, (1 << WINDOW_BITS) - 1))[1].astype(np.int64)
        return low - ((1 << bits) - 1 - wanted >> 1), bits

    def intervals(self, symbols: np.ndarray) -> Intervals:
        """Return where symbols (n,) int32 lie; a value outside is the escape."""
        first, bits = self.window()
        slot = symbols.astype(np.int64) - first + 1
        escaped = (slot < 1) | (slot >> bits > 0)
        slot[escaped] = 0
        at = np.arange(len(self))
        starts = self._below(at, first, bits, slot)
        return Intervals(
            starts, self._below(at, first, bits, slot + 1) - starts, escaped
        )

    def expand(self, begin: int, end: int) -> Expanded:
        """Return all slots of the symbols ``begin`` .. ``end - 1``."""
        first, bits = (part[begin:end] for part in self.window())
        rows = np.concatenate([[0], np.cumsum(1 << bits)])
        own = np.repeat(np.arange(end - begin), 1 << bits)
        slot = np.arange(rows[-1]) - rows[own]
        starts = self._below(begin + own, first[own], bits[own], slot)
        ends = np.append(starts[1:], WHOLE)
        ends[rows[1:] - 1] = WHOLE
        return Expanded(rows, starts, ends - starts, first - 1, True)

    def _below(
        self, at: np.ndarray, first: np.ndarray, bits: np.ndarray, slot: np.ndarray
    ) -> np.ndarray:
        """Return c(slot) of the symbols at positions ``at``, int64."""
        index = self.indexes[:, at]
        edge = 64 * (first + slot - 1) - 32 - self.means[:, at]
        limit = self.scales.limit[index]
        z = np.clip(edge, -limit, limit) * self.scales.reciprocal[index].astype("i8")
        share = self.weights[:, at] * phi_table()[z + _ROUND >> Z_SHIFT].astype(
            np.int64
        )
        below = (share.sum(axis=0) >> 8) * (WHOLE - (1 << bits)) >> 16
        inner = np.where(slot >> bits > 0, WHOLE, below + slot)
        return np.where(slot == 0, 0, inner)

    def bits(self, values: Any) -> float:
        """Return the cost of values (n,) in bits, escapes' raw bits included."""
        found = self.intervals(np.asarray(values).reshape(-1))
        return float(
            (PRECISION - np.log2(found.freqs)).sum() + 16 * found.escaped.sum()
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(f"scales are not valid; {message}; export again")
