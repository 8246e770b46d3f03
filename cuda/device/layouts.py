# SPDX-License-Identifier: Apache-2.0
"""What the CUDA kernels read: structures of kernels.h, tables, chunks and warps.

    TableSet  ->  decoding  start | freq << 16, first, minimum, guesses   (one array)
                  encoding  start, freq, reciprocal; first; minimum
    frames    ->  chunks (C,), states, words, side list                   (decoding)
    plans     ->  chunks (C,) with room for the worst case                (encoding)
    chunks    ->  warps: neighbours with as many lanes share one

Plain NumPy and ctypes: nothing here knows of a device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from polycodec.cuda.framing import LOWER, Frame
from polycodec.cuda.host.abi import entries
from polycodec.cuda.lanes import split_pass
from polycodec.cuda.mini import START
from polycodec.cuda.tables import TableSet
from polycodec.errors import InputError

# A chunk's status, bits.
OUT_OF_WORDS, OUT_OF_ESCAPES, NO_SUCH_TABLE, NO_DISTRIBUTION = 1, 2, 4, 8
# The kernels count a chunk's symbols in 32 bits.
MAX_SYMBOLS = 1 << 30
_WARP = 32

CHUNK = np.dtype(
    [(name, "i8") for name in ("word_begin", "word", "word_end")]
    + [(name, "i8") for name in ("side_begin", "side", "side_end")]
    + [(name, "i4") for name in ("state", "stream", "number", "chunks")]
    + [("lanes", "i4"), ("mini", "i4"), ("status", "u4"), ("unused", "i4")]
)
WARP_CHUNKS = np.dtype([("first", "i4"), ("count", "i4")])
FOUND = np.dtype([("cost", "u8"), ("escapes", "u8"), ("bad", "u8")])


def _fields(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


class TableBlob(ctypes.Structure):
    """``TableBlob`` of kernels.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        *_fields(ctypes.c_uint32, "quads", "precision", "tables", "rows"),
        *_fields(ctypes.c_uint32, "guess_bits", "escapes"),
    )


class Pass(ctypes.Structure):
    """``Pass`` of kernels.h: the arguments of decode and encode."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "warps", "chunks", "states", "words", "side"),
        *_fields(ctypes.c_void_p, "indexes", "symbols"),
        ("blob", TableBlob),
        *_fields(ctypes.c_int32, "n", "warp_count", "warps_per_block"),
    )


class Survey(ctypes.Structure):
    """``Survey`` of kernels.h."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "indexes", "symbols"),
        ("blob", TableBlob),
        *_fields(ctypes.c_void_p, "costs", "found"),
        ("n", ctypes.c_int32),
    )


class PriorParts(ctypes.Structure):
    """``PriorParts`` of device/priors.h."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "means", "bins", "weights", "logits"),
        *_fields(ctypes.c_uint32, "size", "unused"),
    )


class PriorPass(ctypes.Structure):
    """``PriorPass`` of device/priors.h."""

    _fields_ = (("pass_", Pass), ("parts", PriorParts))


class PriorSurvey(ctypes.Structure):
    """``PriorSurvey`` of device/priors.h."""

    _fields_ = (
        ("symbols", ctypes.c_void_p),
        ("blob", TableBlob),
        ("parts", PriorParts),
        ("found", ctypes.c_void_p),
        ("n", ctypes.c_int32),
    )


class Collect(ctypes.Structure):
    """``Collect`` of kernels.h: the arguments of measure and compact."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "chunks", "states", "words", "side"),
        *_fields(ctypes.c_void_p, "offsets", "out"),
        ("count", ctypes.c_int32),
    )


class Checksum(ctypes.Structure):
    """``Checksum`` of kernels.h."""

    _fields_ = (
        *_fields(ctypes.c_void_p, "bytes", "before", "after"),
        ("n", ctypes.c_int64),
        ("powers", ctypes.c_uint32 * 31),
    )


class Blob:
    """Tables in one array, and which kernels read it.

    data: uint32, a multiple of 16 bytes. kind: "near" (shared memory, 8-bit
    guesses), "large" (shared, 16-bit guesses) or "far" (too big for it).
    """

    def __init__(
        self, tables: TableSet, data: np.ndarray, kind: str, bits: int
    ) -> None:
        self.data, self.kind = data, kind
        self.shared = 0 if kind == "far" else data.nbytes
        self._numbers = (
            *(data.nbytes // 16, tables.precision, len(tables)),
            *(tables.freqs.size, bits, int(tables.has_escape.any())),
        )

    def struct(self, pointer: int) -> TableBlob:
        """Return the kernels' view; ``pointer``: where ``data`` was put."""
        return TableBlob(pointer, *self._numbers)


def decoder_blob(tables: TableSet, limit: int) -> Blob:
    """Return two-level tables; for shared memory if they fit ``limit`` bytes.

    Each table's guesses are for the leading bits of a slot: fewer bits, longer walks.
    """
    large = int(tables.sizes.max()) > 256
    bits = min(tables.precision, int(tables.sizes.max()).bit_length() if large else 8)
    wanted = bits
    while bits >= 4:
        blob = _decoder_data(tables, bits, np.dtype("u2" if large else "u1"))
        if blob.nbytes <= limit:
            return Blob(tables, blob, "large" if large else "near", bits)
        bits -= 1
    return Blob(tables, _decoder_data(tables, wanted, np.dtype("u2")), "far", wanted)


def _decoder_data(tables: TableSet, bits: int, guess: np.dtype) -> np.ndarray:
    entries = tables.starts.astype(np.uint32) | tables.freqs.astype(np.uint32) << 16
    first = tables.first[:-1].astype(np.uint32)
    return _join(entries, first, tables.minimum, tables.guesses(bits).astype(guess))


def encoder_blob(tables: TableSet, limit: int) -> Blob:
    """Return the encoder's rows; for shared memory if they fit ``limit`` bytes."""
    rows = entries(tables.starts, tables.freqs)
    data = _join(rows, tables.first.astype(np.uint32), tables.minimum)
    return Blob(tables, data, "near" if data.nbytes <= limit else "far", 0)


def _join(*parts: np.ndarray) -> np.ndarray:
    octets = b"".join(part.tobytes() for part in parts)
    return np.frombuffer(octets + bytes(-len(octets) % 16), np.uint32)


def decoder_chunks(
    frames: Sequence[Frame],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all frames' chunks (C,) CHUNK, states, words and side lists."""
    shapes = [frame.states.shape for frame in frames]
    chunks = _chunks(shapes, [frame.mini for frame in frames])
    words = [part for frame in frames for part in frame.words]
    side = [part for frame in frames for part in frame.side]
    _ranges(chunks, "word", [part.size for part in words], "word_begin")
    _ranges(chunks, "side", [part.size for part in side], "side_begin")
    states = np.concatenate([frame.states.reshape(-1) for frame in frames])
    return chunks, states, np.concatenate(words), np.concatenate(side)


def encoder_chunks(
    sizes: Sequence[int], plans: Sequence[tuple[int, int]], escapes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return chunks with room for one word a symbol, and their states at the start.

    sizes: symbols of each pass. plans: (lanes, chunks) of each stream, 0 lanes for a
    mini stream. escapes: of each stream, over all passes.
    """
    shapes = [(number, max(lanes, 1)) for lanes, number in plans]
    chunks = _chunks(shapes, [lanes == 0 for lanes, _ in plans])
    rooms = {shape: _rooms(sizes, shape) for shape in set(shapes)}
    words = [rooms[shape] for shape in shapes]
    side = [np.minimum(room, count) for room, count in zip(words, escapes, strict=True)]
    _ranges(chunks, "word", np.concatenate(words), "word_end")
    _ranges(chunks, "side", np.concatenate(side), "side_end")
    home = np.where(chunks["mini"], START, LOWER).astype(np.uint32)
    return chunks, np.repeat(home, chunks["lanes"])


def _rooms(sizes: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Return the symbols of each chunk over all passes, (chunks,) int64."""
    rooms = np.zeros(shape[0], np.int64)
    for n in sizes:
        for chunk, part in enumerate(split_pass(n, *shape)):
            rooms[chunk] += part.stop - part.start
    return rooms


def _chunks(shapes: Sequence[tuple[int, int]], mini: Sequence[bool]) -> np.ndarray:
    """Number the chunks of streams of (chunks, lanes)."""
    chunks = np.zeros(sum(number for number, _ in shapes), CHUNK)
    begin = 0
    for stream, (number, lanes) in enumerate(shapes):
        part = chunks[begin : begin + number]
        part["stream"], part["number"] = stream, np.arange(number)
        part["chunks"], part["lanes"], part["mini"] = number, lanes, mini[stream]
        begin += number
    chunks["state"] = np.cumsum(chunks["lanes"]) - chunks["lanes"]
    return chunks


def _ranges(chunks: np.ndarray, name: str, sizes: ArrayLike, at: str) -> None:
    """Give each chunk its own range of an array; it starts from ``at``."""
    lengths = np.asarray(sizes, np.int64)
    if lengths.size and lengths.max() > MAX_SYMBOLS:
        raise InputError(
            f"a chunk of {lengths.max()} words; a device takes at most {MAX_SYMBOLS}; "
            "use more chunks"
        )
    chunks[f"{name}_end"] = np.cumsum(lengths)
    chunks[f"{name}_begin"] = chunks[f"{name}_end"] - lengths
    chunks[name] = chunks[at]


def warps_of(chunks: np.ndarray) -> np.ndarray:
    """Put neighbouring chunks of equal shape into warps, (W,) WARP_CHUNKS."""
    same = np.ones(chunks.size, bool)
    for name in ("lanes", "chunks", "mini"):
        same[1:] &= chunks[name][1:] == chunks[name][:-1]
    edges = np.append(
        np.flatnonzero(~same | (np.arange(chunks.size) == 0)), chunks.size
    )
    warps = []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        step = _WARP // int(chunks["lanes"][begin])
        warps += [(at, min(step, end - at)) for at in range(begin, end, step)]
    return np.array(warps, WARP_CHUNKS)
