# SPDX-License-Identifier: Apache-2.0
"""A few symbols in as few bytes as they need: arithmetic coding with whole numbers.

    [low, low + width) / whole       starts as [0, 1) / 1; every symbol keeps its share:
    low ← low · T + width · start    of T in all, its frequency f from ``start`` on
    width ← width · f                whole ← whole · T
    bytes  the first n from ⌊log256 whole / width⌋ on with v / 256^n in the interval,
           and the least v

The range coder of files ends with a state of 32 bits and its check, which a packet of
20 ms cannot afford: it has 20 to 130 bits. Numbers here grow with the symbols instead,
and nothing is rounded: n bytes hold at most 8 n bits, a byte more than the information
at worst. Zeros follow the bytes, without end. Bytes that are not the ones that an
encoder would have written of the symbols in them are refused: each damage that leaves
the symbols' interval's least number is found. Rissanen 1976, "Generalized Kraft
inequality and arithmetic coding".

A writer and a reader as those of `streams`, for the same coders and models.  BITSTREAM
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.cuda.kept import Kept
from polycodec.cuda.priors.categorical import Categorical, shares
from polycodec.entropy_models.base import DistributionPrior
from polycodec.errors import BitstreamError, ModelError

TOTAL = 1 << 15  # BITSTREAM: of a distribution from logits


class _Interval:
    """Where the symbols so far lead."""

    __slots__ = ("low", "value", "whole", "width")

    def __init__(self) -> None:
        self.low, self.width, self.whole = 0, 1, 1

    def narrow(self, start: int, frequency: int, total: int) -> None:
        self.low = self.low * total + self.width * start
        self.width *= frequency
        self.whole *= total

    def code(self) -> bytes:
        """The bytes that lead here, as many as the module says."""
        size = max(0, (self.whole // self.width).bit_length() - 1) // 8
        while True:
            scale = 1 << (8 * size)
            value = -(-self.low * scale // self.whole)
            if value * self.whole < (self.low + self.width) * scale:
                return value.to_bytes(size, "big")
            size += 1


class IntervalWriter:
    """Takes the passes of B streams. See `streams.HostWriter`."""

    def __init__(self, batch: int) -> None:
        self._streams = [_Interval() for _ in range(batch)]

    def put_number(self, number: int, size: int) -> None:
        """Append a number of 0 … size - 1, all equally likely, to every stream."""
        for stream in self._streams:
            stream.narrow(number, 1, size)

    def put(
        self,
        symbols: Tensor,
        indexes: Tensor,
        tables: TableSet,
        checked: Tensor | None,
    ) -> None:
        _check(tables, checked)
        rows = _ROWS.get(tables, lambda: _rows(tables))
        total = 1 << tables.precision
        for b, stream in enumerate(self._streams):
            for symbol, index in zip(_list(symbols[b]), _list(indexes[b]), strict=True):
                least, starts = rows[index]
                slot = symbol - least
                low = starts[slot]
                stream.narrow(low, starts[slot + 1] - low, total)

    def put_prior(self, symbols: Tensor, prior: DistributionPrior) -> None:
        each = zip(self._streams, symbols, _starts_of(prior), strict=True)
        for stream, item, rows in each:
            for symbol, starts in zip(_list(item), rows, strict=True):
                low = int(starts[symbol])
                stream.narrow(low, int(starts[symbol + 1]) - low, TOTAL)

    def finish(self) -> list[bytes]:
        return [stream.code() for stream in self._streams]


class IntervalReader:
    """Gives the passes back. See `streams.HostReader`."""

    def __init__(self, data: Sequence[bytes]) -> None:
        self._data = list(data)
        self._streams = [_Interval() for _ in data]
        self._values = [int.from_bytes(item, "big") for item in data]

    def get_number(self, size: int) -> list[int]:
        """The next number of 0 … size - 1 of each stream."""
        starts = range(size + 1)
        return [self._next(b, starts, size) for b in range(len(self._data))]

    def only(self, places: Sequence[int]) -> IntervalReader:
        """A reader that goes on with some of the streams."""
        part = IntervalReader([])
        part._data = [self._data[b] for b in places]
        part._streams = [self._streams[b] for b in places]
        part._values = [self._values[b] for b in places]
        return part

    def get(self, indexes: Tensor, tables: TableSet, checked: Tensor | None) -> Tensor:
        _check(tables, checked)
        rows = _ROWS.get(tables, lambda: _rows(tables))
        total = 1 << tables.precision
        out = torch.zeros(indexes.shape, dtype=torch.int32)
        for b in range(len(self._data)):
            found = [
                rows[index][0] + self._next(b, rows[index][1], total)
                for index in _list(indexes[b])
            ]
            out[b] = torch.tensor(found, dtype=torch.int32).view(out.shape[1:])
        return out

    def get_prior(self, prior: DistributionPrior, shape: tuple[int, ...]) -> Tensor:
        found = [
            [self._next(b, starts.tolist(), TOTAL) for starts in rows]
            for b, rows in enumerate(_starts_of(prior))
        ]
        return torch.tensor(found, dtype=torch.int32).view(shape)

    def finish(self) -> None:
        """BitstreamError unless the bytes are those of an encoder."""
        for stream, data in zip(self._streams, self._data, strict=True):
            if stream.code() != data:
                raise BitstreamError(
                    f"a packet's {len(data)} bytes are not those that code what is in "
                    "them; it is damaged, or of other weights"
                )

    def _next(self, b: int, starts: Sequence[int], total: int) -> int:
        """The slot of the next symbol of stream b."""
        stream = self._streams[b]
        scaled = self._values[b] * stream.whole * total >> (8 * len(self._data[b]))
        place = (scaled - stream.low * total) // stream.width
        slot = bisect.bisect_right(starts, place) - 1
        stream.narrow(starts[slot], starts[slot + 1] - starts[slot], total)
        return slot


_ROWS: Kept[list[tuple[int, list[int]]]] = Kept()


def _rows(tables: TableSet) -> list[tuple[int, list[int]]]:
    """Of each table its least symbol, and where each begins, with the end."""
    rows = []
    for k in range(len(tables)):
        own = tables.freqs[tables.first[k] + 1 : tables.first[k + 1]].astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(own)])
        rows.append((int(tables.minimum[k]), starts.tolist()))
    return rows


def _check(tables: TableSet, checked: Tensor | None) -> None:
    if checked is not None or tables.has_escape.any():
        raise ModelError(
            "this codec's numbers do not fit into packets; expected tokens of "
            "codebooks, whose tables are fixed; take a codec of the token family"
        )


def _starts_of(prior: DistributionPrior) -> list[np.ndarray]:
    """Where each value begins, of all positions of each item, (n, A + 1)."""
    found = []
    for own in prior.distributions():
        if not isinstance(own, Categorical):
            raise ModelError(
                f"{type(own).__name__} does not fit into packets; expected tokens of "
                "codebooks; take a codec of the token family"
            )
        ends = np.cumsum(shares(own.logits, TOTAL), axis=-1)
        found.append(np.pad(ends, ((0, 0), (1, 0))))
    return found


def _list(plane: Tensor) -> list[int]:
    """In the coded order: channels, then rows."""
    return plane.reshape(-1).tolist()
