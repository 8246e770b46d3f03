# SPDX-License-Identifier: Apache-2.0
"""Which seconds of a damaged speech file are still good.

with_seconds(error, reader)     the same error, with the intact seconds in its message
"""

from __future__ import annotations

import contextlib
from typing import BinaryIO

from polycodec.codecs.files.container.file import (
    Reader,
    SpeechGeometry,
    tolerant_reader,
)
from polycodec.errors import BitstreamError


def with_seconds(error: BitstreamError, source: Reader | BinaryIO) -> BitstreamError:
    """The error with the seconds that are still good, if it is about speech."""
    reader = tolerant_reader(source)
    geometry = reader and reader.header.geometry
    if not reader or not isinstance(geometry, SpeechGeometry):
        return error
    ranges: list[tuple[float, float]] = []  # whose chunks are whole, neighbours joined
    for k in range(reader.n_chunks):
        with contextlib.suppress(BitstreamError):
            reader.chunk(k)
            begin, end = times_of(geometry, k)
            if ranges and abs(ranges[-1][1] - begin) < 1e-9:
                begin = ranges.pop()[0]
            ranges.append((begin, end))
    good = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in ranges) or "none"
    message = str(error).removesuffix("; get the file again")
    return type(error)(
        f"{message}; intact seconds: {good}; use --salvage to decode them with silence "
        "for the rest"
    )


def times_of(geometry: SpeechGeometry, k: int) -> tuple[float, float]:
    """(from, to) of chunk k in seconds."""
    rate = geometry.codec_rate
    end = min((k + 1) * geometry.span / rate, geometry.samples / geometry.rate)
    return k * geometry.span / rate, end
