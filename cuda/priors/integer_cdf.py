# SPDX-License-Identifier: Apache-2.0
"""Distributions evaluated in integers while coding: what they have in common.

A table (tables.py) serves many symbols; a *prior* belongs to one symbol each, and its
cumulative frequencies c(k) are computed where they are needed, in integers:

    slot k owns [c(k), c(k + 1)) of the 2^15,   c(0) = 0,   c(slots) = 2^15
    c(k) = (something that never falls, below 2^15 - slots) + k

so every slot has a frequency of 1 at least and nothing needs a repair. Floats come
near none of it. mixture.py and categorical.py say what the something is.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from polycodec.errors import InputError

PRECISION = 15  # BITSTREAM: P of every pass that is coded with a prior
WHOLE = 1 << PRECISION
ESCAPE_COST = 16 << 8  # raw bits of an escape in 1/256 bit


class Intervals(NamedTuple):
    """Where symbols lie: what an encoder needs of them.

    starts, freqs: (n,) int64. escaped: (n,) bool, coded as the escape's slot.
    """

    starts: np.ndarray
    freqs: np.ndarray
    escaped: np.ndarray


class Expanded(NamedTuple):
    """All slots of some symbols, one symbol after the other.

    first: (m + 1,) int64, each symbol's first row, and the end. starts, freqs: (rows,)
    int64. base: (m,) int64, what to add to a slot's number to have the value.
    escape: slot 0 is an escape.
    """

    first: np.ndarray
    starts: np.ndarray
    freqs: np.ndarray
    base: np.ndarray
    escape: bool


def estimate(freqs: np.ndarray) -> np.ndarray:
    """Return about -log2(freq / 2^15) in 1/256 bit, int64; within 5 units.

    It chooses the number of lanes, so all back ends must agree about it: integers,
    and a parabola for the part of the logarithm between powers of two.
    """
    return _estimates()[freqs]


@functools.cache
def _estimates() -> np.ndarray:
    f = np.arange(1, WHOLE + 1, dtype=np.int64)
    exponent = np.frexp(f.astype(np.float64))[1].astype(np.int64) - 1
    m = (f << 8 >> exponent) & 255
    costs = (PRECISION - exponent << 8) - m - (m * (256 - m) * 88 >> 16)
    return np.append(np.int64(0), costs)


def check_symbols(prior: Any, symbols: np.ndarray) -> None:
    """Raise InputError unless ``prior`` can code all symbols (n,) int32."""
    prior.check()  # arrays may have been changed since
    if symbols.size != len(prior):
        raise InputError(
            f"a pass has {symbols.size} symbols but its prior is for {len(prior)}"
        )
    wrong = np.flatnonzero(prior.clamp(symbols) != symbols)
    if wrong.size:
        raise not_codable(prior, int(wrong[0]), symbols)


def not_codable(prior: Any, at: int, symbols: np.ndarray) -> InputError:
    """Return the error for the symbol at position ``at``."""
    nearest = int(prior.clamp(symbols[at]))
    return InputError(
        f"symbol {int(symbols[at])} at {at} cannot be coded; the nearest that can is "
        f"{nearest}; clamp first"
    )


def as_array(values: Any, name: str) -> np.ndarray:
    """Return an array; raises InputError for lists of several lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} are no array: {error}") from error


def integers(values: Any, name: str, shape: str, ndim: int) -> np.ndarray:
    """Return an integer array of ``ndim`` axes; raises InputError otherwise."""
    array = as_array(values, name)
    if array.dtype.kind not in "iu" or array.ndim != ndim:
        raise InputError(
            f"{name} are {array.dtype} of shape {array.shape}; expected integers of "
            f"shape {shape}"
        )
    return array


def within(array: np.ndarray, low: int, high: int, name: str) -> None:
    """Raise InputError unless all values are in ``low`` .. ``high``."""
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        raise InputError(
            f"{name} are {array.min()}..{array.max()}; expected {low}..{high}"
        )
