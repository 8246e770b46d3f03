# SPDX-License-Identifier: Apache-2.0
"""Image or sound? Told from the first bytes, then from the name; never by a flag.

kind_of("talk.flac")    "speech"        kind_of("photo.png")    "image"
stored_kind("a.plc")    what a file of ours holds, from its first bytes

What nobody recognises counts as an image, whose reader says what it expects.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Cursor, get_rows
from polycodec.codecs.files.speech.read import SUFFIXES
from polycodec.errors import CodecError

_START = 64  # bytes that are looked at
_IMAGES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"GIF8",
    b"BM",
    b"P5",
    b"P6",
)
_SOUNDS = (
    b"fLaC",
    b"OggS",
    b"ID3",
    b"RF64",
    b"riff",  # Wave64
    b".snd",
    b"caff",
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x30\x26\xb2\x75",  # ASF
    b"#!AMR",
)
_STILL = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts", ".m4v", ".3gp")


def kind_of(source: str | os.PathLike[str] | BinaryIO) -> str:
    """ "image" or "speech", of a path or a binary file that can seek."""
    named = isinstance(source, (str, os.PathLike))
    suffix = os.path.splitext(os.fspath(source))[1].lower() if named else ""
    return _by_content(_first(source)) or _by_suffix(suffix)


def stored_kind(source: str | os.PathLike[str] | BinaryIO) -> str | None:
    """Kind of the signal in a ``.plc`` file; None when its start is no such file."""
    cursor = Cursor(_first(source))
    try:
        if get_rows(cursor, layout.PREFIX)["magic"] != layout.MAGIC:
            return None
        return get_rows(cursor, layout.START[:1])["kind"]
    except CodecError:
        return None


def _first(source: str | os.PathLike[str] | BinaryIO) -> bytes:
    """The first bytes, without moving; none when it cannot be read: others say why."""
    if not isinstance(source, (str, os.PathLike)):
        at = source.tell()
        data = source.read(_START)
        source.seek(at)
        return data
    if not os.path.isfile(source):  # looking into a pipe would take from it
        return b""
    try:
        with open(source, "rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def _by_content(start: bytes) -> str | None:
    if start[:4] == b"RIFF":
        return "image" if start[8:12] == b"WEBP" else "speech"
    if start[:4] == b"FORM" and start[8:11] == b"AIF":
        return "speech"
    if start[4:8] == b"ftyp":
        return "image" if start[8:12] in _STILL else "speech"
    if start.startswith(_SOUNDS):
        return "speech"
    if start.startswith(_IMAGES):
        return "image"
    # A frame of MP3 or AAC begins with eleven ones.
    mpeg = len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0
    return "speech" if mpeg else None


def _by_suffix(suffix: str) -> str:
    return "speech" if suffix in SUFFIXES + VIDEO_SUFFIXES else "image"
