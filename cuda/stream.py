# SPDX-License-Identifier: Apache-2.0
"""Symbols to bytes and back, in one stream of several passes.

    encoder = StreamEncoder()                decoder = StreamDecoder(data)
    encoder.put(symbols, indexes, tables)    symbols = decoder.get(indexes, tables)
    ...                                      ...       (same passes, same order)
    data = encoder.finish()                  decoder.finish()

    encoder.put_prior(symbols, prior)        symbols = decoder.get_prior(prior)

is a pass whose symbols have a distribution each: a Mixture of Gaussians or a
Categorical, in integers. Passes may use different tables and priors. They share the
lanes' states and write nothing between them, so ten passes cost the bytes of one: a
context model can decode a part, compute on it, and go on. The price is paid once per
lane: about 3 bytes, or about 1.8 for a whole mini stream.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.backends import select
from polycodec.cuda.framing import CHECKSUMS, Frame, read_frame, write_frame
from polycodec.cuda.lanes import Lanes, split_pass
from polycodec.cuda.priors.integer_cdf import as_array
from polycodec.cuda.tables import COST_UNIT, TableSet
from polycodec.errors import BitstreamError, InputError, UsageError

if TYPE_CHECKING:
    from polycodec.cuda.priors.categorical import Categorical
    from polycodec.cuda.priors.mixture import Mixture

MAX_LANES = 32
# Bytes of payload that one lane's 3 bytes of state may stand for: 0.07 % at most.
BYTES_PER_LANE = 4096
BYTES_PER_CHUNK = MAX_LANES * BYTES_PER_LANE


@dataclass
class _Pass:
    tables: TableSet | None  # None: rows say it all
    rows: np.ndarray  # (n,) uint16 or uint32, or ENTRY without tables
    escaped: np.ndarray  # (e,) int64, positions that carry a raw value
    values: np.ndarray  # (e,) int16
    cost: int | None  # in 1/256 bit; None: nobody has asked for it yet


class StreamEncoder:
    """Collects passes of symbols and codes them at the end, backwards."""

    def __init__(self, *, backend: str = "auto") -> None:
        self._passes: list[_Pass] = []
        self._open = True
        self._backend = select(backend)

    def put(self, symbols: Any, indexes: Any, tables: TableSet) -> None:
        """Append one pass; the arrays may be reused afterwards.

        symbols: (n,) integers. indexes: (n,) the table of each. NumPy arrays or
        CPU tensors. Raises InputError for a symbol that its table cannot code
        (see TableSet.clamp) and for an index without a table.
        """
        self._require_open()
        symbols = _integers(symbols, "symbols")
        indexes = _indexes(indexes, tables)
        if symbols.size != indexes.size:
            raise InputError(
                f"a pass has {symbols.size} symbols but {indexes.size} indexes; "
                "every symbol needs one index"
            )
        rows, escaped = self._backend.rows(tables, symbols, indexes)
        values = symbols[escaped].astype(np.int16)
        self._passes.append(_Pass(tables, rows, escaped, values, None))

    def put_prior(self, symbols: Any, prior: Mixture | Categorical) -> None:
        """Append one pass of symbols with a distribution each.

        symbols: (n,) integers, prior: for as many. Raises InputError for a symbol
        that its prior cannot code (see its ``clamp``).
        """
        self._require_open()
        symbols = _integers(symbols, "symbols")
        rows, cost, escaped = self._backend.prior_rows(prior, symbols)
        values = symbols[escaped].astype(np.int16)
        self._passes.append(_Pass(None, rows, escaped, values, cost))

    def estimated_bytes(self) -> int:
        """Return the ideal size of what was put so far, without lanes' states."""
        total = 0
        for one in self._passes:
            if one.cost is None:
                one.cost = int(self._backend.cost(one.tables, one.rows))
            total += one.cost
        return -(-total // (8 * COST_UNIT))

    def finish(
        self,
        *,
        lanes: int | None = None,
        chunks: int | None = None,
        crc: str = "none",
    ) -> bytes:
        """Return the stream of all passes; the encoder may not be used further.

        lanes: 1, 2, 4 ... 32 symbols side by side, 0 for a mini stream (smallest).
        chunks: parts that decode independently, 1 for a mini stream. None: chosen
        from the payload so that states cost at most 0.3 %. crc: "none", "stream"
        (4 bytes) or "chunk" (4 bytes each). No symbols at all: no bytes at all.
        """
        if crc not in CHECKSUMS:
            raise UsageError(f"unknown crc '{crc}'; expected one of {CHECKSUMS}")
        known = lanes is not None and chunks is not None
        payload = 0 if known else self.estimated_bytes()
        lanes, chunks = choose_lanes(payload, lanes, chunks)
        self._require_open()
        passes, self._passes, self._open = self._passes, [], False
        if not any(part.rows.size for part in passes):
            return b""
        width = max(lanes, 1)
        sizes = [part.rows.size for part in passes]
        state = Lanes.for_encoding(sizes, chunks, width, mini=lanes == 0)
        ends = state.word.copy()
        for part in reversed(passes):
            if part.tables is None:
                self._backend.encode_prior(part.rows, state)
            else:
                self._backend.encode_pass(part.tables, part.rows, state)
        words = [state.words[state.word[c] : ends[c]] for c in range(chunks)]
        side = _side_lists(passes, chunks, width)
        return write_frame(Frame(state.states, words, side, state.mini, crc))

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError("this stream is finished; use a new StreamEncoder")


class StreamDecoder:
    """Gives the passes of a stream back, one ``get`` for each ``put``.

    max_symbols: refuse to decode more than so many symbols in total. Symbols may
    cost no bits, so the stream's length does not limit their number.
    """

    def __init__(
        self, data: bytes, *, backend: str = "auto", max_symbols: int | None = None
    ) -> None:
        self._lanes = Lanes.for_decoding(read_frame(data))
        self._backend = select(backend)
        self._left = max_symbols

    def get(self, indexes: Any, tables: TableSet) -> np.ndarray:
        """Return the next pass, (n,) int32, for the (n,) indexes of its tables.

        Raises TruncatedError when a chunk's words or escapes run out, InputError
        for an index without a table.
        """
        indexes = _indexes(indexes, tables)
        self._count(indexes.size)
        return self._backend.decode_pass(tables, indexes, self._lanes)

    def get_prior(self, prior: Mixture | Categorical) -> np.ndarray:
        """Return the next pass, (n,) int32, for a prior of n symbols.

        Raises TruncatedError when a chunk's words or escapes run out.
        """
        self._count(len(prior))
        return self._backend.decode_prior(prior, self._lanes)

    def _count(self, n: int) -> None:
        if self._left is not None:
            self._left -= n
            if self._left < 0:
                raise BitstreamError(
                    f"the stream should hold {-self._left} symbols more than the "
                    "limit allows; raise max_symbols if that is intended"
                )

    def finish(self) -> None:
        """Check that all of the stream was used; raises BitstreamError if not.

        With 1 lane or more this finds nearly all damage and other tables or indexes,
        without a byte for it; not changed values of escapes. A mini stream that was cut
        may end as it must: one cut in eight is not noticed where tables have no escapes
        (FORMAT.md, "Checks"). Who keeps mini streams without a checksum around them
        asks for one (``crc``).
        """
        self._lanes.check_end()


def choose_lanes(
    payload: int, lanes: int | None = None, chunks: int | None = None
) -> tuple[int, int]:
    """Return (lanes, chunks) for ``payload`` bytes; 0 lanes mean a mini stream.

    What is given is kept: only the None's are chosen. Any answer decodes.
    """
    lanes, chunks = _whole(lanes), _whole(chunks)
    if lanes is not None and lanes not in (0, 1, 2, 4, 8, 16, 32):
        raise UsageError(f"{lanes} lanes; expected 0 (mini), 1, 2, 4, 8, 16 or 32")
    if chunks is not None and (chunks < 1 or (lanes == 0 and chunks > 1)):
        raise UsageError(f"{chunks} chunks; expected 1 or more, and 1 for mini")
    if chunks is None:
        chunks = 1 if lanes == 0 else max(1, payload // BYTES_PER_CHUNK)
    if lanes is None:
        fitting = payload // chunks // BYTES_PER_LANE
        lanes = 1 << (min(max(fitting, 1), MAX_LANES).bit_length() - 1)
        # One lane costs 4 bytes and the mini stream, as serial, about 1.8.
        if lanes == 1 and chunks == 1:
            lanes = 0
    return lanes, chunks


def _whole(number: int | None) -> int | None:
    """Return a whole number of any type as an int; None stays."""
    try:
        return None if number is None else operator.index(number)
    except TypeError as error:
        raise UsageError(f"{number!r} lanes or chunks; expected a number") from error


def _side_lists(passes: list[_Pass], chunks: int, lanes: int) -> list[np.ndarray]:
    """Sort the escapes' values by chunk; within one by pass and position."""
    empty = np.empty(0, dtype=np.int16)
    if not any(one.escaped.size for one in passes):
        return [empty] * chunks
    parts: list[list[np.ndarray]] = [[] for _ in range(chunks)]
    for one in passes:
        if one.escaped.size:
            spans = split_pass(one.rows.size, chunks, lanes)
            edges = np.searchsorted(one.escaped, [span.stop for span in spans[:-1]])
            for chunk, values in enumerate(np.split(one.values, edges)):
                parts[chunk].append(values)
    return [np.concatenate([empty, *part]) for part in parts]


def _integers(values: Any, name: str) -> np.ndarray:
    """Return a flat, contiguous int32 array; raises InputError if it is none."""
    array = as_array(values, name).reshape(-1)
    if array.dtype.kind not in "iu" and array.size:
        raise InputError(f"{name} are {array.dtype}; expected integers; round them")
    if array.dtype.itemsize > 4 or array.dtype == np.uint32:
        limits = np.iinfo(np.int32)
        if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
            raise InputError(f"{name} exceed 32 bits; clamp them first")
    return np.ascontiguousarray(array, dtype=np.int32)


def _indexes(indexes: Any, tables: TableSet) -> np.ndarray:
    """Return flat uint8 or int32 indexes, each of which has a table."""
    array = as_array(indexes, "indexes").reshape(-1)
    if array.dtype == np.uint8:
        array = np.ascontiguousarray(array)
    else:
        array = _integers(array, "indexes")
    if array.dtype == np.uint8 and array.size and int(array.max()) < len(tables):
        return array  # none is below 0, and this is a tenth of the coder's time
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < len(tables):
        raise InputError(
            f"indexes are {array.min()}..{array.max()}; the set has "
            f"{len(tables)} tables (0..{len(tables) - 1})"
        )
    return array
