# SPDX-License-Identifier: Apache-2.0
"""Where bytes come from: a path, an open file, or a pipe that is copied.

with opened("photo.plc") as file: ...     a path, a place, or what is open already
seekable(sys.stdin.buffer)                a pipe that can be read twice
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from polycodec import places
from polycodec.codecs.files.results import readable
from polycodec.errors import InputError

Twice = str | os.PathLike[str] | BinaryIO  # what can be read twice
Source = Twice | bytes
MAX_PIPE = 1 << 36  # bytes taken from a source that cannot seek
_MEMORY = 8 << 20  # bytes kept in memory
_PIECE = 1 << 20  # bytes copied at a time


@contextlib.contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """A path opened for reading, a stream as it is, or bytes as one."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        yield source
        return
    with places.opened(source) as file:
        yield file


def seekable(source: Source) -> Twice:
    """The source, or a temporary copy where it cannot be read twice (a pipe).

    InputError for what is no path, no open binary file and no bytes.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        try:
            if not isinstance(source, io.TextIOBase):
                return source if source.seekable() else spooled(source)
        except (AttributeError, ValueError):  # of what is no file, or a closed one
            pass
        raise InputError(
            f"cannot read a {type(source).__name__}; expected a path, an open "
            "binary file or bytes; codec.compress takes tensors"
        )
    if not os.path.exists(source) or os.path.isfile(source) or os.path.isdir(source):
        return source
    with opened(source) as pipe:
        return spooled(pipe)


def name_of(source: Source) -> str:
    """What to call a source or target in messages and results; "-" is a stream."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"


def grown(source: Twice, size: int) -> Iterator[str]:
    """Say when a file of ``size`` bytes is no smaller than what it was made of."""
    if isinstance(source, (str, os.PathLike)):
        before = places.size(source)
    else:
        before = source.seek(0, os.SEEK_END)
    if size >= before:
        yield (
            f"the file is larger than its source, {readable(size)} against "
            f"{readable(before)}; take a lower quality, or keep the source"
        )


def spooled(pipe: BinaryIO, start: bytes = b"") -> BinaryIO:
    """Return a copy of ``pipe`` at its beginning; ``start`` was read from it already.

    A file on disk has no name and goes when it is closed. Raises InputError for a
    pipe without end, or when there is no room for the copy.
    """
    spool: BinaryIO = io.BytesIO()
    piece = start
    try:
        while True:
            if isinstance(spool, io.BytesIO) and spool.tell() + len(piece) > _MEMORY:
                memory = spool.getvalue()
                spool = tempfile.TemporaryFile()  # noqa: SIM115
                spool.write(memory)
            spool.write(piece)
            if spool.tell() > MAX_PIPE:
                raise InputError(f"the input is longer than {MAX_PIPE} bytes")
            if not (piece := pipe.read(_PIECE) or b""):
                break
        spool.seek(0)
    except OSError as error:
        raise InputError(
            f"cannot keep the input in {tempfile.gettempdir()}; {error.strerror}; "
            "free space there or set TMPDIR"
        ) from error
    return spool
