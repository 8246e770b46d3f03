# SPDX-License-Identifier: Apache-2.0
"""Batches of streams on a device: StreamEncoder and StreamDecoder for many at once.

    encoder = BatchEncoder(B, device)         decoder = BatchDecoder(data, device)
    encoder.put(symbols, indexes, tables)     symbols = decoder.get(indexes, tables)
    ...                  (B, n) tensors       ...
    data = encoder.finish()   B streams       decoder.finish()

The streams are those of stream.py, byte for byte. A pass is one launch for the whole
batch, and `get` never waits for the device: what went wrong is told by `finish`.
Encoding waits for the costs of all passes, for the lengths, and for one copy of the
finished bytes. All calls of one coder belong on one CUDA stream.

`device` is a driver.Device, or an emulation.Emulator in tests. No speed is stated
here: not yet measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from polycodec.cuda import device_layouts as layouts
from polycodec.cuda.framing import CHECKSUMS, Frame, read_frame, write_frame
from polycodec.cuda.lanes import Lanes
from polycodec.cuda.stream import choose_lanes
from polycodec.cuda.tables import COST_UNIT, TableSet
from polycodec.errors import BitstreamError, InputError, UsageError

_SURVEY_STEPS = 8  # symbols that a thread of the survey takes, about


class Runtime(Protocol):
    """What a device must do; buffers are its own kind of array (see Emulator)."""

    threads: int
    processors: int
    shared_limit: int

    def empty(self, count: int, dtype: Any) -> Any: ...
    def upload(self, array: np.ndarray) -> Any: ...
    def download(self, buffer: Any, dtype: Any) -> np.ndarray: ...
    def join(self, buffers: list) -> Any: ...
    def pointer(self, buffer: Any) -> int: ...
    def plane(self, values: Any, name: str, *, copy: bool) -> Any: ...
    def symbols(self, batch: int, n: int) -> Any: ...
    def launch(
        self, kernel: str, args: Any, grid: tuple[int, int], threads: int, shared: int
    ) -> None: ...


class _OnDevice:
    """A set's tables as a device reads them, brought there once."""

    def __init__(self, tables: TableSet, device: Runtime) -> None:
        self.decoder = layouts.decoder_blob(tables, device.shared_limit)
        self.encoder = layouts.encoder_blob(tables, device.shared_limit)
        self._decoder = device.upload(self.decoder.data)
        self._encoder = device.upload(self.encoder.data)
        self.costs = device.upload(tables.costs)
        self.decoder_struct = self.decoder.struct(device.pointer(self._decoder))
        self.encoder_struct = self.encoder.struct(device.pointer(self._encoder))


_TABLES: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary] = (
    weakref.WeakKeyDictionary()
)


def _on_device(tables: TableSet, device: Runtime) -> _OnDevice:
    known = _TABLES.setdefault(device, weakref.WeakKeyDictionary())
    if tables not in known:
        known[tables] = _OnDevice(tables, device)
    return known[tables]


class _Chunks:
    """The chunks of a batch on a device, and the launches that move them."""

    def __init__(
        self,
        device: Runtime,
        chunks: np.ndarray,
        states: np.ndarray,
        words: Any,
        side: Any,
    ) -> None:
        self.device, self.count = device, chunks.size
        warps = layouts.warps_of(chunks)
        self.warp_count = warps.size
        self.warps, self.chunks = _upload(device, warps), _upload(device, chunks)
        self.states, self.words, self.side = device.upload(states), words, side

    def code(self, kernel: str, struct: Any, shared: int, indexes: Any, symbols: Any):
        """Launch one pass over all chunks."""
        device, pointer = self.device, self.device.pointer
        # Few warps: one to a block, so that they spread over the processors.
        together = -(-self.warp_count // device.processors)
        together = min(max(together, 1), device.threads // 32)
        buffers = (self.warps, self.chunks, self.states, self.words, self.side)
        args = layouts.Pass(
            *map(pointer, (*buffers, indexes, symbols)),
            struct,
            symbols.shape[1],
            self.warp_count,
            together,
        )
        grid = (-(-self.warp_count // together), 1)
        device.launch(kernel, args, grid, device.threads, shared)

    def collect(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the chunks (C,) and all their bytes, as uint16."""
        device = self.device
        offsets = device.empty(self.count + 1, np.int64)
        buffers = (self.chunks, self.states, self.words, self.side, offsets)
        args = layouts.Collect(*map(device.pointer, buffers), None, self.count)
        device.launch("measure", args, (1, 1), device.threads, 8 * device.threads)
        chunks = device.download(self.chunks, layouts.CHUNK)
        out = device.empty(int(_sizes(chunks).sum()), np.uint16)
        args.out = device.pointer(out)
        device.launch("compact", args, (self.count, 1), device.threads, 0)
        return chunks, device.download(out, np.uint16)


@dataclass
class _Pass:
    tables: TableSet
    symbols: Any  # (B, n) int32
    indexes: Any  # (B, n) uint8 or int32
    found: Any  # (B,) layouts.FOUND


class BatchEncoder:
    """Collects passes for ``batch`` streams and codes them at the end, backwards."""

    def __init__(self, batch: int, device: Runtime) -> None:
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
        symbols = device.plane(symbols, "symbols", copy=True)
        indexes = device.plane(indexes, "indexes", copy=True)
        if _kind(symbols) != "i32":
            raise InputError("symbols are uint8; expected int32; convert them")
        if tuple(symbols.shape) != tuple(indexes.shape):
            raise InputError(
                f"a pass has symbols of shape {tuple(symbols.shape)} but indexes of "
                f"{tuple(indexes.shape)}; every symbol needs one index"
            )
        _check_shape(symbols, self.batch)
        found = np.zeros(self.batch, layouts.FOUND)
        found["bad"] = ~np.uint64(0)
        one = _Pass(tables, symbols, indexes, _upload(device, found))
        self._passes.append(one)
        if symbols.shape[1]:
            self._survey(one)

    def _survey(self, one: _Pass) -> None:
        device, n = self._device, one.symbols.shape[1]
        near = _on_device(one.tables, device)
        args = layouts.Survey(
            device.pointer(one.indexes),
            device.pointer(one.symbols),
            near.encoder_struct,
            device.pointer(near.costs),
            device.pointer(one.found),
            n,
        )
        blocks = -(-n // (device.threads * _SURVEY_STEPS))
        blocks = min(blocks, max(1, 8 * device.processors // self.batch))
        shared = layouts.FOUND.itemsize
        kernel = f"survey_{_kind(one.indexes)}"
        device.launch(kernel, args, (blocks, self.batch), device.threads, shared)

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
        found = self._device.join([one.found for one in passes])
        found = self._device.download(found, layouts.FOUND).reshape(-1, self.batch)
        self._check(passes, found)
        costs = found["cost"].sum(axis=0).tolist()
        estimates = [-(-cost // (8 * COST_UNIT)) for cost in costs]
        plans = [choose_lanes(payload, lanes, chunks) for payload in estimates]
        escapes = found["escapes"].sum(axis=0).tolist()
        coded = self._encode(passes, *layouts.encoder_chunks(sizes, plans, escapes))
        return [write_frame(frame) for frame in _frames(*coded.collect(), crc)]

    def _check(self, passes: list[_Pass], found: np.ndarray) -> None:
        """Raise InputError for the first symbol that cannot be coded."""
        for number, stream in np.argwhere(found["bad"] != ~np.uint64(0)):
            one, device = passes[number], self._device
            at = int(found["bad"][number, stream])
            symbol = device.download(one.symbols[stream, at : at + 1], np.int32)
            kind = np.uint8 if _kind(one.indexes) == "u8" else np.int32
            index = device.download(one.indexes[stream, at : at + 1], kind)
            where = f"stream {stream}, pass {number}, position {at}"
            if not 0 <= int(index[0]) < len(one.tables):
                raise InputError(
                    f"{where}: index {int(index[0])}; the set has {len(one.tables)} "
                    "tables"
                )
            raise InputError(f"{where}: {one.tables.not_codable(0, symbol, index)}")

    def _encode(
        self, passes: list[_Pass], chunks: np.ndarray, states: np.ndarray
    ) -> _Chunks:
        device = self._device
        words = device.empty(int(chunks["word_end"][-1]), np.uint16)
        side = device.empty(int(chunks["side_end"][-1]), np.int16)
        coded = _Chunks(device, chunks, states, words, side)
        for one in reversed(passes):
            if one.symbols.shape[1]:
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
        self, data: Sequence[bytes], device: Runtime, *, max_symbols: int | None = None
    ) -> None:
        if not data:
            raise UsageError("no streams; a batch has at least one")
        chunks, states, words, side = layouts.decoder_chunks(
            [read_frame(item) for item in data]
        )
        self.batch, self._device, self._left = len(data), device, max_symbols
        words, side = device.upload(words), device.upload(side)
        self._coded = _Chunks(device, chunks, states, words, side)

    def get(self, indexes: Any, tables: TableSet) -> Any:
        """Return the next pass, (B, n) int32 on the device, without waiting for it.

        indexes: (B, n) uint8 or int32 on the device. Damage, and indexes without a
        table, are told by :meth:`finish`: until then symbols may be anything.
        """
        device = self._device
        indexes = device.plane(indexes, "indexes", copy=False)
        _check_shape(indexes, self.batch)
        n = indexes.shape[1]
        if self._left is not None:
            self._left -= n
            if self._left < 0:
                raise BitstreamError(
                    f"a stream should hold {-self._left} symbols more than the limit "
                    "allows; raise max_symbols if that is intended"
                )
        symbols = device.symbols(self.batch, n)
        if n:
            near = _on_device(tables, device)
            kernel = f"decode_{_kind(indexes)}_{near.decoder.kind}"
            struct, shared = near.decoder_struct, near.decoder.shared
            self._coded.code(kernel, struct, shared, indexes, symbols)
        return symbols

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
                _check_end(own, states)
            except BitstreamError as error:
                raise type(error)(f"stream {stream}: {error}") from error


def _check_end(chunks: np.ndarray, states: np.ndarray) -> None:
    """Raise what a stream's chunks say went wrong."""
    begin, lanes = int(chunks["state"][0]), int(chunks["lanes"][0])
    own = states[begin : begin + chunks.size * lanes].reshape(-1, lanes)
    empty = np.empty(0, np.uint16)
    state = Lanes(
        own,
        *(empty, chunks["word"], chunks["word_end"]),
        *(empty.view(np.int16), chunks["side"], chunks["side_end"]),
        bool(chunks["mini"][0]),
    )
    for chunk in np.flatnonzero(chunks["status"]).tolist():
        status = int(chunks["status"][chunk])
        if status & layouts.NO_SUCH_TABLE:
            raise InputError(f"chunk {chunk}: an index has no table in its set")
        if status & layouts.OUT_OF_WORDS:
            raise state.words_ran_out(chunk)
        raise state.side_ran_out(chunk)
    state.check_end()


def _frames(chunks: np.ndarray, octets: np.ndarray, crc: str) -> list[Frame]:
    """Cut the finished bytes (uint16) into the streams' frames."""
    assert not chunks["status"].any(), "the encoder's own buffers do not fit"
    ends = np.cumsum(_sizes(chunks)).tolist()
    states, words, side, frames = [], [], [], []
    for chunk, end, size in zip(chunks, ends, _sizes(chunks).tolist(), strict=True):
        two, count = 2 * int(chunk["lanes"]), int(chunk["word_end"] - chunk["word"])
        body = octets[end - size : end]
        states.append(body[:two].copy().view(np.uint32))
        words.append(body[two : two + count])
        side.append(body[two + count :].view(np.int16))
        if chunk["number"] == chunk["chunks"] - 1:
            mini = bool(chunk["mini"])
            frames.append(Frame(np.stack(states), words, side, mini, crc))
            states, words, side = [], [], []
    return frames


def _sizes(chunks: np.ndarray) -> np.ndarray:
    """Finished size of each chunk in 16-bit words, (C,) int64."""
    words = chunks["word_end"] - chunks["word"]
    return 2 * chunks["lanes"] + words + chunks["side_end"] - chunks["side"]


def _upload(device: Runtime, records: np.ndarray) -> Any:
    return device.upload(records.view(np.uint8))


def _kind(indexes: Any) -> str:
    """Name of an index type in the kernels' names."""
    return "u8" if str(indexes.dtype).endswith("uint8") else "i32"


def _check_shape(plane: Any, batch: int) -> None:
    if plane.shape[0] != batch or plane.shape[1] > layouts.MAX_SYMBOLS:
        raise InputError(
            f"a pass has shape {tuple(plane.shape)}; expected ({batch}, n) "
            f"with n up to {layouts.MAX_SYMBOLS}"
        )
