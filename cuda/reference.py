# SPDX-License-Identifier: Apache-2.0
"""The range coder in NumPy: the specification of the bitstream, in code.

rANS (asymmetric numeral systems): a lane's whole past is one integer x. Coding a
symbol with frequency f out of 2^P, whose slots begin at b, multiplies x by 2^P / f:

    encode   x' = (x // f) * 2^P + x % f + b
    decode   r  = x' % 2^P,  find the slot with  b <= r < b + f,
             x  = f * (x' // 2^P) + r - b                        (the exact inverse)

States stay in [2^16, 2^32) by moving 16-bit words: before encoding, a lane that
would leave the range writes its low word; after decoding, a lane that fell below
2^16 reads one. A stack, hence: the encoder walks everything backwards.

The loops run over steps; chunks and lanes are array axes. Other back ends must
give the same bytes. Reference: Duda 2013 (arXiv 1311.2540); Giesen 2014
(arXiv 1402.3392) for interleaved lanes.
"""

from __future__ import annotations

import weakref

import numpy as np

from polycodec.cuda.framing import LOWER
from polycodec.cuda.lanes import Lanes, steps_per_chunk
from polycodec.cuda.tables import TableSet

NAME = "numpy"


def rows(
    tables: TableSet, symbols: np.ndarray, indexes: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return each symbol's row (n,) uint32 and their cost in 1/256 bits."""
    found = tables.rows(symbols, indexes)
    return found, int(tables.costs[found].sum(dtype=np.int64))


def encode_pass(tables: TableSet, rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass; passes come in reverse order. rows: (n,) uint32."""
    prepared = _prepare(tables)
    precision, x = tables.precision, lanes.states
    chunks, width = x.shape
    steps = steps_per_chunk(rows.size, chunks, width)
    grid = _grid(rows, (chunks, steps, width), prepared.nothing)
    for step in range(steps - 1, -1, -1):
        f = prepared.freqs[grid[:, step]]  # (C, N)
        b = prepared.starts[grid[:, step]]
        # x' < 2^32 asks for x < f * 2^(32 - P); written so that f = 2^P fits too.
        spill = (x >> (32 - precision)) >= f
        # Words are written downwards, the highest lane first: this lane's place
        # is the number of spilling lanes from it upwards.
        place = lanes.word[:, None] - spill[:, ::-1].cumsum(axis=1)[:, ::-1]
        lanes.words[place[spill]] = x[spill] & 0xFFFF
        lanes.word -= spill.sum(axis=1)
        x = np.where(spill, x >> 16, x)
        q = x // f
        x = (q << precision) + (x - q * f) + b
    lanes.states = x


def decode_pass(tables: TableSet, indexes: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Decode the next pass. indexes: (n,) table of each symbol. Returns int32."""
    prepared = _prepare(tables)
    precision, x = tables.precision, lanes.states
    chunks, width = x.shape
    steps = steps_per_chunk(indexes.size, chunks, width)
    shape = (chunks, steps, width)
    # Places without a symbol use a table of one symbol: it changes no state.
    table = _grid(indexes, shape, len(tables)).astype(np.uint32) << precision
    found = np.empty(shape, dtype=np.uint32)
    mask = (1 << precision) - 1
    for step in range(steps):
        r = x & mask
        row = prepared.row_of_slot[table[:, step] + r]  # (C, N)
        found[:, step] = row
        x = prepared.freqs[row] * (x >> precision) + r - prepared.starts[row]
        need = x < LOWER
        if lanes.mini:  # its states may be small once the words are used up
            need &= (lanes.word < lanes.word_end)[:, None]
        # Lanes that need a word take the next ones in ascending lane order.
        place = lanes.word[:, None] + need.cumsum(axis=1) - 1
        lanes.word += need.sum(axis=1)
        for chunk in np.flatnonzero(lanes.word > lanes.word_end):
            raise lanes.words_ran_out(int(chunk))
        x[need] = (x[need] << 16) | lanes.words[place[need]]
    lanes.states = x
    found = found.reshape(-1)[: indexes.size]
    symbols = tables.symbols[found]
    _read_escapes(symbols, tables.is_escape[found], steps * width, lanes)
    return symbols


def _read_escapes(
    symbols: np.ndarray, escaped: np.ndarray, share: int, lanes: Lanes
) -> None:
    """Replace escapes by the side lists' values, in place; ``share``: per chunk."""
    positions = np.flatnonzero(escaped)
    for chunk in np.unique(positions // share if share else positions):
        mine = positions[positions // share == chunk]
        begin = lanes.side_next[chunk]
        if begin + mine.size > lanes.side_end[chunk]:
            raise lanes.side_ran_out(int(chunk))
        symbols[mine] = lanes.side[begin : begin + mine.size]
        lanes.side_next[chunk] += mine.size


def _grid(values: np.ndarray, shape: tuple[int, int, int], fill: int) -> np.ndarray:
    """Lay a pass out as (chunk, step, lane); places after its end get ``fill``."""
    grid = np.full(shape, fill, dtype=np.int64)
    grid.reshape(-1)[: values.size] = values
    return grid


class _Prepared:
    """Tables as the loops read them, with one more row that does nothing."""

    def __init__(self, tables: TableSet) -> None:
        whole = 1 << tables.precision
        self.nothing = tables.freqs.size
        self.freqs = np.append(tables.freqs, whole).astype(np.uint32)
        self.starts = np.append(tables.starts, 0).astype(np.uint32)
        # Each row owns as many of its table's 2^P slots as its frequency says.
        every = np.arange(self.nothing + 1, dtype=np.uint32)
        self.row_of_slot = np.repeat(every, self.freqs)


_PREPARED: weakref.WeakKeyDictionary[TableSet, _Prepared] = weakref.WeakKeyDictionary()


def _prepare(tables: TableSet) -> _Prepared:
    if tables not in _PREPARED:
        _PREPARED[tables] = _Prepared(tables)
    return _PREPARED[tables]
