# SPDX-License-Identifier: Apache-2.0
"""A pipe that can be read twice: in memory while it is short, else on disk."""

from __future__ import annotations

import io
import tempfile
from typing import BinaryIO

from polycodec.errors import InputError

MAX_PIPE = 1 << 36  # bytes taken from a source that cannot seek
_MEMORY = 8 << 20  # bytes kept in memory
_PIECE = 1 << 20  # bytes copied at a time


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
