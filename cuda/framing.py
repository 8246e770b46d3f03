# SPDX-License-Identifier: Apache-2.0
"""The frame of a stream: what stands around the coded words.

    stream  := head | [chunk directory] | [side-list counts] | [checksums] | chunk*
    head    := lanes code (bits 0-2) | several chunks (3) | checksum kind (4-5)
               | side list (6) | 0 (7)
    chunk   := N states u32 | words u16 | side list i16          (little endian)
    mini    := state, 0..4 bytes | words u16 | side list i16     (lanes code 7)

FORMAT.md says it in full. This file only cuts bytes apart and puts them together;
what the states and words mean stands in reference.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polycodec.cuda.checksum import crc32c
from polycodec.errors import BitstreamError, ChecksumError, TruncatedError, VersionError

# BITSTREAM: everything in this block.
MINI = 7
MANY_CHUNKS = 1 << 3
CHECKSUM_SHIFT = 4
CHECKSUMS = ("none", "stream", "chunk")
SIDE_LIST = 1 << 6
RESERVED = 1 << 7
LOWER = 1 << 16  # states live in [LOWER, 2^32) between symbols; all lanes start here
MINI_START = 1  # a mini stream's only lane starts with no bits at all


@dataclass
class Frame:
    """A stream cut apart, or the parts of one to be put together.

    states: (C, N) uint32, words: per chunk (W_c,) uint16 in reading order,
    side: per chunk (E_c,) int16 in decoding order. C = N = 1 in a mini stream.
    """

    states: np.ndarray
    words: list[np.ndarray]
    side: list[np.ndarray]
    mini: bool
    checksum: str = "none"


def write_frame(frame: Frame) -> bytes:
    """Return the stream's bytes."""
    chunks, lanes = frame.states.shape
    head = MINI if frame.mini else lanes.bit_length() - 1
    head |= CHECKSUMS.index(frame.checksum) << CHECKSUM_SHIFT
    directory = bytearray()
    if chunks > 1:
        head |= MANY_CHUNKS
        directory += _varint(chunks - 1)
        lengths = [words.size for words in frame.words]
        directory += _varint(lengths[0])
        for length in lengths[1:-1]:
            directory += _varint(_zigzag(length - lengths[0]))
    if any(side.size for side in frame.side):
        head |= SIDE_LIST
        for side in frame.side:
            directory += _varint(side.size)
    header = bytes([head]) + bytes(directory)
    if frame.mini:
        # A lane that carries nothing and no words: not even the head is needed.
        body = [_mini_state(int(frame.states[0, 0])) + _tail(frame, 0)]
        if header == bytes([MINI]) and not body[0]:
            return b""
    else:
        states = frame.states.astype("<u4")
        body = [states[c].tobytes() + _tail(frame, c) for c in range(chunks)]
    return header + _checksums(frame.checksum, header, body) + b"".join(body)


def read_frame(data: bytes) -> Frame:
    """Cut a stream apart, checking every length and checksum.

    Raises TruncatedError, ChecksumError, VersionError or BitstreamError.
    """
    reader = _Reader(data or bytes([MINI]))
    head = reader.byte()
    code, kind = head & 7, head >> CHECKSUM_SHIFT & 3
    mini = code == MINI
    if head & RESERVED or code == 6 or kind >= len(CHECKSUMS):
        raise VersionError(
            f"stream head {head:#04x} uses reserved bits; this build knows lanes codes "
            "0-5 and 7, checksum kinds 0-2; decode with a newer polycodec"
        )
    if mini and head & MANY_CHUNKS:
        raise BitstreamError("a mini stream cannot have chunks; the head is corrupt")
    lanes = 1 if mini else 1 << code
    chunks, lengths = 1, []
    if head & MANY_CHUNKS:
        chunks, lengths = _read_directory(reader, lanes)
    counts = [0] * chunks
    if head & SIDE_LIST:
        counts = [reader.varint() for _ in range(chunks)]
        if not any(counts):
            raise BitstreamError("the stream announces an empty side list; corrupt")
    header = reader.taken()
    checksum = CHECKSUMS[kind]
    number = {"none": 0, "stream": 1, "chunk": chunks}[checksum]
    sums = np.frombuffer(reader.take(4 * number), "<u4")
    body = reader.rest()
    bodies = [body] if mini else _split(body, lanes, lengths, counts)
    _verify(checksum, sums, header, bodies)
    cut = _cut_mini if mini else _cut_chunk
    parts = [
        cut(body, lanes, count) for body, count in zip(bodies, counts, strict=True)
    ]
    states, words, side = (list(column) for column in zip(*parts, strict=True))
    states = np.stack(states)
    for chunk in np.flatnonzero((states < LOWER).any(axis=1) & (not mini)):
        raise BitstreamError(
            f"chunk {chunk} of {chunks} is corrupt: a lane's state is below 2^16"
        )
    return Frame(states, words, side, mini, checksum)


def _read_directory(reader: _Reader, lanes: int) -> tuple[int, list[int]]:
    """Read the number of chunks and the words of all but the last one."""
    chunks = reader.varint() + 1
    # Each chunk holds its states at least: no more chunks than bytes for them.
    if chunks < 2 or chunks * 4 * lanes > reader.left():
        raise BitstreamError(
            f"the stream announces {chunks} chunks of {lanes} lanes but has "
            f"{reader.left()} bytes left for them; it is corrupt or cut"
        )
    lengths = [reader.varint()]
    for _ in range(chunks - 2):
        lengths.append(lengths[0] + _unzigzag(reader.varint()))
    if min(lengths) < 0:
        raise BitstreamError("the stream's chunk directory is corrupt: length below 0")
    return chunks, lengths


def _split(
    body: memoryview, lanes: int, lengths: list[int], counts: list[int]
) -> list[memoryview]:
    """Cut the body into chunks; the last one takes what is left."""
    sizes = [
        4 * lanes + 2 * (words + count)
        for words, count in zip(lengths, counts[:-1], strict=True)
    ]
    last = len(body) - sum(sizes)
    least = 4 * lanes + 2 * counts[-1]
    if last < least:
        raise TruncatedError(
            f"the stream is cut: its last chunk needs {least} bytes or more, "
            f"{max(last, 0)} are left"
        )
    if last % 2:
        raise TruncatedError("the stream is cut in the middle of a 16-bit word")
    bodies, begin = [], 0
    for size in [*sizes, last]:
        bodies.append(body[begin : begin + size])
        begin += size
    return bodies


def _cut_chunk(
    body: memoryview, lanes: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a chunk into states (N,), words and side list."""
    states = np.frombuffer(body[: 4 * lanes], "<u4").astype(np.uint32)
    return states, *_cut_tail(body[4 * lanes :], count)


def _cut_mini(
    body: memoryview, lanes: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a mini stream: its length alone says how many bytes the state has."""
    length = len(body) - 2 * count
    if length < 0:
        raise TruncatedError(f"the stream is cut: {count} escapes exceed its bytes")
    # Words exist only above a state of 2^16, that is of 3 or 4 bytes.
    size = length if length <= 4 else 4 - length % 2
    state = int.from_bytes(body[:size], "little") if size else MINI_START
    if size and (body[size - 1] == 0 or state == MINI_START):
        raise BitstreamError("the mini stream's state has a byte too many; corrupt")
    states = np.full(lanes, state, dtype=np.uint32)
    return states, *_cut_tail(body[size:], count)


def _cut_tail(body: memoryview, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut what follows the states into words and ``count`` escapes."""
    end = len(body) - 2 * count
    words = np.frombuffer(body[:end], "<u2").astype(np.uint16)
    return words, np.frombuffer(body[end:], "<i2").astype(np.int16)


def _mini_state(state: int) -> bytes:
    if state == MINI_START:
        return b""
    return state.to_bytes((state.bit_length() + 7) // 8, "little")


def _tail(frame: Frame, chunk: int) -> bytes:
    words, side = frame.words[chunk], frame.side[chunk]
    return words.astype("<u2").tobytes() + side.astype("<i2").tobytes()


def _checksums(kind: str, header: bytes, bodies: list) -> bytes:
    """Return the checksums; each one covers the header too."""
    seed = crc32c(header)
    if kind == "none":
        return b""
    if kind == "chunk":
        return b"".join(crc32c(body, seed).to_bytes(4, "little") for body in bodies)
    for body in bodies:
        seed = crc32c(body, seed)
    return seed.to_bytes(4, "little")


def _verify(kind: str, sums: np.ndarray, header: bytes, bodies: list) -> None:
    found = np.frombuffer(_checksums(kind, header, bodies), "<u4")
    wrong = np.flatnonzero(found != sums)
    if wrong.size:
        what = "the stream" if kind == "stream" else f"chunk {wrong[0]} of {sums.size}"
        raise ChecksumError(
            f"{what} is corrupt; CRC-32C expected {sums[wrong[0]]:08x}, "
            f"found {found[wrong[0]]:08x}; fetch the file again"
        )


class _Reader:
    """A cursor over bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data).cast("B")
        self._at = 0

    def left(self) -> int:
        return len(self._data) - self._at

    def taken(self) -> bytes:
        return bytes(self._data[: self._at])

    def take(self, count: int) -> memoryview:
        if count > self.left():
            raise TruncatedError(
                f"the stream is cut; its header needs {count} bytes more, "
                f"{self.left()} are left"
            )
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> memoryview:
        return self.take(self.left())

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        """Read 7 bits a byte, low bits first, in the shortest form, < 2^32."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (shift and not byte) or value >> 32:
                    break
                return value
        raise BitstreamError("the stream's header is corrupt: number not in its form")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2
