# SPDX-License-Identifier: Apache-2.0
"""Containers that are no lists of chunks: what shows that they are cut.

Ogg        pages, each with a checksum and a number; the last has the flag of the end
Matroska   the size of its segment            ASF   the size of the file
MPEG       a first frame that counts the others, or nothing; each frame its own size
FLAC       blocks before the frames, which carry checksums that libFLAC looks at
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

from polycodec.errors import InputError

_PAGE = struct.Struct("<4sBBqIIIB")  # OggS, version, flags, granule, serial, number …
_REVERSED = bytes(int(f"{k:08b}"[::-1], 2) for k in range(256))
_SEGMENT = b"\x18\x53\x80\x67"
_FIRST, _LAST = 2, 4  # flags of pages
# What streams behind one another must have in common: codec, channels and rate.
_SAME = re.compile(rb"OpusHead..|\x01vorbis.{9}|.{0,64}", re.DOTALL)
_FLAC_START = b"fLaC\0\0\0\x22"
_PIECE = 1 << 20
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check(stream: BinaryIO, start: bytes, end: int) -> tuple[str, list[str]]:
    """(why libsndfile will not do, notes); InputError for a file that is cut."""
    if start[:4] == b"OggS":
        return _ogg(stream, end)
    if start[:4] == b"\x1aE\xdf\xa3":
        _matroska(stream, end)
    elif start[:4] == b"\x30\x26\xb2\x75":
        _asf(stream, end)
    elif start[:3] == b"FLV":
        _rows(stream, 13, end, lambda head: 15 + int.from_bytes(head[1:4], "big"))
    elif start[:14] == b"Creative Voice":
        at = int.from_bytes(start[20:22], "little")
        _rows(stream, at, end, _voc_block)
    elif start[:1] == start[188:189] == b"G" and end % 188:
        raise _cut(end - end % 188 + 188, end)
    elif start[:4] == b"fLaC":
        return "", _flac(stream)
    elif is_mpeg(start) and least_samples(stream) is None:
        return "it is MPEG audio that does not say how long it is", []
    return "", []


def is_mpeg(start: bytes) -> bool:
    """Whether a file begins like MPEG audio, with a frame or with tags."""
    return bool(re.match(rb"ID3|\xff[\xe0-\xff]", start))


def least_samples(stream: BinaryIO) -> int | None:
    """Samples of MPEG audio by the count in its first frame; None: it does not count.

    Less what encoders add at both ends, which is not more than three frames.
    """
    stream.seek(0)
    head = stream.read(10)
    tags = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        tags = 10 + (a << 21 | b << 14 | c << 7 | d)
    stream.seek(tags)
    frame = stream.read(256)
    found = re.search(rb"(?:Xing|Info)...(.)(....)", frame, re.DOTALL)
    if not found or not found[1][0] & 1:
        return None
    version_1 = frame[1] & 8
    return max(0, int.from_bytes(found[2], "big") - 3) * (1152 if version_1 else 576)


def mpeg_frame(head: bytes) -> int:
    """Bytes of the MPEG audio frame that begins with ``head``, 0: of any size.

    ISO 11172-3 and 13818-3, tables of bit rates and sampling rates.
    """
    word = int.from_bytes(head[:4].ljust(4, b"\0"), "big")
    version, layer = word >> 19 & 3, 4 - (word >> 17 & 3)
    rate, step, padding = word >> 10 & 3, word >> 12 & 15, word >> 9 & 1
    if (
        word >> 21 != 0x7FF
        or version == 1
        or layer > 3
        or rate > 2
        or not 0 < step < 15
    ):
        return 0
    low = version != 3
    if low and layer == 1:
        return 0
    kbps = _KBPS[low and layer > 1, layer if not low else min(layer, 2)][step - 1]
    hertz = (44100, 48000, 32000)[rate] >> (0 if not low else 2 if version == 0 else 1)
    if layer == 1:
        return (12000 * kbps // hertz + padding) * 4
    return (72000 if low and layer == 3 else 144000) * kbps // hertz + padding


_KBPS = {
    (False, 1): range(32, 449, 32),
    (False, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _ogg(stream: BinaryIO, end: int) -> tuple[str, list[str]]:
    """Walk all pages: their checksums, their numbers, the flag of the end."""
    last: dict[int, tuple[int, int]] = {}  # number and time of streams without an end
    heads: set[bytes] = set()
    streams, at, began_sound = 0, 0, False
    while at < end:
        stream.seek(at)
        head = stream.read(_PAGE.size)
        if not last and streams and head[:4] != b"OggS":
            return "", [f"{end - at} bytes behind the last page are left out"]
        sizes = stream.read(head[-1]) if len(head) == _PAGE.size else b""
        body = stream.read(sum(sizes))
        if not sizes or len(body) < sum(sizes):
            raise InputError(f"it is cut inside the page at byte {at}; get it again")
        name, _, flags, time, serial, number, crc, _ = _PAGE.unpack(head)
        plain = head[:22] + bytes(4) + head[26:] + sizes + body
        if name != b"OggS" or _crc(plain) != crc:
            raise InputError(f"it is damaged in the page at byte {at}; get it again")
        streams += bool(flags & _FIRST)
        if flags & _FIRST:
            start = _SAME.match(body)[0]  # type: ignore[index]  # of anything
            if began_sound and start not in heads:
                raise _joined(at)
            heads.add(start)
        began_sound |= not flags & _FIRST
        before, began = last.get(serial, (-1, 0))
        # A recorded broadcast has a gap between its head and where it was tuned in.
        if number != before + 1 and began > 0:
            raise InputError(f"pages are missing before byte {at}; get it again")
        last[serial] = number, time
        if flags & _LAST:
            del last[serial]
        at += len(plain)
    notes = ["it has no last page: it may be cut"] if last else []
    return ("it holds several streams" if streams > 1 else ""), notes


def _crc(data: bytes) -> int:
    """Ogg's checksum, zlib's polynomial the other way round, from 0."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _rows(stream: BinaryIO, at: int, end: int, size_of: Callable[[bytes], int]) -> None:
    """Walk records whose head of 4 bytes says how long they are; 0: the last."""
    while at < end:
        stream.seek(at)
        head = stream.read(4)
        size = size_of(head)
        at += size
        if at > end:
            raise _cut(at, end)
        if not size:
            return


def _voc_block(head: bytes) -> int:
    return 4 + int.from_bytes(head[1:], "little") if 0 < head[0] < 10 else 0


def _cut(expected: int, found: int) -> InputError:
    return InputError(
        f"it is cut; expected {expected} bytes, found {found}; get it again"
    )


def _joined(at: int) -> InputError:
    return InputError(
        f"another stream begins at byte {at}, behind the first; libraries would stop "
        "there; expected one, or Ogg of the same codec, channels and rate; cut it there"
    )


def _matroska(stream: BinaryIO, end: int) -> None:
    """Walk elements: each must end inside the file; those of no size are entered."""
    at = 0
    while at < end:
        stream.seek(at)
        head = stream.read(16)
        _, behind = _vint(head, 0)
        size, body = _vint(head, behind)
        unknown = size + 1 == 1 << 7 * (body - behind)
        stop = at + body + (0 if unknown else size)
        if stop > end:
            raise _cut(stop, end)
        at = at + body if head[:4] == _SEGMENT else stop


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of EBML, whose first bits say how long it is, and where it ends."""
    length = 9 - data[at].bit_length() if at < len(data) and data[at] else 8
    value = int.from_bytes(data[at : at + length], "big")
    return value & (1 << 7 * length) - 1, at + length


def _asf(stream: BinaryIO, end: int) -> None:
    """Compare the size that the file properties say with the file's."""
    stream.seek(0)
    head = stream.read(1 << 16)
    at = head.find(_FILE_PROPERTIES)
    size = int.from_bytes(head[at + 40 : at + 48], "little") if at > 0 else 0
    if size > end:
        raise _cut(size, end)


def _flac(stream: BinaryIO) -> list[str]:
    """Name blocks that hold more than sound and tags; refuse a second stream."""
    left, at, last = [], 4, False
    for _ in range(128):
        stream.seek(at)
        head = stream.read(4)
        if last or len(head) < 4:
            break
        last, kind = bool(head[0] & 128), head[0] & 127
        if kind in (2, 5):
            left.append({2: "application", 5: "cue sheet"}[kind])
        at += 4 + int.from_bytes(head[1:], "big")
    stream.seek(at)
    piece = b""
    while more := stream.read(_PIECE):
        piece = piece[1 - len(_FLAC_START) :] + more
        if _FLAC_START in piece:
            raise _joined(stream.tell() - len(piece) + piece.find(_FLAC_START))
    return [f"blocks that are left out: {', '.join(left)}"] if left else []
