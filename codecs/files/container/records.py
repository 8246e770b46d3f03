# SPDX-License-Identifier: Apache-2.0
"""Metadata records: stored small, read late, harmless when damaged.

store(Record("icc", ...))     its row in the header, and zlib if that is smaller
inflate(body, size, "icc")    back, never producing more than ``size`` bytes
LazyRecords(reader, n)        the sequence that ``Header.records`` is after reading
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.layout import Record
from polycodec.cuda import crc32c
from polycodec.errors import BitstreamError

if TYPE_CHECKING:
    from polycodec.codecs.files.container.file import Reader


class LazyRecords(Sequence[Record]):
    """The records of a file, read when first looked at; damaged metadata is left out.

    A tile can thus be decoded without reading a large colour profile.
    """

    def __init__(self, reader: Reader, count: int) -> None:
        self._reader, self._count = reader, count
        self._loaded: tuple[Record, ...] | None = None

    def _load(self) -> tuple[Record, ...]:
        if self._loaded is None:
            self._loaded = tuple(self._intact())
        return self._loaded

    def _intact(self) -> Iterator[Record]:
        for k in range(self._count):
            try:
                yield self._reader.record(k)
            except BitstreamError as error:
                if self._reader.directory[k]["type"] in layout.CRITICAL_RECORDS:
                    raise
                self._reader.warnings.append(f"metadata damaged and left out: {error}")

    def __len__(self) -> int:
        return len(self._load())

    def __getitem__(self, k: Any) -> Any:
        return self._load()[k]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence):
            return self._load() == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._load())

    def __repr__(self) -> str:
        return repr(self._load())


def store(record: Record) -> tuple[dict[str, int], bytes]:
    """Return a record's directory row and its stored bytes, deflated if smaller."""
    data, inflated = record.data, 0
    if len(data) <= layout.MAX_INFLATED:
        packed = zlib.compress(data, 9)
        if len(packed) < len(data):
            data, inflated = packed, len(data)
    row = {"type": layout.record_number(record.type), "size": len(data)}
    return {**row, "inflated": inflated, "crc": crc32c(data)}, data


def inflate(body: bytes, size: int, name: str) -> bytes:
    """Decompress ``body`` to exactly ``size`` bytes, never producing more."""
    problem = f"the {name} record does not decompress to its {size} bytes"
    # Deflate cannot do better than 1032 to 1: a lie about the size costs nothing.
    if size > 1032 * len(body):
        raise BitstreamError(problem)
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, size)
        # A bomb shows as more output here, at the price of one byte.
        more = inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise BitstreamError(f"{problem}; {error}") from error
    if len(data) != size or more or not inflater.eof or inflater.unused_data:
        raise BitstreamError(problem)
    return data
