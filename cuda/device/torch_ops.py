# SPDX-License-Identifier: Apache-2.0
"""The coder as torch operators, for torch.compile and torch.export.

    table = pack(tables)                             a CPU tensor that stands for them
    data, sizes = encode([symbols], [indexes], [table])
    [symbols]   = decode(data, sizes, [indexes], [table])

Lists hold the passes of B streams, (B, n) each. A stream's length is known only when
it is coded, a graph's shapes before: `data` (B, capacity) uint8 has room for the
longest, and the first sizes[b] bytes of row b are stream b, as StreamEncoder or
BatchEncoder write it. Both lie on the CPU. Symbols and indexes on CUDA are coded there.

Importing this module registers polycodec::encode and polycodec::decode. Passes whose
indexes depend on earlier symbols of the same stream need the coders themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda.device.batch import BatchDecoder, BatchEncoder
from polycodec.cuda.device.driver import runtime_of
from polycodec.cuda.stream import (
    BYTES_PER_CHUNK,
    MAX_LANES,
    StreamDecoder,
    StreamEncoder,
)
from polycodec.cuda.tables import TableSet
from polycodec.errors import InputError

_HEAD = 16  # head, number of chunks, stream checksum
_CHUNK = 2 * 5 + 4  # of each chunk: its lengths as varints, its checksum
_SYMBOL = 2 + 2  # one word at most, and an escape's raw value


def pack(tables: TableSet) -> Tensor:
    """Return tables as one int32 tensor: precision, count, sizes, minimum, freqs."""
    head = [tables.precision, len(tables)]
    parts = (np.array(head), tables.sizes, tables.minimum, tables.freqs)
    return torch.from_numpy(np.concatenate(parts).astype(np.int32))


def unpack(packed: Tensor) -> TableSet:
    """Return the tables that :func:`pack` packed, made once; ModelError for others."""
    return _tables_of(packed.cpu().numpy().astype(np.int32, copy=False).tobytes())


@functools.lru_cache(maxsize=64)
def _tables_of(octets: bytes) -> TableSet:
    numbers = np.frombuffer(octets, np.int32)
    if numbers.size < 2 or not 0 < numbers[1] <= (numbers.size - 2) // 2:
        raise InputError("a table is no tensor made by pack(); pack a TableSet")
    count = int(numbers[1])
    sizes, minimum, freqs = np.split(numbers[2:], [count, 2 * count])
    return TableSet(int(numbers[0]), sizes, minimum, freqs)


def capacity(n: int, lanes: int | None = None, chunks: int | None = None) -> int:
    """Return how many bytes a stream of ``n`` symbols never exceeds."""
    many = _SYMBOL * n // BYTES_PER_CHUNK + 1 if chunks is None else chunks
    wide = MAX_LANES if lanes is None else max(lanes, 1)
    return _HEAD + many * (_CHUNK + 4 * wide) + _SYMBOL * n


@torch.library.custom_op("polycodec::encode", mutates_args=())
def encode(
    symbols: Sequence[Tensor],
    indexes: Sequence[Tensor],
    tables: Sequence[Tensor],
    lanes: int | None = None,
    chunks: int | None = None,
    crc: str = "none",
) -> tuple[Tensor, Tensor]:
    """Code passes of B streams: data (B, capacity) uint8, sizes (B,) int64; CPU.

    symbols: (B, n) int32 for each pass. indexes: (B, n) uint8 or int32, the table of
    each. tables: a packed set for each pass. Options: StreamEncoder.finish. Raises
    InputError for a symbol that its table cannot code.
    """
    _check(symbols, indexes, tables)
    sets = [unpack(table) for table in tables]
    options: dict[str, Any] = {"lanes": lanes, "chunks": chunks, "crc": crc}
    runtime, batch = runtime_of(symbols[0].device), symbols[0].shape[0]
    passes = list(zip(symbols, indexes, sets, strict=True))
    if runtime is not None:
        encoder = BatchEncoder(batch, runtime)
        for part, index, one in passes:
            encoder.put(part, index, one)
        streams = encoder.finish(**options)
    else:
        encoders = [StreamEncoder() for _ in range(batch)]
        for part, index, one in passes:
            for own, values, at in zip(encoders, part.cpu(), index.cpu(), strict=True):
                own.put(values, at, one)
        streams = [own.finish(**options) for own in encoders]
    out = torch.zeros(_shape(symbols, lanes, chunks), dtype=torch.uint8)
    for row, stream in zip(out.numpy(), streams, strict=True):
        row[: len(stream)] = np.frombuffer(stream, np.uint8)
    return out, torch.tensor([len(stream) for stream in streams], dtype=torch.int64)


@encode.register_fake
def _(
    symbols: Sequence[Tensor],
    indexes: Sequence[Tensor],
    tables: Sequence[Tensor],
    lanes: int | None = None,
    chunks: int | None = None,
    crc: str = "none",
) -> tuple[Tensor, Tensor]:
    batch, room = _shape(symbols, lanes, chunks)
    sizes = torch.empty(batch, dtype=torch.int64, device="cpu")
    return torch.empty((batch, room), dtype=torch.uint8, device="cpu"), sizes


def _shape(
    symbols: Sequence[Tensor], lanes: int | None, chunks: int | None
) -> tuple[int, int]:
    n = sum(part.shape[1] for part in symbols)
    return symbols[0].shape[0], capacity(n, lanes, chunks)


@torch.library.custom_op("polycodec::decode", mutates_args=())
def decode(
    data: Tensor, sizes: Tensor, indexes: Sequence[Tensor], tables: Sequence[Tensor]
) -> list[Tensor]:
    """Read the passes back: (B, n) int32 for each, where their indexes are.

    Raises what StreamDecoder raises for damaged streams, ends checked.
    """
    _check(indexes, indexes, tables)
    if data.shape[0] != indexes[0].shape[0] or sizes.shape != data.shape[:1]:
        raise InputError(
            f"data {tuple(data.shape)}, sizes {tuple(sizes.shape)} and indexes "
            f"{tuple(indexes[0].shape)} differ in their batch"
        )
    sets = [unpack(table) for table in tables]
    rows = data.cpu().numpy()
    streams = [
        row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)
    ]
    runtime = runtime_of(indexes[0].device)
    if runtime is not None:
        decoder = BatchDecoder(streams, runtime)
        planes = zip(indexes, sets, strict=True)
        found = [torch.as_tensor(decoder.get(index, one)) for index, one in planes]
        decoder.finish()
        return found
    out = [torch.empty(index.shape, dtype=torch.int32) for index in indexes]
    for b, stream in enumerate(streams):
        reader = StreamDecoder(stream)
        for part, index, one in zip(out, indexes, sets, strict=True):
            part[b] = torch.from_numpy(reader.get(index[b].cpu(), one))
        reader.finish()
    return [part.to(index.device) for part, index in zip(out, indexes, strict=True)]


@decode.register_fake
def _(
    data: Tensor, sizes: Tensor, indexes: Sequence[Tensor], tables: Sequence[Tensor]
) -> list[Tensor]:
    return [torch.empty(i.shape, dtype=torch.int32, device=i.device) for i in indexes]


def _check(
    symbols: Sequence[Tensor], indexes: Sequence[Tensor], tables: Sequence[Tensor]
) -> None:
    """Refuse lists that differ in length or batch."""
    if not len(symbols) == len(indexes) == len(tables) > 0:
        raise InputError(
            f"{len(symbols)} symbol, {len(indexes)} index and {len(tables)} table "
            "tensors; expected one of each for every pass"
        )
    shapes = {tuple(part.shape[:1]) for part in (*symbols, *indexes)}
    if len(shapes) != 1 or any(part.dim() != 2 for part in (*symbols, *indexes)):
        found = [tuple(part.shape) for part in (*symbols, *indexes)]
        raise InputError(f"passes have shapes {found}; expected (B, n) with one B")
