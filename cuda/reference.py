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

The loops run over a chunk's steps; its lanes are an array axis. Other back ends must
give the same bytes. Reference: Duda 2013 (arXiv 1311.2540); Giesen 2014
(arXiv 1402.3392) for interleaved lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polycodec.cuda.framing import LOWER
from polycodec.cuda.host.abi import entries
from polycodec.cuda.kept import Kept
from polycodec.cuda.lanes import Lanes
from polycodec.cuda.priors.integer_cdf import (
    ESCAPE_COST,
    PRECISION,
    check_symbols,
    estimate,
)
from polycodec.cuda.tables import TableSet

if TYPE_CHECKING:
    from polycodec.cuda.priors.categorical import Categorical
    from polycodec.cuda.priors.mixture import Mixture

_BLOCK = 1 << 11  # symbols whose slots are all laid out at once

NAME = "numpy"


def rows(
    tables: TableSet, symbols: np.ndarray, indexes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n,) uint32, positions of escapes."""
    found = tables.rows(symbols, indexes)
    return found, np.flatnonzero(tables.is_escape[found])


def cost(tables: TableSet, rows: np.ndarray) -> int:
    """Return the cost of rows (n,) in 1/256 bit."""
    return int(tables.costs[rows].sum(dtype=np.int64))


def encode_pass(tables: TableSet, rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass; passes come in reverse order. rows: (n,) uint32."""
    f = tables.freqs[rows].astype(np.uint32)
    b = tables.starts[rows].astype(np.uint32)
    for chunk, part in enumerate(lanes.split(rows.size)):
        _encode_chunk(f[part], b[part], tables.precision, chunk, lanes)


def _encode_chunk(
    freqs: np.ndarray, starts: np.ndarray, precision: int, chunk: int, lanes: Lanes
) -> None:
    """Encode a chunk's part of a pass, last step first, words downwards."""
    states, position = lanes.states[chunk], int(lanes.word[chunk])
    for i in reversed(range(0, freqs.size, states.size)):
        f = freqs[i : i + states.size]
        x = states[: f.size]  # a view: the last step may leave lanes alone
        # x' < 2^32 asks for x < f * 2^(32 - P); written so that f = 2^P fits too.
        full = (x >> (32 - precision)) >= f
        count = np.count_nonzero(full)
        if count:
            # The decoder's lanes read in ascending order, so they stand in it.
            lanes.words[position - count : position] = x[full] & 0xFFFF
            position -= count
            x[full] >>= 16
        q = x // f
        x[:] = (q << precision) + (x - q * f) + starts[i : i + states.size]
    lanes.word[chunk] = position


def prior_rows(
    prior: Mixture | Categorical, symbols: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return (n,) ENTRY, their cost in 1/256 bits, positions of escapes."""
    check_symbols(prior, symbols)
    found = prior.intervals(symbols)
    escaped = np.flatnonzero(found.escaped)
    cost = int(estimate(found.freqs).sum()) + ESCAPE_COST * escaped.size
    return entries(found.starts, found.freqs), cost, escaped


def encode_prior(rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass of :func:`prior_rows`; passes come in reverse order."""
    f, b = rows["freq"].astype(np.uint32), rows["start"].astype(np.uint32)
    for chunk, part in enumerate(lanes.split(rows.size)):
        _encode_chunk(f[part], b[part], PRECISION, chunk, lanes)


def decode_pass(tables: TableSet, indexes: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Decode the next pass. indexes: (n,) table of each symbol. Returns int32."""
    prepared = _PREPARED.get(tables, lambda: _Prepared(tables))
    slots = indexes.astype(np.int64) << tables.precision  # each table's first one
    symbols = np.empty(indexes.size, dtype=np.int32)
    for chunk, part in enumerate(lanes.split(indexes.size)):
        own = slots[part]
        find = functools.partial(prepared.find, own)
        search = _Search(find, prepared.freqs, prepared.starts, tables.precision)
        rows = _decode_chunk(search, own.size, chunk, lanes)
        symbols[part] = tables.symbols[rows]
        escaped = np.flatnonzero(tables.is_escape[rows]) + part.start
        if escaped.size:
            symbols[escaped] = _read_side(escaped.size, chunk, lanes)
    return symbols


def decode_prior(prior: Mixture | Categorical, lanes: Lanes) -> np.ndarray:
    """Decode the next pass, a prior for each symbol. Returns (n,) int32."""
    prior.check()
    symbols = np.empty(len(prior), dtype=np.int32)
    step = _BLOCK - _BLOCK % lanes.states.shape[1]
    for chunk, part in enumerate(lanes.split(len(prior))):
        for begin in range(part.start, part.stop, step):
            end = min(begin + step, part.stop)
            symbols[begin:end] = _decode_block(prior, begin, end, chunk, lanes)
    return symbols


def _decode_block(
    prior: Mixture | Categorical, begin: int, end: int, chunk: int, lanes: Lanes
) -> np.ndarray:
    """Decode whole steps of a chunk with all slots of their symbols at hand."""
    slots = prior.expand(begin, end)
    own = np.arange(end - begin) << PRECISION
    # Each symbol's slots after those of the one before: one search serves all.
    edges = slots.starts + np.repeat(own, np.diff(slots.first))
    search = _Search(
        lambda i, r: np.searchsorted(edges, own[i : i + r.size] + r, "right") - 1,
        slots.freqs.astype(np.uint32),
        slots.starts.astype(np.uint32),
        PRECISION,
    )
    number = _decode_chunk(search, end - begin, chunk, lanes) - slots.first[:-1]
    symbols = (slots.base + number).astype(np.int32)
    escaped = np.flatnonzero(number == 0) if slots.escape else number[:0]
    if escaped.size:
        symbols[escaped] = _read_side(escaped.size, chunk, lanes)
    return symbols


class _Search(NamedTuple):
    """rows(i, r): of the symbols from i on, the rows that hold slots r (k,)."""

    rows: Callable[[int, np.ndarray], np.ndarray]
    freqs: np.ndarray
    starts: np.ndarray
    precision: int


def _decode_chunk(search: _Search, n: int, chunk: int, lanes: Lanes) -> np.ndarray:
    """Decode n symbols of a chunk in a pass; returns the rows that were coded."""
    states, precision = lanes.states[chunk], search.precision
    position, end = int(lanes.word[chunk]), int(lanes.word_end[chunk])
    rows = np.empty(n, dtype=np.int64)
    for i in range(0, n, states.size):
        x = states[: n - i]  # a view: the last step may leave lanes alone
        r = x & ((1 << precision) - 1)
        row = search.rows(i, r)
        rows[i : i + x.size] = row
        x[:] = search.freqs.take(row) * (x >> precision) + r - search.starts.take(row)
        need = x < LOWER
        count = np.count_nonzero(need)
        if lanes.mini and position == end:  # small states are its way to end
            continue
        if position + count > end:
            raise lanes.words_ran_out(chunk)
        if count:
            # Lanes that need a word take the next ones in ascending lane order.
            x[need] = (x[need] << 16) | lanes.words[position : position + count]
            position += count
    lanes.word[chunk] = position
    return rows


def _read_side(count: int, chunk: int, lanes: Lanes) -> np.ndarray:
    """Take the next ``count`` escapes of a chunk's side list."""
    begin = int(lanes.side_next[chunk])
    if begin + count > lanes.side_end[chunk]:
        raise lanes.side_ran_out(chunk)
    lanes.side_next[chunk] += count
    return lanes.side[begin : begin + count]


class _Prepared:
    """Tables as the loops read them."""

    def __init__(self, tables: TableSet) -> None:
        self.freqs = tables.freqs.astype(np.uint32)
        self.starts = tables.starts.astype(np.uint32)
        # Each row owns as many of its table's 2^P slots as its frequency says.
        self.row_of_slot = np.repeat(np.arange(tables.freqs.size), tables.freqs)

    def find(self, first: np.ndarray, i: int, r: np.ndarray) -> np.ndarray:
        """Return the rows that hold r, by the first slots of the symbols' tables."""
        return self.row_of_slot.take(first[i : i + r.size] + r)


_PREPARED: Kept[_Prepared] = Kept()
