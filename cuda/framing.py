# SPDX-License-Identifier: Apache-2.0
"""The frame of a stream: what stands around the coded words.

    stream  := head | [chunk directory] | [side-list counts] | [checksums] | chunk*
    head    := lanes code (bits 0-2) | several chunks (3) | checksum kind (4-5)
               | side list (6) | 0 (7)
    chunk   := N states u32 | words u16 | side list i16          (little endian)
    mini    := mini.py's body | side list i16        (lanes code 6 or 7, one lane)

FORMAT.md says it in full. This file only cuts bytes apart and puts them together;
reference.py says what the states and words mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.cuda import mini
from polycodec.cuda.host.checksum import crc32c
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    TruncatedError,
    VersionError,
)

# BITSTREAM: everything in this block.
MINI = 7
BARE = 6  # mini, no checksum, no side list: the head's upper bits belong to the state
BARE_BITS = 5
MANY_CHUNKS = 1 << 3
CHECKSUM_SHIFT = 4
CHECKSUMS = ("none", "stream", "chunk")
SIDE_LIST = 1 << 6
RESERVED = 1 << 7
LOWER = 1 << 16  # states live in [LOWER, 2^32) between symbols; all lanes start here


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
    if frame.mini:
        return _write_mini(frame)
    chunks, lanes = frame.states.shape
    head = lanes.bit_length() - 1
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
    body = [
        b"".join([states.astype("<u4", copy=False), *_tail(words, side)])
        for states, words, side in zip(
            frame.states, frame.words, frame.side, strict=True
        )
    ]
    return b"".join([header, _checksums(frame.checksum, header, body), *body])


def _write_mini(frame: Frame) -> bytes:
    state, words, side = int(frame.states[0, 0]), frame.words[0], frame.side[0]
    if not side.size and frame.checksum == "none":
        low, body = mini.write_body(state, words, BARE_BITS)
        if not body and low == mini.START:
            return b""  # no bytes say as much
        return bytes([BARE | low << 3]) + body
    head = MINI | CHECKSUMS.index(frame.checksum) << CHECKSUM_SHIFT
    header = bytes([head])
    if side.size:
        header = bytes([head | SIDE_LIST]) + _varint(side.size)
    body = b"".join([mini.write_body(state, words, 0)[1], *_tail(words[:0], side)])
    return header + _checksums(frame.checksum, header, [body]) + body


def read_frame(data: bytes) -> Frame:
    """Cut a stream apart, checking every length and checksum.

    Raises TruncatedError, ChecksumError, VersionError or BitstreamError; InputError for
    what is not bytes.
    """
    nothing = bytes([BARE | mini.START << 3])
    try:
        data = data if memoryview(data).c_contiguous else bytes(data)
    except TypeError as error:
        found = type(data).__name__
        raise InputError(f"a stream is of type {found}; expected bytes") from error
    if len(data) == 1 and bytes(data) == nothing:
        raise BitstreamError("a stream that says nothing has no bytes; corrupt")
    reader = _Reader(data if len(data) else nothing)
    head = reader.byte()
    code, kind = head & 7, head >> CHECKSUM_SHIFT & 3
    if code == BARE:
        state, words = mini.read_body(reader.rest(), head >> 3, BARE_BITS)
        return _mini_frame(state, words, np.empty(0, np.int16), "none")
    if head & RESERVED or kind >= len(CHECKSUMS):
        raise VersionError(
            f"stream head {head:#04x} uses reserved bits, which this build does not "
            "know; decode with a newer polycodec"
        )
    if code == MINI and (head & MANY_CHUNKS or not head >> CHECKSUM_SHIFT):
        raise BitstreamError(f"no mini stream has the head {head:#04x}; it is corrupt")
    lanes = 0 if code == MINI else 1 << code
    chunks, lengths = 1, list[int]()
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
    bodies = _split(reader.rest(), lanes, lengths, counts)
    _verify(checksum, sums, header, bodies)
    if code == MINI:
        rest, side = _cut(bodies[0], counts[0])
        return _mini_frame(*mini.read_body(rest, 0, 0), side, checksum)
    return _chunk_frame(bodies, lanes, counts, checksum)


def _mini_frame(
    state: int, words: np.ndarray, side: np.ndarray, checksum: str
) -> Frame:
    return Frame(np.array([[state]], np.uint32), [words], [side], True, checksum)


def _chunk_frame(
    bodies: list[memoryview], lanes: int, counts: list[int], checksum: str
) -> Frame:
    states = np.empty((len(bodies), lanes), np.uint32)
    for chunk, body in enumerate(bodies):
        states[chunk] = np.frombuffer(body[: 4 * lanes], "<u4")
    if states.min() < LOWER:
        chunk = int(np.argmax((states < LOWER).any(axis=1)))
        raise BitstreamError(
            f"chunk {chunk} of {len(bodies)} is corrupt: a state is below 2^16"
        )
    words, side = [], []
    for body, count in zip(bodies, counts, strict=True):
        rest, escapes = _cut(body[4 * lanes :], count)
        # Not copied yet, and at an odd address: Lanes.for_decoding puts it right.
        words.append(np.frombuffer(rest, "<u2"))
        side.append(escapes)
    return Frame(states, words, side, False, checksum)


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
    """Cut the body into chunks; the last one takes what is left. 0 lanes: mini."""
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
    if last % 2 and lanes:  # a mini stream's state may have any number of bytes
        raise TruncatedError("the stream is cut in the middle of a 16-bit word")
    bodies, begin = [], 0
    for size in [*sizes, last]:
        bodies.append(body[begin : begin + size])
        begin += size
    return bodies


def _cut(body: memoryview, count: int) -> tuple[memoryview, np.ndarray]:
    """Split ``count`` escapes off the end."""
    if not count:
        return body, np.empty(0, np.int16)
    end = len(body) - 2 * count
    return body[:end], np.frombuffer(body[end:], "<i2").astype(np.int16)


def _tail(words: np.ndarray, side: np.ndarray) -> list[Any]:
    return [words.astype("<u2", copy=False), side.astype("<i2", copy=False)]


def _checksums(kind: str, header: bytes, bodies: list) -> bytes:
    """Return the checksums; each one covers the header too."""
    if kind == "none":
        return b""
    seed = crc32c(header)
    if kind == "chunk":
        return b"".join(crc32c(body, seed).to_bytes(4, "little") for body in bodies)
    for body in bodies:
        seed = crc32c(body, seed)
    return seed.to_bytes(4, "little")


def _verify(kind: str, sums: np.ndarray, header: bytes, bodies: list) -> None:
    if kind == "none":
        return
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
