# SPDX-License-Identifier: Apache-2.0
"""Frequency tables as the C library reads them: built once per set and kept with it.

    packed   number 8 | freq - 1 12 | bias 12     one word for each of a table's 2^P
             slots: the fastest; P <= 12, 256 slots
    folded   the same for 512 slots: the number's ninth bit is whether r >= the start of
             slot 256, which kernels keep in registers; 64 tables
    wide     freq - 1 16 | bias 16, number 16     the same in 6 bytes: one shared
             table of any size, or a few
    search   starts and a first guess             for all others, and small

A set has its decoding tables in exactly one of these; host.h describes the fields.
"""

from __future__ import annotations

import platform

import numpy as np

from polycodec.cuda.host import abi
from polycodec.cuda.kept import Kept
from polycodec.cuda.tables import INT16, TableSet

# 16 MiB: building larger packed tables takes a noticeable time. Wide ones are still
# faster than a search where they exceed the second cache (6 MiB where measured).
_PACKED_WORDS = 1 << 22
_WIDE_WORDS = 1 << 20
_GUESS_BITS = 10  # 2 KiB per searched table
# Only kernels of this family know folded tables; the others are faster with wide ones.
_FOLDED = platform.machine().lower() in ("x86_64", "amd64")
_IN_REGISTERS = 64  # tables whose few numbers the kernels keep in registers


def _lay_out(tables: TableSet) -> abi.Tables:
    """Return the tables in the library's layouts."""
    guess_bits = min(_GUESS_BITS, tables.precision)
    starts, starts_of, guess = _search_tables(tables, guess_bits)
    base, spread, below = _for_kernels(tables)
    packed, folded, splits, wide, numbers = _packed(tables, 256), None, None, None, None
    if packed is None and below is not None and _FOLDED:
        folded = _packed(tables, 512)
        splits = None if folded is None else _splits(tables, below)
    if packed is None and folded is None:
        wide, numbers = _wide(tables)
    struct = abi.Tables(tables.precision, len(tables), guess_bits=guess_bits)
    struct.point_to(
        first=tables.first.astype(np.uint32),
        minimum=tables.minimum,
        has_escape=tables.has_escape.astype(np.uint8),
        costs=np.append(tables.costs, np.uint16(0)),
        rows=abi.entries(tables.starts, tables.freqs),
        packed=packed,
        wide=wide,
        numbers=numbers,
        starts=starts,
        starts_of=starts_of,
        guess=guess,
        base=base,
        range=spread,
        below=below,
        folded=folded,
        splits=splits,
    )
    return struct


def _slots(tables: TableSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return freq - 1, bias and number of every slot of 2^P, (T << P,) uint32 each."""
    number = np.arange(tables.freqs.size) - np.repeat(tables.first[:-1], tables.sizes)
    row = np.repeat(np.arange(tables.freqs.size), tables.freqs)
    whole = (1 << tables.precision) - 1
    bias = (np.arange(row.size) & whole) - tables.starts[row]
    more = tables.freqs[row].astype(np.uint32) - 1
    return more, bias.astype(np.uint32), number[row].astype(np.uint32)


def _packed(tables: TableSet, most: int) -> np.ndarray | None:
    """Return number | freq - 1 << 8 | bias << 20 of all slots, (T << P,) uint32.

    Of a number the low 8 bits; None if a table has over ``most`` slots.
    """
    fits = tables.precision <= 12 and tables.sizes.max() <= most
    if not fits or len(tables) << tables.precision > _PACKED_WORDS:
        return None
    more, bias, number = _slots(tables)
    return number & 0xFF | more << 8 | bias << 20


def _splits(tables: TableSet, below: np.ndarray) -> np.ndarray:
    """Return below | start of slot 256 << 16, or of none, (64,) uint32."""
    splits = np.full(below.size, 1 << tables.precision, np.uint32)
    many = np.flatnonzero(tables.sizes > 256)
    splits[many] = tables.starts[tables.first[many] + 256]
    return splits << np.uint32(16) | below


def _wide(tables: TableSet) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return freq - 1 | bias << 16, uint32, and the number, uint16, of all slots."""
    if len(tables) << tables.precision > _WIDE_WORDS:
        return None, None
    more, bias, number = _slots(tables)
    # Kernels read numbers as 32 bits: the last one must be followed by something.
    return more | bias << 16, np.append(number, 0).astype(np.uint16)


def _for_kernels(
    tables: TableSet,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return base, range and below of host.h, padded to 64 tables."""
    low, high = int(tables.minimum.min()), int(tables.maximum.max())
    if low < INT16.min or high > INT16.max:
        return None, None, None
    padding = (0, max(0, _IN_REGISTERS - len(tables)))
    minimum = tables.minimum.astype(np.int64)
    base = tables.first[:-1] + 1 - minimum
    spread = (minimum & 0xFFFF) | (tables.sizes.astype(np.int64) - 1) << 16
    below = None
    if len(tables) <= _IN_REGISTERS:
        # -32768 - 1 wraps, and wraps back when a slot's number is added to it.
        below = np.pad((minimum - 1) & 0xFFFF, padding).astype(np.uint16)
    base, spread = (np.pad(a & 0xFFFFFFFF, padding) for a in (base, spread))
    return base.astype(np.uint32), spread.astype(np.uint32), below


def _search_tables(
    tables: TableSet, guess_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the starts with a closing 2^P per table, their places, and guesses."""
    whole = 1 << tables.precision
    starts = np.insert(tables.starts, tables.first[1:], whole).astype(np.uint16)
    starts_of = (tables.first[:-1] + np.arange(len(tables))).astype(np.uint32)
    return starts, starts_of, tables.guesses(guess_bits).astype(np.uint16)


_PREPARED: Kept[abi.Tables] = Kept()


def prepare(tables: TableSet) -> abi.Tables:
    """Return the layouts of ``tables``, made at the first call."""
    return _PREPARED.get(tables, lambda: _lay_out(tables))
