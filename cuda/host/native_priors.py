# SPDX-License-Identifier: Apache-2.0
"""Passes with priors in the C library: see native.py, of which this is a part."""

from __future__ import annotations

import ctypes
import functools
import weakref

import numpy as np

from polycodec.cuda.host import threads
from polycodec.cuda.priors.categorical import POWERS, Categorical
from polycodec.cuda.priors.integer_cdf import ENTRY, check_symbols
from polycodec.cuda.priors.mixture import Mixture, ScaleSet, phi_table

_FIELDS = ("means", "bins", "weights", "scales", "phi", "logits", "powers")


class Prior(ctypes.Structure):
    """``RansPrior`` of host.h."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("size", ctypes.c_int32),
        ("n", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _FIELDS),
        ("count", ctypes.c_int32),
    )


def describe(prior: Mixture | Categorical) -> Prior:
    """Return the C view of ``prior``; it must outlive the view."""
    if isinstance(prior, Categorical):
        pointers = {"logits": prior.logits, "powers": POWERS}
        kind, size, count = 1, prior.values, 0
    else:
        pointers = {
            "means": prior.means,
            "bins": prior.indexes,
            "weights": prior.weights,
            "scales": scale_rows(prior.scales),
            "phi": _phi(),
        }
        kind, size, count = 0, prior.means.shape[0], len(prior.scales)
    known = {name: array.ctypes.data for name, array in pointers.items()}
    places = (known.get(name) for name in _FIELDS)
    return Prior(kind, size, len(prior), *places, count)


@functools.cache
def _phi() -> np.ndarray:
    """PHI; kernels read 32 bits: the last entry must be followed by something."""
    return np.append(phi_table(), np.uint16(0))


_SCALES: weakref.WeakKeyDictionary[ScaleSet, np.ndarray] = weakref.WeakKeyDictionary()


def scale_rows(scales: ScaleSet) -> np.ndarray:
    """Return ``Scale`` of priors/priors.h for each scale, (S, 4) int32, kept."""
    if scales not in _SCALES:
        nothing = np.zeros(len(scales), np.int32)
        parts = (scales.reciprocal, scales.limit, scales.reach, nothing)
        _SCALES[scales] = np.stack(parts, axis=1).astype(np.int32)
    return _SCALES[scales]


class Calls:
    """The library's functions for priors with their types declared."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self.rows = loaded.polycodec_prior_rows
        self.decode = loaded.polycodec_decode_prior
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self.rows.restype = self.decode.restype = i64
        self.rows.argtypes = (pointer, pointer, i32, *(pointer,) * 3, i64, pointer)
        self.decode.argtypes = (pointer, pointer, i32, i32, pointer)


def prior_rows(
    calls: Calls, simd: int, prior: Mixture | Categorical, symbols: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return (n,) ENTRY, their cost in 1/256 bits, positions of escapes."""
    n = symbols.size
    if n != len(prior):
        check_symbols(prior, symbols)
    found, struct = np.empty(n, ENTRY), describe(prior)
    cost, escaped = ctypes.c_uint64(), ctypes.c_int64()
    # Escapes are rare; where they are not, a second try has room for all.
    for room in (n // 64 + 64, n):
        escapes = np.empty(room, dtype=np.int64)
        bad = calls.rows(
            *(ctypes.addressof(struct), symbols.ctypes.data, simd),
            *(found.ctypes.data, ctypes.addressof(cost)),
            *(escapes.ctypes.data, room, ctypes.addressof(escaped)),
        )
        if bad >= 0:
            check_symbols(prior, symbols)
        assert bad < 0, "the library refuses what its specification takes"
        if escaped.value <= room:
            break
    return found, cost.value, escapes[: escaped.value]


def decode_prior(
    calls: Calls, simd: int, prior: Mixture | Categorical, lanes: ctypes.Structure
) -> tuple[int, np.ndarray]:
    """Return the library's report and (n,) int32 symbols."""
    symbols, struct = np.empty(len(prior), dtype=np.int32), describe(prior)
    status = calls.decode(
        *(ctypes.addressof(struct), ctypes.addressof(lanes), simd),
        *(threads.for_symbols(len(prior)), symbols.ctypes.data),
    )
    return status, symbols
