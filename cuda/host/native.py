# SPDX-License-Identifier: Apache-2.0
"""The C library of the range coder (host.cpp), called through ctypes.

The package's build compiles it when there is a compiler; ctypes needs no Python
headers and lets go of the interpreter lock while the library works. It is looked
for beside this file, where wheels, editable installs and ``polycodec.cuda.host.build``
put it. Without it everything works in NumPy.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import os
import pathlib
import platform
from typing import TYPE_CHECKING

import numpy as np

from polycodec.cuda.host import native_priors, threads
from polycodec.cuda.host.layouts import Tables, prepare
from polycodec.cuda.lanes import Lanes
from polycodec.cuda.priors.integer_cdf import PRECISION
from polycodec.cuda.tables import TableSet
from polycodec.errors import UsageError

if TYPE_CHECKING:
    from polycodec.cuda.priors.categorical import Categorical
    from polycodec.cuda.priors.mixture import Mixture

NAME = "native"
ABI = 4  # of host.cpp: a stale build is refused
_ARM = platform.machine().lower() in ("aarch64", "arm64")
# In the order of the library's numbers.
SIMD = ("scalar", "neon") if _ARM else ("scalar", "avx2", "avx512")
_SHORT = 1 << 16  # rows that 16 bits number; NEON's kernels want 32
_FINE, _WORDS_RAN_OUT, _SIDE_RAN_OUT = 0, 1, 2


class _Lanes(ctypes.Structure):
    """``RansLanes`` of host.cpp."""

    _fields_ = (
        ("chunks", ctypes.c_int32),
        ("lanes", ctypes.c_int32),
        ("mini", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("states", "words", "word", "word_end"),
                *("side", "side_next", "side_end"),
            )
        ),
    )


class Library:
    """The loaded C library with its functions' types declared."""

    def __init__(self, path: pathlib.Path) -> None:
        """Load ``path``; raises OSError when it is not a library of this ABI."""
        loaded = ctypes.CDLL(str(path))
        try:
            abi = loaded.polycodec_abi()
            self.crc = loaded.polycodec_crc32c
            self.best_simd = loaded.polycodec_simd()
            self.rows = loaded.polycodec_rows
            self.encode_pass = loaded.polycodec_encode_pass
            self.decode_pass = loaded.polycodec_decode_pass
            self.short_rows = loaded.polycodec_short_rows
            self.short_cost = loaded.polycodec_short_cost
            self.encode_short = loaded.polycodec_encode_short
            self.priors = native_priors.Calls(loaded)
        except AttributeError as error:
            raise OSError(f"{path.name} is not the coder: {error}") from error
        if abi != ABI:
            raise OSError(f"{path.name} has ABI {abi}, expected {ABI}")
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self.crc.restype = ctypes.c_uint32
        self.crc.argtypes = (pointer, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int)
        self.rows.restype = i64
        self.rows.argtypes = (
            *(pointer, pointer, pointer, i32, i64, i32),
            *(pointer, pointer, pointer, i64, pointer),
        )
        self.encode_pass.restype = i64
        self.encode_pass.argtypes = (pointer, pointer, i64, pointer, i32, i32)
        self.short_rows.restype = i64
        self.short_rows.argtypes = (
            *(pointer, pointer, pointer, i32, i64, i32),
            *(pointer, pointer, i64, pointer),
        )
        self.short_cost.restype = ctypes.c_uint64
        self.short_cost.argtypes = (pointer, pointer, i64)
        self.encode_short.restype = i64
        self.encode_short.argtypes = self.encode_pass.argtypes
        self.decode_pass.restype = i64
        self.decode_pass.argtypes = (
            *(pointer, pointer, i32, i64),
            *(pointer, i32, i32, pointer),
        )

    def crc32c(
        self, data: bytes | memoryview, value: int = 0, *, plain: bool = False
    ) -> int:
        """Do :func:`polycodec.cuda.crc32c`; ``plain``: without the instruction."""
        octets = np.frombuffer(data, dtype=np.uint8)
        return self.crc(octets.ctypes.data, octets.size, value & 0xFFFFFFFF, plain)


@functools.lru_cache(maxsize=1)
def _load() -> tuple[Library | None, str]:
    """Return the library, or None and the reason."""
    folder = pathlib.Path(__file__).resolve().parent
    reasons = []
    # The plain suffix comes last in Python's list: one library serves every Python.
    for suffix in reversed(importlib.machinery.EXTENSION_SUFFIXES):
        path = folder / f"_rans{suffix}"
        if path.is_file():
            try:
                return Library(path), ""
            except OSError as error:
                reasons.append(str(error))
    return None, "; ".join(reasons) or f"no _rans library in {folder}"


def library() -> Library | None:
    """Return the loaded C library, or None: NumPy does the work then."""
    return _load()[0]


def reason() -> str:
    """Say why there is no library; empty when there is one."""
    return _load()[1]


def simd() -> int:
    """Return what the library may use, a place in ``SIMD``.

    The best that the processor can do, or what POLYCODEC_SIMD names; UsageError when
    that is no name or more than the processor can do.
    """
    best = library().best_simd
    name = os.environ.get("POLYCODEC_SIMD", "")
    if not name:
        return best
    if name not in SIMD or SIMD.index(name) > best:
        raise UsageError(
            f"POLYCODEC_SIMD is '{name}'; this processor has {SIMD[: best + 1]}"
        )
    return SIMD.index(name)


def rows(
    tables: TableSet, symbols: np.ndarray, indexes: np.ndarray
) -> tuple[np.ndarray, int | None, np.ndarray]:
    """Return rows (n,), their cost in 1/256 bits, positions of escapes.

    uint16 where that holds all rows of the set, and then no cost: see :func:`cost`.
    """
    level, short = simd(), tables.freqs.size <= _SHORT and not _ARM
    found = np.empty(symbols.size, dtype=np.uint16 if short else np.uint32)
    table = ctypes.addressof(prepare(tables).struct)
    what = (symbols.ctypes.data, indexes.ctypes.data)
    what += (indexes.itemsize, symbols.size, level)
    cost, escaped = ctypes.c_uint64(), ctypes.c_int64()
    # Escapes are rare; where they are not, a second try has room for all.
    for room in (symbols.size // 64 + 64, symbols.size):
        escapes = np.empty(room, dtype=np.int64)
        rest = (escapes.ctypes.data, room, ctypes.addressof(escaped))
        if short:
            bad = library().short_rows(table, *what, found.ctypes.data, *rest)
        else:
            out = (found.ctypes.data, ctypes.addressof(cost))
            bad = library().rows(table, *what, *out, *rest)
        if bad >= 0:
            raise tables.not_codable(bad, symbols, indexes)
        if escaped.value <= room:
            break
    return found, None if short else cost.value, escapes[: escaped.value]


def cost(tables: TableSet, rows: np.ndarray) -> int:
    """Return the cost of rows (n,) uint16 in 1/256 bits."""
    table = ctypes.addressof(prepare(tables).struct)
    return library().short_cost(table, rows.ctypes.data, rows.size)


def encode_pass(tables: TableSet, rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass; passes come in reverse order. rows: (n,) uint16 or uint32."""
    _encode(prepare(tables).struct, rows, lanes)


def _encode(tables: Tables, rows: np.ndarray, lanes: Lanes) -> None:
    struct = _describe(lanes)
    short = rows.dtype == np.uint16
    encode = library().encode_short if short else library().encode_pass
    status = encode(
        ctypes.addressof(tables),
        rows.ctypes.data,
        rows.size,
        ctypes.addressof(struct),
        simd(),
        threads.for_symbols(rows.size),
    )
    assert status == _FINE, f"the encoder's own buffers do not fit, status {status}"


def prior_rows(
    prior: Mixture | Categorical, symbols: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return (n,) ENTRY, their cost in 1/256 bits, positions of escapes."""
    return native_priors.prior_rows(library().priors, simd(), prior, symbols)


def encode_prior(rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass of :func:`prior_rows`; passes come in reverse order."""
    # To an encoder these are one table of n rows, of which each symbol has its own.
    numbers = np.arange(rows.size, dtype=np.uint32)
    first = np.array([0, rows.size], np.uint32)
    tables = Tables(PRECISION, 1, first=first.ctypes.data, rows=rows.ctypes.data)
    _encode(tables, numbers, lanes)


def decode_pass(tables: TableSet, indexes: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Decode the next pass. indexes: (n,) table of each symbol. Returns int32."""
    symbols = np.empty(indexes.size, dtype=np.int32)
    struct = _describe(lanes)
    status = library().decode_pass(
        ctypes.addressof(prepare(tables).struct),
        indexes.ctypes.data,
        indexes.itemsize,
        indexes.size,
        ctypes.addressof(struct),
        simd(),
        threads.for_symbols(indexes.size),
        symbols.ctypes.data,
    )
    _check(status, lanes)
    return symbols


def decode_prior(prior: Mixture | Categorical, lanes: Lanes) -> np.ndarray:
    """Decode the next pass, a prior for each symbol. Returns (n,) int32."""
    struct = _describe(lanes)
    status, symbols = native_priors.decode_prior(
        library().priors, simd(), prior, struct
    )
    _check(status, lanes)
    return symbols


def _check(status: int, lanes: Lanes) -> None:
    """Raise what a report says went wrong."""
    if status & 7 == _WORDS_RAN_OUT:
        raise lanes.words_ran_out(status >> 3)
    if status & 7 == _SIDE_RAN_OUT:
        raise lanes.side_ran_out(status >> 3)
    assert status == _FINE, f"stream.py let bad arguments through, status {status}"


def _describe(lanes: Lanes) -> _Lanes:
    """Return the C view of ``lanes``; the library changes the arrays in place."""
    chunks, width = lanes.states.shape
    arrays = (
        *(lanes.states, lanes.words, lanes.word, lanes.word_end),
        *(lanes.side, lanes.side_next, lanes.side_end),
    )
    assert all(array.flags.c_contiguous for array in arrays)
    pointers = (array.ctypes.data for array in arrays)
    return _Lanes(chunks, width, lanes.mini, *pointers)
