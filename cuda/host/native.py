# SPDX-License-Identifier: Apache-2.0
"""The back end that calls the C library (host.cpp).

    put       rows, or prior_rows        where symbols lie; escapes' places
    finish    encode_pass, encode_prior  the passes, last one first
    get       decode_pass, decode_prior

Every array whose address the library gets is held by a variable, or by a structure of
abi.py that is one, until the call is over.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING

import numpy as np

from polycodec.cuda.host import abi, threads
from polycodec.cuda.host.abi import address
from polycodec.cuda.host.layouts import prepare
from polycodec.cuda.host.library import loaded, simd
from polycodec.cuda.lanes import Lanes
from polycodec.cuda.priors.categorical import POWERS, Categorical
from polycodec.cuda.priors.integer_cdf import PRECISION, check_symbols
from polycodec.cuda.priors.mixture import phi_table
from polycodec.cuda.tables import TableSet

if TYPE_CHECKING:
    from polycodec.cuda.priors.mixture import Mixture

NAME = "native"
_SHORT = 1 << 16  # rows that 16 bits can number
_FINE, _WORDS_RAN_OUT, _SIDE_RAN_OUT, _BAD_INDEX = 0, 1, 2, 3


def rows(
    tables: TableSet, symbols: np.ndarray, indexes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n,), positions of escapes.

    Rows are uint16 where that can number all rows of the set, else uint32. Raises
    InputError for a symbol that its table cannot code.
    """
    short = tables.freqs.size <= _SHORT
    found = np.empty(symbols.size, dtype=np.uint16 if short else np.uint32)
    struct, escaped = prepare(tables), ctypes.c_int64()
    # Escapes are rare; where they are not, a second try has room for all.
    for room in (symbols.size // 64 + 64, symbols.size):
        escapes = np.empty(room, dtype=np.int64)
        bad = loaded().rows(
            *(struct, address(symbols), address(indexes), indexes.itemsize),
            *(symbols.size, simd(), address(found), found.itemsize),
            *(address(escapes), room, escaped),
        )
        if bad >= 0:
            raise tables.not_codable(bad, symbols, indexes)
        if escaped.value <= room:
            break
    return found, escapes[: escaped.value]


def cost(tables: TableSet, rows: np.ndarray) -> int:
    """Return the cost of rows (n,) in 1/256 bit."""
    size = rows.itemsize, rows.size
    return int(loaded().cost(prepare(tables), address(rows), *size, simd()))


def encode_pass(tables: TableSet, rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass; passes come in reverse order. rows: (n,) of :func:`rows`."""
    _encode(prepare(tables), rows, lanes)


def _encode(tables: abi.Tables, rows: np.ndarray, lanes: Lanes) -> None:
    status = loaded().encode_pass(
        *(tables, address(rows), rows.itemsize, rows.size),
        *(_describe(lanes), simd(), threads.for_symbols(rows.size)),
    )
    assert status == _FINE, f"the encoder's own buffers do not fit, status {status}"


def decode_pass(tables: TableSet, indexes: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Decode the next pass. indexes: (n,) table of each symbol. Returns int32."""
    symbols = np.empty(indexes.size, dtype=np.int32)
    status = loaded().decode_pass(
        *(prepare(tables), address(indexes), indexes.itemsize, indexes.size),
        *(_describe(lanes), simd(), threads.for_symbols(indexes.size)),
        address(symbols),
    )
    _check(status, lanes)
    return symbols


def prior_rows(
    prior: Mixture | Categorical, symbols: np.ndarray
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return (n,) ENTRY, their cost in 1/256 bits, positions of escapes."""
    n = symbols.size
    if n != len(prior):
        check_symbols(prior, symbols)
    found, struct = np.empty(n, abi.ENTRY), _describe_prior(prior)
    price, escaped = ctypes.c_uint64(), ctypes.c_int64()
    # As in rows: a second try, where escapes are not rare.
    for room in (n // 64 + 64, n):
        escapes = np.empty(room, dtype=np.int64)
        bad = loaded().prior_rows(
            *(struct, address(symbols), simd(), address(found), price),
            *(address(escapes), room, escaped),
        )
        if bad >= 0:
            check_symbols(prior, symbols)
        assert bad < 0, "the library refuses what its specification takes"
        if escaped.value <= room:
            break
    return found, price.value, escapes[: escaped.value]


def encode_prior(rows: np.ndarray, lanes: Lanes) -> None:
    """Encode one pass of :func:`prior_rows`; passes come in reverse order."""
    # To an encoder these are one table of n rows, of which each symbol has its own.
    tables = abi.Tables(PRECISION, 1)
    tables.point_to(first=np.array([0, rows.size], np.uint32), rows=rows)
    _encode(tables, np.arange(rows.size, dtype=np.uint32), lanes)


def decode_prior(prior: Mixture | Categorical, lanes: Lanes) -> np.ndarray:
    """Decode the next pass, a prior for each symbol. Returns (n,) int32."""
    symbols = np.empty(len(prior), dtype=np.int32)
    status = loaded().decode_prior(
        *(_describe_prior(prior), _describe(lanes), simd()),
        *(threads.for_symbols(len(prior)), address(symbols)),
    )
    if status & 7 == _BAD_INDEX:
        prior.check()
    _check(status, lanes)
    return symbols


def _check(status: int, lanes: Lanes) -> None:
    """Raise the error that a report stands for."""
    if status & 7 == _WORDS_RAN_OUT:
        raise lanes.words_ran_out(status >> 3)
    if status & 7 == _SIDE_RAN_OUT:
        raise lanes.side_ran_out(status >> 3)
    assert status == _FINE, f"stream.py let bad arguments through, status {status}"


def _describe(lanes: Lanes) -> abi.Lanes:
    """Return the C view of ``lanes``; the library changes the arrays in place."""
    struct = abi.Lanes(*lanes.states.shape, lanes.mini)
    struct.point_to(
        states=lanes.states,
        words=lanes.words,
        word=lanes.word,
        word_end=lanes.word_end,
        side=lanes.side,
        side_next=lanes.side_next,
        side_end=lanes.side_end,
    )
    return struct


def _describe_prior(prior: Mixture | Categorical) -> abi.Prior:
    """Return the C view of ``prior``."""
    if isinstance(prior, Categorical):
        struct = abi.Prior(1, prior.values, len(prior))
        struct.point_to(logits=prior.logits, powers=POWERS)
        return struct
    components = prior.means.shape[0]
    struct = abi.Prior(0, components, len(prior), count=len(prior.scales))
    struct.point_to(
        means=prior.means,
        bins=prior.indexes,
        weights=prior.weights,
        scales=prior.scales.rows,
        phi=_phi(),
    )
    return struct


@functools.cache
def _phi() -> np.ndarray:
    """Return PHI and one entry more: kernels read 32 bits at a time."""
    return np.append(phi_table(), np.uint16(0))
