# SPDX-License-Identifier: Apache-2.0
"""The structures of the C library: mirrors of host.h, field by field.

    Tables, Lanes, Prior    RansTables, RansLanes, RansPrior of host/host.h
    ENTRY, SCALE            EncodeRow of core.h, Scale of priors/priors.h

library.py compares the ABI number and the sizes with the library's own and refuses
another build. A structure holds addresses, so it also holds the arrays behind them:
whoever has the structure in hand has all that the library will read.
"""

from __future__ import annotations

import ctypes

import numpy as np

ABI = 5  # of host.cpp; raised with every change of a structure or of a function

_I32 = ctypes.c_int32

# One symbol as the encoders read it.
ENTRY = np.dtype([("start", "u2"), ("freq", "u2"), ("reciprocal", "u4")])
# A bin of scales: 2^20 * 2 / sigma, and two distances in 1/64 of a symbol.
SCALE = np.dtype([(name, "i4") for name in ("reciprocal", "limit", "reach", "unused")])


def address(array: np.ndarray) -> int:
    """Return where an array lies: `array.ctypes.data`, in a third of its time."""
    if array.size and array.flags.writeable:
        # Stubs call an array a buffer from Python 3.12 on.
        at = ctypes.c_char.from_buffer(array)  # type: ignore[arg-type]
        return ctypes.addressof(at)
    return array.ctypes.data


class _Structure(ctypes.Structure):
    """A structure that keeps what its addresses point to."""

    arrays: dict[str, np.ndarray]

    def point_to(self, **arrays: np.ndarray | None) -> None:
        """Set the fields of these names to the arrays' addresses; None: null."""
        self.arrays = {name: a for name, a in arrays.items() if a is not None}
        for name, array in self.arrays.items():
            assert array.flags.c_contiguous, name
            setattr(self, name, address(array))


def _pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


class Tables(_Structure):
    """``RansTables``: a set of tables in the library's layouts (layouts.py)."""

    _fields_ = (
        ("precision", _I32),
        ("count", _I32),
        *_pointers("first", "minimum", "has_escape", "costs", "rows", "packed"),
        *_pointers("wide", "numbers", "starts", "starts_of", "guess"),
        *_pointers("base", "range", "below"),
        ("guess_bits", _I32),
        *_pointers("folded", "splits"),
    )


class Lanes(_Structure):
    """``RansLanes``: states, words and escapes, which the library changes in place."""

    _fields_ = (
        ("chunks", _I32),
        ("lanes", _I32),
        ("mini", _I32),
        *_pointers("states", "words", "word", "word_end"),
        *_pointers("side", "side_next", "side_end"),
    )


class Prior(_Structure):
    """``RansPrior``: the distributions of n symbols."""

    _fields_ = (
        ("kind", _I32),
        ("size", _I32),
        ("n", ctypes.c_int64),
        *_pointers("means", "bins", "weights", "scales", "phi", "logits", "powers"),
        ("count", _I32),
    )


# In the order of polycodec_sizeof.
SIZES = {
    "RansTables": ctypes.sizeof(Tables),
    "RansLanes": ctypes.sizeof(Lanes),
    "RansPrior": ctypes.sizeof(Prior),
    "EncodeRow": ENTRY.itemsize,
    "Scale": SCALE.itemsize,
}


def entries(starts: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """Return ENTRY (n,) of symbols that own [start, start + freq)."""
    out = np.empty(freqs.size, ENTRY)
    out["start"], out["freq"] = starts, freqs
    # The row of an escape that a table lacks has frequency 0 and is never coded.
    # 2^32 / 1 does not fit 32 bits: 2^32 - 1 serves as well.
    divisor = np.maximum(freqs.astype(np.int64), 1)
    out["reciprocal"] = np.minimum((1 << 32) // divisor, (1 << 32) - 1)
    return out
