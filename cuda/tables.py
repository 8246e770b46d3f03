# SPDX-License-Identifier: Apache-2.0
"""Frequency tables: what the range coder knows about its symbols.

A table is a row of slots whose integer frequencies sum to 2^P:

    slot     0        1          2        ...  size-1
    symbol   escape   minimum    minimum+1     minimum+size-2
    freq     f_0      f_1        f_2           f_(size-1)       Σ f = 2^P

A symbol costs P - log2 f bits. Slot 0 announces a value outside the table, which
then follows as 16 raw bits; frequency 0 there means that this table has no escape.
A slot may own all 2^P: such a symbol costs nothing and changes nothing.

Tables are built once, at export, and stored with the weights: floats never
decide a frequency on the user's machine.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.cuda.host.checksum import crc32c
from polycodec.errors import InputError, ModelError

MIN_PRECISION, MAX_PRECISION = 8, 15  # BITSTREAM: states keep a 16-bit lower bound
INT16 = np.iinfo(np.int16)
MAX_TABLES = 1 << 16
COST_UNIT = 256  # `costs` counts in 1/256 bit


@dataclass(frozen=True, eq=False)
class TableSet:
    """Tables of one precision; symbols choose theirs by an index.

    precision: P, 8..15
    sizes:     (T,) int32   slots per table, the escape's slot 0 included
    minimum:   (T,) int32   symbol of slot 1
    freqs:     (sum of sizes,) uint16, one table after the other

    Raises ModelError when the arrays are not valid tables.
    """

    precision: int
    sizes: np.ndarray
    minimum: np.ndarray
    freqs: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", _precision(self.precision))
        for name, dtype in (("sizes", "i4"), ("minimum", "i4"), ("freqs", "u2")):
            array = _narrow(getattr(self, name), np.dtype(dtype), name)
            object.__setattr__(self, name, array)
        self._check()

    def _check(self) -> None:
        p, sizes = self.precision, self.sizes.astype(np.int64)
        _require(sizes.size == self.minimum.size, "sizes and minimum differ in length")
        _require(1 <= sizes.size <= MAX_TABLES, f"{sizes.size} tables, not 1..65536")
        _require(bool((sizes >= 2).all()), "a table has no symbol (size below 2)")
        _require(bool((sizes <= (1 << p) + 1).all()), "a table has over 2^P slots")
        _require(int(sizes.sum()) == self.freqs.size, "freqs are not sum(sizes) long")
        sums = np.add.reduceat(self.freqs.astype(np.int64), self.first[:-1])
        wrong = np.flatnonzero(sums != 1 << p)
        _require(wrong.size == 0, f"frequencies of tables {wrong[:4]} miss 2^{p}")
        zero = self.freqs == 0
        zero[self.first[:-1]] = False
        _require(not zero.any(), "a symbol has frequency 0")
        low, high = self.minimum.astype(np.int64), self.maximum.astype(np.int64)
        _require(bool((low + sizes - 2 == high).all()), "symbols exceed 32 bits")
        wide = self.has_escape & ((low < INT16.min) | (high > INT16.max))
        _require(not wide.any(), "a table with an escape exceeds 16-bit symbols")

    @classmethod
    def from_pmfs(
        cls,
        pmfs: Sequence[np.ndarray],
        minimum: Sequence[int],
        precision: int,
        escape: Sequence[float | None] | None = None,
    ) -> TableSet:
        """Round probabilities to tables; every listed symbol keeps a slot.

        pmfs: per table (K,) float, not negative, of any sum. minimum: symbol of
        the first entry. escape: probability of all other symbols on the same
        scale as the pmf, None or 0 for a table without an escape.
        """
        precision = _precision(precision)
        _require(len(pmfs) > 0, "there is no table")
        _require(len(pmfs) == len(minimum), "pmfs and minimum differ in length")
        tails = [None] * len(pmfs) if escape is None else list(escape)
        _require(len(tails) == len(pmfs), "pmfs and escape differ in length")
        rows = []
        for number, (pmf, tail) in enumerate(zip(pmfs, tails, strict=True)):
            row, rest = (_array(a, f"table {number}") for a in (pmf, tail or 0.0))
            flat = row.ndim == 1 and rest.ndim == 0
            _require(flat, f"table {number}: no row of numbers, or no number to escape")
            weights = np.append(rest, row).astype(np.float64)
            with np.errstate(over="ignore"):
                total = weights.sum()
            fine = np.isfinite(total) and (weights >= 0).all()
            _require(
                bool(fine and weights[1:].sum() > 0),
                f"table {number}: probabilities and their sum must be finite, >= 0 and "
                "not all 0",
            )
            skip = 0 if tail else 1
            _require(
                weights.size - skip <= 1 << precision,
                f"table {number}: {weights.size} slots do not fit 2^{precision}",
            )
            freqs = np.zeros(weights.size, np.int64)
            freqs[skip:] = round_frequencies(weights[skip:], 1 << precision)
            rows.append(freqs)
        sizes = np.array([row.size for row in rows])
        return cls(precision, sizes, np.asarray(minimum), np.concatenate(rows))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the tables as plain arrays, to be stored with the weights."""
        return {
            "precision": np.array([self.precision], dtype=np.int32),
            "sizes": self.sizes,
            "minimum": self.minimum,
            "freqs": self.freqs,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> TableSet:
        """Rebuild from :meth:`to_arrays`; raises ModelError when not valid."""
        missing = {"precision", "sizes", "minimum", "freqs"} - set(arrays)
        _require(not missing, f"arrays {sorted(missing)} are missing")
        names = ("precision", "sizes", "minimum", "freqs")
        return cls(*(arrays[name] for name in names))

    def fingerprint(self) -> int:
        """Return 32 bits that differ (almost surely) when any frequency does."""
        value = crc32c(np.array([self.precision, len(self)], "<u4").tobytes())
        for array, dtype in (
            (self.sizes, "<i4"),  # BITSTREAM: files may store the result
            (self.minimum, "<i4"),
            (self.freqs, "<u2"),
        ):
            value = crc32c(array.astype(dtype).tobytes(), value)
        return value

    def __len__(self) -> int:
        return int(self.sizes.size)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """First row of each table in ``freqs``, and the end, (T + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)])

    @functools.cached_property
    def maximum(self) -> np.ndarray:
        """Symbol of each table's last slot, (T,) int32."""
        return self.minimum + self.sizes - np.int32(2)

    @functools.cached_property
    def has_escape(self) -> np.ndarray:
        """Whether a table can code symbols outside its range, (T,) bool."""
        return self.freqs[self.first[:-1]] > 0

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Sum of the frequencies before each row in its table, uint16."""
        ends = np.cumsum(self.freqs, dtype=np.int64)
        # Every table sums to 2^P, so the running sum restarts by a mask.
        starts = (ends - self.freqs) & ((1 << self.precision) - 1)
        # A row after all 2^P cannot exist, but an empty slot 0 at 0 can.
        return starts.astype(np.uint16)

    @functools.cached_property
    def is_escape(self) -> np.ndarray:
        """Whether a row is a table's slot 0, (rows,) bool."""
        marks = np.zeros(self.freqs.size, dtype=bool)
        marks[self.first[:-1]] = True
        return marks

    @functools.cached_property
    def symbols(self) -> np.ndarray:
        """Symbol of each row (of slot 0: meaningless), (rows,) int32."""
        slot = np.arange(self.freqs.size) - np.repeat(self.first[:-1], self.sizes)
        return (np.repeat(self.minimum, self.sizes) + slot - 1).astype(np.int32)

    def guesses(self, bits: int) -> np.ndarray:
        """Slot that holds the first value of each of a table's 2^bits buckets, flat."""
        # Rows' ends grow over the whole set when each table is moved up by 2^P, so that
        # one search serves all.
        buckets = np.arange(len(self) << bits) << (self.precision - bits)
        row = np.searchsorted(np.cumsum(self.freqs, dtype=np.int64), buckets, "right")
        return row - np.repeat(self.first[:-1], 1 << bits)

    @functools.cached_property
    def ideal(self) -> np.ndarray:
        """Bits of each row, raw bits of an escape included, (rows,) float64."""
        bits = self.precision - np.log2(np.maximum(self.freqs, 1).astype(np.float64))
        return bits + 16.0 * self.is_escape

    @functools.cached_property
    def costs(self) -> np.ndarray:
        """``ideal`` in 1/256 bit, (rows,) uint16: integers, the same anywhere."""
        return np.rint(self.ideal * COST_UNIT).astype(np.uint16)

    @functools.cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest symbol of each table, (T,) int32 each."""
        low = np.where(self.has_escape, INT16.min, self.minimum)
        high = np.where(self.has_escape, INT16.max, self.maximum)
        return low.astype(np.int32), high.astype(np.int32)

    def clamp(self, values: Any, indexes: Any) -> np.ndarray:
        """Return the nearest symbols that can be coded, int32, shape of values."""
        values, table = np.asarray(values), np.asarray(indexes).astype(np.int64)
        low, high = self.limits
        return np.clip(values, low[table], high[table]).astype(np.int32)

    def bits(self, values: Any, indexes: Any) -> float:
        """Return the ideal cost of symbols in bits, escapes' raw bits included."""
        values = np.asarray(values).reshape(-1)
        return float(self.ideal[self.rows(values, np.asarray(indexes))].sum())

    def rows(self, symbols: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        """Return the row of ``freqs`` that codes each symbol, (n,) uint32.

        Raises InputError for a symbol that its table cannot code.
        """
        table = indexes.reshape(-1).astype(np.int64)
        slot = symbols.astype(np.int64) - self.minimum[table] + 1
        outside = (slot < 1) | (slot >= self.sizes[table])
        slot[outside] = 0
        wide = (symbols < INT16.min) | (symbols > INT16.max)
        bad = outside & (wide | ~self.has_escape[table])
        if bad.any():
            raise self.not_codable(int(np.argmax(bad)), symbols, indexes)
        return (self.first[table] + slot).astype(np.uint32)

    def not_codable(
        self, position: int, symbols: np.ndarray, indexes: np.ndarray
    ) -> InputError:
        """Return the error for the symbol at ``position``."""
        table = int(indexes[position])
        low, high = int(self.minimum[table]), int(self.maximum[table])
        if self.has_escape[table]:
            low, high = int(INT16.min), int(INT16.max)
        return InputError(
            f"symbol {int(symbols[position])} at {position} cannot be coded; "
            f"table {table} takes {low}..{high}; clamp it first (TableSet.clamp)"
        )


def round_frequencies(weights: np.ndarray, total: int) -> np.ndarray:
    """Return integers >= 1 that sum to ``total``, at the least cost in bits.

        minimise  - Σ p_k log2(f_k / total)    with  f_k >= 1,  Σ f_k = total

    weights: (K,) float, not negative, not all zero, K <= total. Returns (K,) int64.

    One more unit for slot k saves p_k log2((f_k + 1) / f_k) bits, a saving that only
    shrinks as f_k grows. So moving single units from where they cost least to where
    they save most ends in the optimum, whatever the starting point.
    """
    p = weights / weights.sum()
    f = np.maximum(np.floor(p * total), 1.0)
    excess = int(f.sum()) - total
    for _ in range(-excess):
        f[np.argmax(_saving(p, f))] += 1
    for _ in range(excess):
        f[np.argmin(_price(p, f))] -= 1
    # Each exchange lowers the cost, and there are finitely many roundings; the
    # margin keeps float noise from swapping two equal slots for ever.
    while True:
        saving, price = _saving(p, f), _price(p, f)
        up, down = int(np.argmax(saving)), int(np.argmin(price))
        if up == down or saving[up] <= price[down] * (1 + 1e-9):
            return f.astype(np.int64)
        f[up] += 1
        f[down] -= 1


def _saving(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the bits saved by one unit more, per slot."""
    return p * np.log2((f + 1) / f)


def _price(p: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the bits lost by one unit less, per slot; a slot at 1 cannot give."""
    with np.errstate(divide="ignore"):
        return np.where(f > 1, p * np.log2(f / np.maximum(f - 1, 1)), np.inf)


def _narrow(array: Any, dtype: np.dtype, name: str) -> np.ndarray:
    """Return ``array`` as a flat, read-only copy of ``dtype``; check that it fits."""
    array = _array(array, name)
    _require(array.dtype.kind in "iu" and array.ndim <= 1, f"{name} is no integer row")
    limits = np.iinfo(dtype)
    fits = array.size == 0 or (limits.min <= array.min() and array.max() <= limits.max)
    _require(bool(fits), f"{name} has values outside {dtype.name}")
    array = array.reshape(-1).astype(dtype)
    array.flags.writeable = False
    return array


def _precision(value: Any) -> int:
    """Return one whole number in 8 .. 15."""
    array = _narrow(value, np.dtype("i4"), "precision")
    fits = array.size == 1 and MIN_PRECISION <= array[0] <= MAX_PRECISION
    _require(bool(fits), f"precision is {value}, not 8..15")
    return int(array[0])


def _array(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers; lists of several lengths are none."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ModelError(f"frequency tables are not valid; {name}: {error}") from error
    _require(array.dtype.kind in "biuf", f"{name} is {array.dtype}, not numbers")
    return array


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelError(f"frequency tables are not valid; {message}; export again")
