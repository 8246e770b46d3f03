# SPDX-License-Identifier: Apache-2.0
"""What a container declares against what there is: libraries are silent about cuts.

    RIFF size WAVE | fmt_ size … | data size samples … | cue_ size …

A part that ends behind the end of the file is a cut. Recorders that were killed, or
wrote into a pipe, leave sizes of 0, of all ones or of some time before: those are read
to the end of the file, which `Shown` makes libraries do, and a note says so. Chunks of
WAVE, RF64, Wave64, AIFF, 8SVX, CAF, AVI and MP4 here; others in `streams.py`.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from polycodec.codecs.files.speech import streams
from polycodec.errors import InputError


@dataclass
class Checked:
    """What is known of a file before a library sees it.

    ``shown``: (place, bytes) that libraries should see instead. ``coded``: why
    libsndfile will not do. ``block``: bytes of a sample of all channels, if told.
    """

    notes: list[str] = field(default_factory=list)
    shown: list[tuple[int, bytes]] = field(default_factory=list)
    coded: str = ""
    block: int = 0


@dataclass(frozen=True)
class _Family:
    """Containers of chunks. ``head``: name and size, in either order.

    ``sound``: the chunk of samples; ``whole``: sizes count the head; ``known``: chunks
    that libraries read, or that say nothing; none: other chunks are no matter here.
    """

    start: re.Pattern[bytes]
    first: int
    head: str
    sound: bytes
    whole: bool = False
    align: int = 1
    known: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class _Chunk:
    """A chunk whose body begins ``at``; its size stands at ``size_at``."""

    name: bytes
    at: int
    size: int
    size_at: int
    width: int


_WAVE = (
    *(b"fmt ", b"data", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64"),
    *(b"bext", b"id3 ", b"ID3 ", b"LIST", b"afsp", b"minf", b"elm1"),
)
_AIFF = (
    *(b"COMM", b"SSND", b"FVER", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"ID3 ", b"CHAN"),
    *(b"VHDR", b"BODY", b"COMT", b"PEAK"),
)
_CAF = (b"desc", b"data", b"chan", b"info", b"free", b"pakt", b"kuki")


def _like(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


_FAMILIES = (
    _Family(_like(rb"RIFF....WAVE|RF64|BW64"), 12, "<4sI", b"data", False, 2, _WAVE),
    _Family(_like(rb"RIFF....AVI "), 12, "<4sI", b"", False, 2),
    _Family(_like(rb"FORM....AIF"), 12, ">4sI", b"SSND", False, 2, _AIFF),
    _Family(_like(rb"FORM....(8SVX|16SV)"), 12, ">4sI", b"BODY", False, 2, _AIFF),
    _Family(_like(rb"riff.{20}wave"), 40, "<16sQ", b"data", True, 8, _WAVE),
    _Family(_like(rb"caff"), 8, ">4sq", b"data", False, 1, _CAF),
    _Family(_like(rb"....(ftyp|moov|mdat|wide)"), 0, ">I4s", b"", True),
)
_MAX_CHUNKS = 1000
# Chunks of fixed fields: in shorter ones libraries read what stands behind as fields.
_LEAST = {b"bext": 602}
# What stands behind samples and is neither chunk nor sound: tags, zeros.
_TRAILERS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS", bytes(4))
# Codings in WAVE files whose true length libsndfile knows; others: MPEG audio ...
_PLAIN = {1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE}

_PCM = {1, 3, 6, 7, 0xFFFE}
_AIFC_PCM = {b"", b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64"}


def check(stream: BinaryIO) -> Checked:
    """Look through a file; InputError when it is cut. The stream is at its start."""
    found = Checked()
    stream.seek(0)
    start = stream.read(4096)
    end = stream.seek(0, os.SEEK_END)
    family = next((f for f in _FAMILIES if f.start.match(start)), None)
    if family:
        _walk(stream, family, end, found)
    elif start[:4] == b".snd":
        at, size = struct.unpack(">II", start[4:12].ljust(8, b"\0"))
        _sound(_Chunk(b"samples", at, size, 8, 4), ">", 0, end, b"", found)
    else:
        found.coded, found.notes = streams.check(stream, start, end)
    stream.seek(0)
    return found


class Shown(io.RawIOBase):
    """A stream some of whose bytes look different: (place, bytes) in order."""

    def __init__(self, stream: BinaryIO, shown: Sequence[tuple[int, bytes]]) -> None:
        self._stream, self._shown = stream, shown

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._stream.tell()
        data = bytearray(self._stream.read(len(buffer)))
        for place, new in self._shown:
            for k, value in enumerate(new, place - at):
                if 0 <= k < len(data):
                    data[k] = value
        buffer[: len(data)] = data
        return len(data)


def _walk(stream: BinaryIO, family: _Family, end: int, found: Checked) -> None:
    """Each chunk must end inside the file, and is known or named in a note."""
    left: list[str] = []
    sounds = 0
    for chunk in _chunks(stream, family, end):
        name, stop = chunk.name, chunk.at + chunk.size
        stream.seek(chunk.at)
        body = stream.read(min(max(0, chunk.size), 24))
        if name == b"fmt ":
            _check_format(body, found)
        elif name == b"COMM" and body[18:22] in _AIFC_PCM:
            found.block = int.from_bytes(body[:2], "big") * -(-body[7] // 8)
        if name == family.sound:
            sounds += 1
            head = struct.calcsize(family.head) if family.whole else 0
            stream.seek(min(max(chunk.at, chunk.at + chunk.size), end))
            follows = stream.read(16)
            to_end = _sound(chunk, family.head[0], head, end, follows, found)
            _check_last(chunk, end, found)
            if to_end:
                break
        elif stop > end:
            raise _cut(chunk.size, end - chunk.at)
        elif chunk.size < _LEAST.get(name, 0):
            found.shown.append((chunk.at - struct.calcsize(family.head), b"JUNK"))
            left.append(
                f"{name.decode()} (of {chunk.size} bytes, it has {_LEAST[name]})"
            )
        elif family.known and (name not in family.known or body[:4] == b"adtl"):
            left.append(name.decode("latin-1").strip())
    if not sounds and family.sound:
        raise InputError("it has no samples; expected a chunk of them; it is cut")
    if left:
        names = ", ".join(dict.fromkeys(left))
        found.notes.append(f"chunks that are left out: {names}")


def _chunks(stream: BinaryIO, family: _Family, end: int) -> Iterator[_Chunk]:
    """All chunks, as far as their sizes lead."""
    head, at = struct.Struct(family.head), family.first
    wide = None  # RF64: the size of the samples stands before them
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        data = stream.read(head.size)
        if len(data) < head.size:
            return
        name, size = head.unpack(data)
        first = isinstance(name, int)  # the size stands first
        if first:
            name, size = size, name
        body, size_at = at + head.size, at if first else at + len(name)
        width = head.size - len(name)
        if first and size == 1:  # 64 bits follow
            size = int.from_bytes(stream.read(8), "big")
            body, size_at, width = body + 8, body, 8
        elif first and size == 0:
            size = end - at
        elif name == b"ds64":
            wide = int.from_bytes(stream.read(16)[8:], "little"), body + 8
        elif name == b"data" and wide and size == 0xFFFFFFFF:
            (size, size_at), width = wide, 8
        if family.whole:
            size -= body - at
        yield _Chunk(name[:4], body, size, size_at, width)
        if size < 0:
            return
        at = body + size + -(body + size - family.first) % family.align


def _sound(
    chunk: _Chunk, order: str, head: int, end: int, follows: bytes, found: Checked
) -> bool:
    """Check the chunk of samples; True when all up to the file's end are samples."""
    there, size = end - chunk.at, chunk.size
    full = 256**chunk.width
    if size == there or (size <= 0 and there == 0):
        return True
    # All ones, or 2^31 and a little less: what programs write that cannot seek.
    near = 0x7FFF0000 <= size <= 1 << 31 if chunk.width == 4 else size >> 62
    endless = size < 0 or (size > there and (near or size + head >= full - 256))
    if size > there and not endless and size > there + chunk.at:
        raise _cut(size, there)
    if 0 <= size < there:
        # Sizes of 8 bytes stand elsewhere, or behind longer names.
        start = follows[: 8 if chunk.width == 4 else 4]
        if _is_chunk(start, there - size, "little" if order == "<" else "big"):
            return False
        if size and follows.startswith(_TRAILERS):
            found.notes.append(f"{there - size} bytes behind the samples are left out")
            return True
    says = "does not say how long it is" if endless else f"counts {size} bytes"
    found.notes.append(f"its header {says}; the {there} that are there are coded")
    value = min(there + head, full - 1)
    word = value.to_bytes(chunk.width, "little" if order == "<" else "big")
    found.shown.append((chunk.size_at, word))
    return True


def _check_last(chunk: _Chunk, end: int, found: Checked) -> None:
    """Name the bytes behind the last whole sample, which no library hands over."""
    there = end - chunk.at
    mended = any(place == chunk.size_at for place, _ in found.shown)
    size = there if mended else min(chunk.size, there)
    if chunk.name == b"SSND":
        size -= 8  # where the samples begin, and of what blocks
    if found.block and size > 0 and (rest := size % found.block):
        found.notes.append(
            f"the last {rest} of {size} bytes are no whole sample of {found.block} "
            "bytes, and are left out"
        )


def _is_chunk(start: bytes, room: int, order: Literal["little", "big"]) -> bool:
    """Whether bytes behind samples begin a chunk that fits, or are too few for one.

    start: its name and, where a size of 4 bytes follows at once, that.
    """
    name, size = start[:4], int.from_bytes(start[4:8], order)
    named = name.isascii() and name.decode("ascii").isprintable()
    return room < 8 or (named and size <= room)


def _check_format(body: bytes, found: Checked) -> None:
    coding, rate = int.from_bytes(body[:2], "little"), body[4:8]
    if not any(rate):
        raise InputError(
            "its sample rate is 0; expected for example 16000; the header is damaged, "
            "or was never finished"
        )
    if coding in _PCM:
        found.block = int.from_bytes(body[12:14], "little")
    if coding not in _PLAIN:
        found.coded = f"its samples have the coding 0x{coding:x}"


def _cut(size: int, there: int) -> InputError:
    return InputError(
        f"it is cut; expected {size} bytes of samples, found {max(0, there)}; get it "
        "again, or repair its header"
    )
