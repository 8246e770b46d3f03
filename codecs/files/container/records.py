# SPDX-License-Identifier: Apache-2.0
"""Metadata records as they are stored.

store(Record("icc", ...))     its row in the header, and deflated if that is smaller
inflate(body, size, "icc")    back, never producing more than ``size`` bytes
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from polycodec.codecs.files.container import layout
from polycodec.cuda import crc32c
from polycodec.errors import BitstreamError, InputError

RAW = -zlib.MAX_WBITS  # BITSTREAM: no header and no checksum of zlib's own


def store(records: Sequence[layout.Record]) -> list[tuple[dict[str, int], bytes]]:
    """Return each record's row and stored bytes; InputError for too much of it.

    What readers inflate together is bounded, so what is beyond is stored as it is.
    """
    stored, left = [], layout.MAX_INFLATED
    for record in records:
        data, inflated = record.data, 0
        if len(data) <= left:
            deflater = zlib.compressobj(9, wbits=RAW)
            packed = deflater.compress(data) + deflater.flush()
            if len(packed) < len(data):
                data, inflated = packed, len(data)
                left -= inflated
        row = {"type": layout.record_number(record.type), "size": len(data)}
        stored.append(({**row, "inflated": inflated, "crc": crc32c(data)}, data))
    if len(stored) > layout.MAX_RECORDS:
        raise InputError(
            f"{len(stored)} metadata records; expected at most {layout.MAX_RECORDS}"
        )
    return stored


def inflate(body: bytes, size: int, name: str, wbits: int = RAW) -> bytes:
    """Decompress ``body`` to exactly ``size`` bytes, never producing more."""
    problem = f"the {name} record does not decompress to its {size} bytes"
    # Deflate cannot do better than 1032 to 1: a lie about the size costs nothing.
    if size > 1032 * len(body):
        raise BitstreamError(problem)
    inflater = zlib.decompressobj(wbits)
    try:
        data = inflater.decompress(body, size)
        # A bomb shows as more output here, at the price of one byte.
        more = inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise BitstreamError(f"{problem}; {error}") from error
    if len(data) != size or more or not inflater.eof or inflater.unused_data:
        raise BitstreamError(problem)
    return data
