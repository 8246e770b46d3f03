# SPDX-License-Identifier: Apache-2.0
"""Whether a file has a video track, from its bytes alone: containers hold both kinds.

A look at heads of boxes and tables, a few kilobytes of a file of any size; no library.
Cover images are no video: they stand in tags and attachments.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

# What begins as one of these may hold video, sound, or both.
START = re.compile(
    rb"YUV4MPEG2|....(?:ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI |FLV"
    rb"|\x30\x26\xb2\x75|OggS|\0\0\x01[\xba\xb3]|\x47.{3}",
    re.DOTALL,
)
_HEAD = 1 << 16  # bytes in which tables of other containers lie
_BOXES = 1000
_MOOV = 1 << 26  # bytes of an index that are looked through
# Tables of tracks, by what a file begins with, and what stands there for video.
_SIGNS = (
    (rb"YUV4MPEG2|\0\0\x01[\xba\xb3]", rb""),
    (rb"\x1aE\xdf\xa3", rb"\x83\x81\x01"),  # TrackType 1
    (rb"RIFF....AVI ", rb"strh.{4}vids"),
    (rb"FLV.[\x01\x05]", rb""),
    (rb"\x30\x26\xb2\x75", rb"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11"),  # ASF's Video Media
    (rb"OggS", rb"OggS.{24,280}?(?:\x80theora|BBCD\0|OVP80\x01)"),
    # Of MPEG-TS the map of a program: types of streams, of which these are video.
    (rb"\x47.{187}\x47", rb"\x02\xb0.{10,60}?[\x01\x02\x10\x1b\x24\x33][\xe0-\xff]"),
)


def has_video(stream: BinaryIO) -> bool | None:
    """Whether the file has a video track, None: it does not say (it is cut).

    The stream is left where it was.
    """
    at = stream.tell()
    try:
        stream.seek(0)
        head = stream.read(_HEAD)
        if re.match(rb"....(?:ftyp|moov|mdat|wide)", head, re.DOTALL):
            moov = _moov(stream)
            return b"vide" in moov if moov else None
        return any(
            re.match(start, head, re.DOTALL) and re.search(sign, head, re.DOTALL)
            for start, sign in _SIGNS
        )
    finally:
        stream.seek(at)


def _moov(stream: BinaryIO) -> bytes:
    """The table of tracks of MP4 and MOV, wherever it stands; what is there of it."""
    end, at = stream.seek(0, os.SEEK_END), 0
    for _ in range(_BOXES):
        stream.seek(at)
        head = stream.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if name == b"moov":
            stream.seek(at)
            return stream.read(min(size or _MOOV, _MOOV))
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8 or at + size >= end:
            break
        at += size
    return b""
