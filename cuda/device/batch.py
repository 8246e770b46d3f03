# SPDX-License-Identifier: Apache-2.0
"""Batches of streams on a device: StreamEncoder and StreamDecoder for many at once.

    encoder = BatchEncoder(B, device)         decoder = BatchDecoder(data, device)
    encoder.put(symbols, indexes, tables)     symbols = decoder.get(indexes, tables)
    ...                  (B, n) tensors       ...
    data = encoder.finish()   B streams       decoder.finish()

The streams are those of stream.py, byte for byte. A pass is one launch for the whole
batch, and `get` never waits for the device: `finish` raises what went wrong.
Encoding waits for the costs of all passes, for the lengths, and for one copy of the
finished bytes. All calls of one coder belong on one CUDA stream.

`device` is a driver.Device; tests emulate one. Its speed has not been measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.cuda.device import layouts
from polycodec.cuda.device.chunks import Chunks, check_end, frames, upload
from polycodec.cuda.device.priors import BatchCategorical, BatchMixture, PriorOnDevice
from polycodec.cuda.framing import CHECKSUMS, read_frame, write_frame
from polycodec.cuda.kept import Kept
from polycodec.cuda.stream import choose_lanes
from polycodec.cuda.tables import COST_UNIT, TableSet
from polycodec.errors import BitstreamError, InputError, UsageError

if TYPE_CHECKING:
    from polycodec.cuda.device.driver import Device

_SURVEY_STEPS = 8  # symbols that a thread of the survey takes, about


class _OnDevice:
    """A set's tables as a device reads them, in its memory."""

    def __init__(self, tables: TableSet, device: Device) -> None:
        self.decoder = layouts.decoder_blob(tables, device.shared_limit)
        self.encoder = layouts.encoder_blob(tables, device.shared_limit)
        self._decoder = device.upload(self.decoder.data)
        self._encoder = device.upload(self.encoder.data)
        self.costs = device.upload(tables.costs)
        self.decoder_struct = self.decoder.struct(device.pointer(self._decoder))
        self.encoder_struct = self.encoder.struct(device.pointer(self._encoder))


_TABLES: Kept[Kept[_OnDevice]] = Kept()  # by device, then by set and stream


def _on_device(tables: TableSet, device: Device) -> _OnDevice:
    known = _TABLES.get(device, Kept)
    return known.get(tables, lambda: _OnDevice(tables, device), device.stream())


@dataclass
class _Pass:
    tables: TableSet | PriorOnDevice
    symbols: Any  # (B, n) int32
    indexes: Any  # (B, n) uint8 or int32; a prior has none
    found: Any  # (B,) layouts.FOUND


class BatchEncoder:
    """Collects passes for ``batch`` streams and codes them at the end, backwards."""

    def __init__(self, batch: int, device: Device) -> None:
        self.batch, self._device = batch, device
        self._passes: list[_Pass] = []
        self._open = True

    def put(self, symbols: Any, indexes: Any, tables: TableSet) -> None:
        """Append one pass; the tensors may be reused afterwards.

        symbols: (B, n) int32. indexes: (B, n) uint8 or int32, the table of each; both
        on the device. Does not wait: a symbol that its table cannot code and an
        index without a table raise InputError in :meth:`finish`.
        """
        self._require_open()
        device = self._device
        symbols = device.plane(symbols, "symbols", copy=True, kinds=("int32",))
        indexes = device.plane(indexes, "indexes", copy=True)
        if tuple(symbols.shape) != tuple(indexes.shape):
            raise InputError(
                f"a pass has symbols of shape {tuple(symbols.shape)} but indexes of "
                f"{tuple(indexes.shape)}; every symbol needs one index"
            )
        self._append(tables, symbols, indexes)

    def put_prior(self, symbols: Any, prior: BatchMixture | BatchCategorical) -> None:
        """Append one pass of symbols with a distribution each.

        symbols: (B, n) int32, prior: for as many; all on the device, and free to be
        reused afterwards. :meth:`finish` raises what is wrong with them.
        """
        self._require_open()
        device = self._device
        symbols = device.plane(symbols, "symbols", copy=True, kinds=("int32",))
        near = PriorOnDevice(prior, self.batch, device, copy=True)
        if symbols.shape[1] != near.n:
            raise InputError(
                f"a pass has symbols of shape {tuple(symbols.shape)} but its prior is "
                f"for ({self.batch}, {near.n})"
            )
        self._append(near, symbols, None)

    def _append(
        self, tables: TableSet | PriorOnDevice, symbols: Any, indexes: Any
    ) -> None:
        _check_shape(symbols, self.batch)
        found = np.zeros(self.batch, layouts.FOUND)
        found["bad"] = ~np.uint64(0)
        one = _Pass(tables, symbols, indexes, upload(self._device, found))
        self._passes.append(one)
        if symbols.shape[1]:
            self._survey(one)

    def _survey(self, one: _Pass) -> None:
        device, n = self._device, one.symbols.shape[1]
        blocks = -(-n // (device.threads * _SURVEY_STEPS))
        blocks = min(blocks, max(1, 8 * device.processors // self.batch))
        grid, shared = (blocks, self.batch), layouts.FOUND.itemsize
        if isinstance(one.tables, PriorOnDevice):
            kernel, args = one.tables.survey(one.symbols, one.found)
            device.launch(kernel, args, grid, device.threads, shared)
            return
        near = _on_device(one.tables, device)
        args = layouts.Survey(
            device.pointer(one.indexes),
            device.pointer(one.symbols),
            near.encoder_struct,
            device.pointer(near.costs),
            device.pointer(one.found),
            n,
        )
        kernel = f"survey_{_kind(one.indexes)}"
        device.launch(kernel, args, grid, device.threads, shared)

    def finish(
        self, *, lanes: int | None = None, chunks: int | None = None, crc: str = "none"
    ) -> list[bytes]:
        """Return the B streams; the encoder may not be used further.

        The options are those of :meth:`StreamEncoder.finish`, for every stream.
        """
        if crc not in CHECKSUMS:
            raise UsageError(f"unknown crc '{crc}'; expected one of {CHECKSUMS}")
        self._require_open()
        passes, self._passes, self._open = self._passes, [], False
        sizes = [one.symbols.shape[1] for one in passes]
        if not any(sizes):
            choose_lanes(0, lanes, chunks)
            return [b""] * self.batch
        surveys = self._device.join([one.found for one in passes])
        found = self._device.download(surveys, layouts.FOUND).reshape(-1, self.batch)
        self._check(passes, found)
        costs = found["cost"].sum(axis=0).tolist()
        estimates = [-(-cost // (8 * COST_UNIT)) for cost in costs]
        plans = [choose_lanes(payload, lanes, chunks) for payload in estimates]
        escapes = found["escapes"].sum(axis=0).tolist()
        coded = self._encode(passes, *layouts.encoder_chunks(sizes, plans, escapes))
        return [write_frame(frame) for frame in frames(*coded.collect(), crc)]

    def _check(self, passes: list[_Pass], found: np.ndarray) -> None:
        """Raise InputError for the first symbol that cannot be coded."""
        for number, stream in np.argwhere(found["bad"] != ~np.uint64(0)):
            one, device = passes[number], self._device
            at = int(found["bad"][number, stream])
            symbol = device.download(one.symbols[stream, at : at + 1], np.int32)
            where = f"stream {stream}, pass {number}, position {at}"
            if isinstance(one.tables, PriorOnDevice):
                raise InputError(f"{where}: {one.tables.not_codable(int(symbol[0]))}")
            kind = np.uint8 if _kind(one.indexes) == "u8" else np.int32
            index = device.download(one.indexes[stream, at : at + 1], kind)
            if not 0 <= int(index[0]) < len(one.tables):
                raise InputError(
                    f"{where}: index {int(index[0])}; the set has {len(one.tables)} "
                    "tables"
                )
            raise InputError(f"{where}: {one.tables.not_codable(0, symbol, index)}")

    def _encode(
        self, passes: list[_Pass], chunks: np.ndarray, states: np.ndarray
    ) -> Chunks:
        device = self._device
        words = device.empty(int(chunks["word_end"][-1]), np.uint16)
        side = device.empty(int(chunks["side_end"][-1]), np.int16)
        coded = Chunks(device, chunks, states, words, side)
        for one in reversed(passes):
            if isinstance(one.tables, PriorOnDevice):
                one.tables.code("encode", coded, one.symbols)
            elif one.symbols.shape[1]:
                near = _on_device(one.tables, device)
                kernel = f"encode_{_kind(one.indexes)}_{near.encoder.kind}"
                struct, shared = near.encoder_struct, near.encoder.shared
                coded.code(kernel, struct, shared, one.indexes, one.symbols)
        return coded

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError("these streams are finished; use a new BatchEncoder")


class BatchDecoder:
    """Gives the passes of B streams back, one ``get`` for each ``put``.

    Reading the streams' heads needs no device; their words go there in one piece.
    max_symbols: refuse to decode more than so many symbols of each stream.
    """

    def __init__(
        self, data: Sequence[bytes], device: Device, *, max_symbols: int | None = None
    ) -> None:
        if not data:
            raise UsageError("no streams; a batch has at least one")
        chunks, states, words, side = layouts.decoder_chunks(
            [read_frame(item) for item in data]
        )
        self.batch, self._device, self._left = len(data), device, max_symbols
        parts = device.upload(words), device.upload(side)
        self._coded = Chunks(device, chunks, states, *parts)

    def get(self, indexes: Any, tables: TableSet) -> Any:
        """Return the next pass, (B, n) int32 on the device, without waiting for it.

        indexes: (B, n) uint8 or int32 on the device. :meth:`finish` raises for damage
        and for indexes without a table; until then symbols may be anything.
        """
        device = self._device
        indexes = device.plane(indexes, "indexes", copy=False)
        _check_shape(indexes, self.batch)
        n = indexes.shape[1]
        symbols = self._room(n)
        if n:
            near = _on_device(tables, device)
            kernel = f"decode_{_kind(indexes)}_{near.decoder.kind}"
            struct, shared = near.decoder_struct, near.decoder.shared
            self._coded.code(kernel, struct, shared, indexes, symbols)
        return symbols

    def get_prior(self, prior: BatchMixture | BatchCategorical) -> Any:
        """Return the next pass, (B, n) int32 on the device, without waiting for it.

        :meth:`finish` raises what is wrong with the streams or with the prior's
        parameters.
        """
        near = PriorOnDevice(prior, self.batch, self._device, copy=False)
        symbols = self._room(near.n)
        near.code("decode", self._coded, symbols)
        return symbols

    def _room(self, n: int) -> Any:
        """Return room for the next (B, n) symbols, if the limit allows them."""
        if self._left is not None:
            self._left -= n
            if self._left < 0:
                raise BitstreamError(
                    f"a stream should hold {-self._left} symbols more than the limit "
                    "allows; raise max_symbols if that is intended"
                )
        return self._device.symbols(self.batch, n)

    def finish(self) -> None:
        """Wait, and check that all of every stream was used and nothing failed.

        Raises what StreamDecoder's methods raise, with the stream's number.
        """
        device = self._device
        chunks = device.download(self._coded.chunks, layouts.CHUNK)
        states = device.download(self._coded.states, np.uint32)
        for stream in range(self.batch):
            own = chunks[chunks["stream"] == stream]
            try:
                check_end(own, states)
            except BitstreamError as error:
                raise type(error)(f"stream {stream}: {error}") from error


def _kind(indexes: Any) -> str:
    """Return what kernels' names have for the type of indexes."""
    return "u8" if str(indexes.dtype).endswith("uint8") else "i32"


def _check_shape(plane: Any, batch: int) -> None:
    if plane.shape[0] != batch or plane.shape[1] > layouts.MAX_SYMBOLS:
        raise InputError(
            f"a pass has shape {tuple(plane.shape)}; expected ({batch}, n) "
            f"with n up to {layouts.MAX_SYMBOLS}"
        )
