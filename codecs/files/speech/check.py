# SPDX-License-Identifier: Apache-2.0
"""What a WAV file must be before it is read: libsndfile is silent about cuts.

RIFF size WAVE | fmt_ size … rate … | data size samples …

Recorders that write into a pipe leave a size of 0 or of all ones; those are read to
the end of the file. Any other size beyond it means that samples are missing.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from polycodec.errors import InputError

_CHUNK = struct.Struct("<4sI")
_MAX_CHUNKS = 1000
_OPEN_ENDED = 0x7FFF0000  # sizes from here on are placeholders


def check_wav(stream: BinaryIO) -> None:
    """Refuse a WAV that is cut or has a rate of 0; leaves other files alone."""
    start = stream.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        _walk(stream)
    stream.seek(0)


def _walk(stream: BinaryIO) -> None:
    end = stream.seek(0, os.SEEK_END)
    at = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            break
        name, size = _CHUNK.unpack(head)
        if name == b"fmt ":
            rate = int.from_bytes(stream.read(8)[4:], "little")
            if rate == 0:
                raise InputError(
                    "its sample rate is 0; expected for example 16000; the header is "
                    "damaged, or was never finished"
                )
        at += _CHUNK.size
        if name == b"data":
            if at + size > end and size < _OPEN_ENDED:
                raise InputError(
                    f"the WAV is cut; expected {size} bytes of samples, found "
                    f"{end - at}; get it again, or repair its header"
                )
            return
        at += size + size % 2
    raise InputError("the WAV has no samples; expected a data chunk; it is cut")
