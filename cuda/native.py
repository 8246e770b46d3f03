# SPDX-License-Identifier: Apache-2.0
"""The C library of the range coder (rans_host.cpp), called through ctypes.

The package's build compiles it when there is a compiler; ctypes needs no Python
headers and lets go of the interpreter lock while the library works. It is looked
for beside this file, where wheels, editable installs and ``polycodec.cuda.build``
put it. Without it everything works in NumPy.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import pathlib
import weakref

import numpy as np

from polycodec.cuda.lanes import Lanes
from polycodec.cuda.tables import TableSet

NAME = "native"
ABI = 1  # of rans_host.cpp: a stale build is refused
_FINE, _WORDS_RAN_OUT, _SIDE_RAN_OUT = 0, 1, 2
# One packed word per slot of 2^P while all tables take no more than this; above, and
# for P > 12, tables are searched: 16 MiB is where building them starts to be felt.
_PACKED_WORDS = 1 << 22
_GUESS_BITS = 10  # 2 KiB per searched table


class _Tables(ctypes.Structure):
    """``RansTables`` of rans_host.cpp."""

    _fields_ = (
        ("precision", ctypes.c_int32),
        ("count", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("first", "minimum", "has_escape", "costs", "rows", "packed"),
                *("starts", "starts_of", "guess"),
            )
        ),
        ("guess_bits", ctypes.c_int32),
    )


class _Lanes(ctypes.Structure):
    """``RansLanes`` of rans_host.cpp."""

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
            self.rows = loaded.polycodec_rows
            self.encode_pass = loaded.polycodec_encode_pass
            self.decode_pass = loaded.polycodec_decode_pass
        except AttributeError as error:
            raise OSError(f"{path.name} is not the coder: {error}") from error
        if abi != ABI:
            raise OSError(f"{path.name} has ABI {abi}, expected {ABI}")
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self.crc.restype = ctypes.c_uint32
        self.crc.argtypes = (pointer, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_int)
        self.rows.restype = i64
        self.rows.argtypes = (pointer, pointer, pointer, i32, i64, pointer, pointer)
        self.encode_pass.restype = i64
        self.encode_pass.argtypes = (pointer, pointer, i64, pointer)
        self.decode_pass.restype = i64
        self.decode_pass.argtypes = (pointer, pointer, i32, i64, pointer, pointer)

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
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
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


def rows(
    tables: TableSet, symbols: np.ndarray, indexes: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return each symbol's row (n,) uint32 and their cost in 1/256 bits."""
    found = np.empty(symbols.size, dtype=np.uint32)
    cost = ctypes.c_uint64()
    bad = library().rows(
        ctypes.addressof(_prepare(tables).struct),
        symbols.ctypes.data,
        indexes.ctypes.data,
        indexes.itemsize,
        symbols.size,
        found.ctypes.data,
        ctypes.addressof(cost),
    )
    if bad >= 0:
        raise tables.not_codable(bad, symbols, indexes)
    return found, cost.value


def encode_pass(tables: TableSet, rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass; passes come in reverse order. rows: (n,) uint32."""
    struct = _describe(lanes)
    status = library().encode_pass(
        ctypes.addressof(_prepare(tables).struct),
        rows.ctypes.data,
        rows.size,
        ctypes.addressof(struct),
    )
    assert status == _FINE, f"the encoder's own buffers do not fit, status {status}"


def decode_pass(tables: TableSet, indexes: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Decode the next pass. indexes: (n,) table of each symbol. Returns int32."""
    symbols = np.empty(indexes.size, dtype=np.int32)
    struct = _describe(lanes)
    status = library().decode_pass(
        ctypes.addressof(_prepare(tables).struct),
        indexes.ctypes.data,
        indexes.itemsize,
        indexes.size,
        ctypes.addressof(struct),
        symbols.ctypes.data,
    )
    if status & 7 == _WORDS_RAN_OUT:
        raise lanes.words_ran_out(status >> 3)
    if status & 7 == _SIDE_RAN_OUT:
        raise lanes.side_ran_out(status >> 3)
    assert status == _FINE, f"stream.py let bad arguments through, status {status}"
    return symbols


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


class _Prepared:
    """Tables in the library's layouts; holds the arrays that it points into."""

    def __init__(self, tables: TableSet) -> None:
        row = np.dtype([("start", "u2"), ("freq", "u2"), ("reciprocal", "u4")])
        entries = np.zeros(tables.freqs.size, dtype=row)
        entries["start"], entries["freq"] = tables.starts, tables.freqs
        # An empty escape's row is never coded; 2^32 / 1 does not fit: 2^32 - 1 does.
        divisor = np.maximum(tables.freqs.astype(np.uint64), 1)
        entries["reciprocal"] = np.minimum((1 << 32) // divisor, (1 << 32) - 1)
        guess_bits = min(_GUESS_BITS, tables.precision)
        starts, starts_of, guess = _search_tables(tables, guess_bits)
        arrays = {
            "first": tables.first.astype(np.uint32),
            "minimum": tables.minimum,
            "has_escape": tables.has_escape.astype(np.uint8),
            "costs": tables.costs,
            "rows": entries,
            "packed": _packed_tables(tables),
            "starts": starts,
            "starts_of": starts_of,
            "guess": guess,
        }
        self._arrays = arrays
        pointers = (None if a is None else a.ctypes.data for a in arrays.values())
        self.struct = _Tables(tables.precision, len(tables), *pointers, guess_bits)


def _packed_tables(tables: TableSet) -> np.ndarray | None:
    """Return number | freq - 1 << 8 | bias << 20 of all slots, (T << P,) uint32."""
    precision = tables.precision
    fits = precision <= 12 and tables.sizes.max() <= 256
    if not fits or len(tables) << precision > _PACKED_WORDS:
        return None
    number = np.arange(tables.freqs.size) - np.repeat(tables.first[:-1], tables.sizes)
    row = np.repeat(np.arange(tables.freqs.size), tables.freqs)
    bias = (np.arange(row.size) & ((1 << precision) - 1)) - tables.starts[row]
    freq = tables.freqs[row].astype(np.uint32)
    packed = number[row] | (freq - 1) << 8 | bias << 20
    return packed.astype(np.uint32)


def _search_tables(
    tables: TableSet, guess_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the starts with a closing 2^P per table, their places, and guesses."""
    whole = 1 << tables.precision
    starts = np.insert(tables.starts, tables.first[1:], whole).astype(np.uint16)
    starts_of = (tables.first[:-1] + np.arange(len(tables))).astype(np.uint32)
    # The slot that holds each bucket's first value. Rows' ends grow over the whole
    # set when each table is moved up by 2^P, so that one search serves all.
    row_ends = np.cumsum(tables.freqs, dtype=np.int64)
    buckets = np.arange(len(tables) << guess_bits) << (tables.precision - guess_bits)
    row = np.searchsorted(row_ends, buckets, side="right")
    guess = row - np.repeat(tables.first[:-1], 1 << guess_bits)
    return starts, starts_of, guess.astype(np.uint16)


_PREPARED: weakref.WeakKeyDictionary[TableSet, _Prepared] = weakref.WeakKeyDictionary()


def _prepare(tables: TableSet) -> _Prepared:
    if tables not in _PREPARED:
        _PREPARED[tables] = _Prepared(tables)
    return _PREPARED[tables]
