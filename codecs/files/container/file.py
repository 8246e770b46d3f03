# SPDX-License-Identifier: Apache-2.0
"""Read ``.plc`` files; ``layout.py`` holds the format's tables, ``write.py`` writes.

    with open_plc("photo.plc") as reader:
        reader.header.geometry                     header, CRC checked
        reader.chunk(3)                            reads chunk 3 only, CRC checked

The index stands in front of the chunks, so one read is enough to know everything. A
file of one small chunk has no index: its chunk is read, and checked, with the header.

Damage anywhere is a named error, with one exception: a record that is metadata
only (all but ``alpha``) is left out and said in ``reader.warnings``, because the
pixels do not need it; ``verify`` does call that an error.
"""

from __future__ import annotations

import abc
import array
import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, BinaryIO, TypeVar

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Cursor, get_rows
from polycodec.codecs.files.container.layout import (
    FeatureGeometry,
    Geometry,
    Header,
    ImageGeometry,
    Record,
    SetGeometry,
    SpeechGeometry,
    VideoGeometry,
)
from polycodec.codecs.files.container.records import RAW, inflate
from polycodec.codecs.files.container.write import Writer, file_size, write_plc
from polycodec.codecs.files.sources import MAX_PIPE, Source, opened, seekable, spooled
from polycodec.cuda import crc32c
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    TruncatedError,
    VersionError,
)

__all__ = [
    "FeatureGeometry",
    "Header",
    "ImageGeometry",
    "Reader",
    "Record",
    "SetGeometry",
    "SpeechGeometry",
    "Stored",
    "VideoGeometry",
    "Writer",
    "file_size",
    "open_plc",
    "write_plc",
]

Form = TypeVar("Form", bound=Geometry)
_PREFIX_MAX = 10  # magic, version, form, header size in up to 4 bytes
_NO_INDEX_MAX = 1 << 13  # bytes of a header without index


@dataclass(frozen=True)
class StoredHeader(Header):
    """The header of a file; its ``records`` are read when they are asked for."""

    reader: Stored | None = None

    def record(self, kind: str) -> bytes | None:
        """Return the data of the first record of type ``kind``, or None."""
        assert self.reader is not None
        return next((r.data for r in self.reader.intact(kind)), None)


class Stored(abc.ABC):
    """A signal as it is stored, in a file of its own or in one of many.

    ``header``; ``warnings`` so far, one line each.
    """

    header: StoredHeader
    warnings: list[str]

    @abc.abstractmethod
    def chunk(self, k: int) -> bytes:
        """Return chunk ``k`` (from 0); ChecksumError when it is damaged."""

    @abc.abstractmethod
    def intact(self, kind: str | None = None) -> Iterator[Record]:
        """Yield the records that are not damaged, or those of one type."""

    def geometry(self, form: type[Form], expected: str) -> Form:
        """The geometry, of that form; InputError for a file of another kind."""
        geometry = self.header.geometry
        if not isinstance(geometry, form):
            raise InputError(f"the file holds {self.header.kind}; expected {expected}")
        return geometry


class Reader(Stored):
    """Read a file; opening it reads the header only.

    ``header``; ``n_chunks``; ``sizes`` (bytes of each chunk); ``file_size``;
    ``header_size``; ``version``; ``directory`` (type, bytes stored and inflated of each
    record); ``bytes_read`` so far; ``warnings`` so far, one line each.
    ``tolerant``: a cut file, or one with a tail, is opened for what is there.
    """

    def __init__(self, source: BinaryIO, *, tolerant: bool = False) -> None:
        self._tolerant = tolerant
        self._source = source if source.seekable() else _spool(source)
        self.bytes_read = 0
        self.warnings: list[str] = []
        self._source.seek(0, os.SEEK_END)
        self.file_size = self._source.tell()
        values, cursor = self._read_header()
        kind, rows = layout.GEOMETRIES[values["kind"]]
        get_rows(cursor, (*layout.START, *rows), values)
        geometry = kind(**{f.name: values[f.name] for f in fields(kind)})
        if problem := layout.over_limit(geometry):
            raise BitstreamError(f"the header asks for {problem}")
        get_rows(cursor, layout.OLDER_MIDDLE if self._older else layout.MIDDLE, values)
        self.directory = _directory(cursor, values)
        self.sizes, self._crcs = _index(cursor, geometry.n_chunks, values)
        if not values["index"]:
            get_rows(cursor, layout.END, values)
            self.header_size = self.bytes_read = cursor.position
        elif cursor.left:
            raise BitstreamError(f"the header has {cursor.left} bytes too many")
        self._lay_out()
        if not values["index"]:
            self._check_single(cursor, values["header crc"])
        about: dict[str, Any] = {f.name: values.get(f.name) for f in fields(Header)}
        about |= {"geometry": geometry, "records": (), "reader": self}
        self.header = StoredHeader(**about)

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.sizes)

    @property
    def whole(self) -> bool:
        """Whether the file ends where its last chunk does."""
        return self.file_size == self._offsets[-1]

    def chunk(self, k: int) -> bytes:
        """Return chunk ``k`` (from 0); ChecksumError when it is damaged."""
        if not 0 <= k < self.n_chunks:
            raise IndexError(f"chunk {k} of {self.n_chunks}")
        data = self._read(self._offsets[k], self.sizes[k])
        what = f"chunk {k} of {self.n_chunks} (counted from 0)"
        _check(what, crc32c(data), self._crcs[k])
        return data

    def record(self, k: int) -> Record:
        """Return record ``k`` of the directory; ChecksumError when damaged."""
        entry = self.directory[k]
        body = self._read(self._record_offsets[k], entry["size"])
        _check(f"the {entry['type']} record", crc32c(body), entry["crc"])
        if entry["inflated"]:
            wbits = zlib.MAX_WBITS if self._older else RAW
            body = inflate(body, entry["inflated"], entry["type"], wbits)
        return Record(entry["type"], body)

    def intact(self, kind: str | None = None) -> Iterator[Record]:
        """Yield the records that are not damaged, or those of one type.

        Damaged metadata is left out with a warning; damaged pixels are an error.
        """
        for k, entry in enumerate(self.directory):
            if kind in (None, entry["type"]):
                try:
                    yield self.record(k)
                except BitstreamError as error:
                    if entry["type"] in layout.CRITICAL_RECORDS:
                        raise
                    self.warnings.append(f"metadata damaged and left out: {error}")

    def _read_header(self) -> tuple[dict[str, Any], Cursor]:
        """Return what the prefix says, and the header behind it.

        With an index its end is known and its CRC checked.
        """
        start = self._read(0, min(_PREFIX_MAX, self.file_size))
        values, at, total = read_prefix(start, self.file_size)
        self.version, self._older = start[4], values["older"]
        data = start[:total] + self._read(len(start), max(total - len(start), 0))
        if values["index"]:
            self.header_size = total
            _check("the header", crc32c(data[:-4]), int.from_bytes(data[-4:], "little"))
            data = data[:-4]
        return values, Cursor(data, at)

    def _lay_out(self) -> None:
        """Compute where records and chunks start; check against the file size."""
        stored = [entry["size"] for entry in self.directory]
        self._record_offsets = [*accumulate(stored, initial=self.header_size)]
        start = self._record_offsets[-1]
        self._offsets = array.array("Q", accumulate(self.sizes, initial=start))
        end = self._offsets[-1]
        if self._tolerant:
            return
        if self.file_size < end:
            whole = sum(at <= self.file_size for at in self._offsets[1:])
            raise TruncatedError(
                f"the file is cut; expected {end} bytes, found {self.file_size}; "
                f"the first {whole} of {self.n_chunks} chunks are there; get it again"
            )
        if self.file_size > end:
            raise BitstreamError(
                f"something follows the last chunk; expected {end} bytes, found "
                f"{self.file_size}; cut the file there or get it again"
            )

    def _check_single(self, cursor: Cursor, expected: int) -> None:
        """Check the header together with the only chunk, and keep that one's CRC."""
        self._crcs = [crc32c(self._read(self._offsets[0], self.sizes[0]))]
        seal = self._crcs[0].to_bytes(4, "little")
        head = cursor.data[: cursor.position - 4]
        _check("the header or the only chunk", crc32c(head + seal), expected)

    def _read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``; both lie inside a file that is whole."""
        if offset + size > self.file_size:
            raise TruncatedError(
                f"the file is cut; expected {size} bytes at {offset}, found "
                f"{max(0, self.file_size - offset)}; get it again"
            )
        try:
            self._source.seek(offset)
            data = self._source.read(size)
        except OSError as error:
            raise InputError(f"cannot read the file; {error.strerror}") from error
        self.bytes_read += len(data)
        if len(data) != size:
            raise TruncatedError(
                f"the file became shorter; expected {size} bytes at {offset}, found "
                f"{len(data)}"
            )
        return data


@contextlib.contextmanager
def open_plc(source: Source) -> Iterator[Reader]:
    """Open a path or a binary file as a :class:`Reader`; InputError when it cannot."""
    with opened(seekable(source)) as file:
        yield Reader(file)


def read_prefix(start: bytes, file_size: int) -> tuple[dict[str, Any], int, int]:
    """Return the prefix in a file's first bytes, its end, and the header's at most.

    Raises TruncatedError, VersionError, or BitstreamError when this is no such file.
    """
    if start[:4] != layout.MAGIC[: len(start)]:
        raise BitstreamError(
            f"not a .plc file; expected it to start with {layout.MAGIC.hex(' ')}, "
            f"found {start[:4].hex(' ')}"
        )
    if len(start) > 4 and start[4] not in layout.READABLE:
        raise VersionError(
            f"the file has format version {start[4]}; this build reads versions "
            f"{', '.join(map(str, layout.READABLE))}; update polycodec"
        )
    version = start[4] if len(start) > 4 else layout.VERSION
    older = version == 1 or (version == 2 and start[5:6] >= bytes([layout.OLDER]))
    cursor, values = Cursor(start), {"older": older, **layout.OLDER_FLAGS}
    get_rows(cursor, layout.prefix_of(version, older), values)
    if not values["index"]:
        return values, cursor.position, min(file_size, _NO_INDEX_MAX)
    # The older layout's kind is a byte of the header already.
    total = cursor.position - older + values["header size"]
    if total > file_size or values["header size"] < 4:
        raise TruncatedError(
            f"the file is cut inside its header; expected {total} bytes of header, "
            f"found {file_size} in all; get it again"
        )
    return values, cursor.position, total


def _directory(cursor: Cursor, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the rows of the records; check what is said of all of them."""
    directory: list[dict[str, Any]] = [{} for _ in range(values["records"])]
    for entry in directory:
        get_rows(cursor, layout.RECORD, entry)
        entry["type"] = layout.record_name(entry["type"])
    alpha = None if values["older"] else values.get("alpha", False)
    layout.check_records(directory, alpha)
    return directory


def _index(
    cursor: Cursor, count: int, values: dict[str, Any]
) -> tuple[Sequence[int], Sequence[int]]:
    """Read sizes and CRCs of ``count`` chunks, which may be many: packed, and fast."""
    sizes, crcs = array.array("Q"), array.array("I")
    if count * (5 if values["index"] else 1) > cursor.left:
        raise TruncatedError(f"the index of {count} chunks ends too early")
    if count > 1 and not values["index"]:
        raise BitstreamError(f"{count} chunks have no index; expected one chunk")
    size, crc = (row.coding for row in layout.CHUNK)
    for _ in range(count):
        sizes.append(size.get(cursor))
        if values["index"]:
            crcs.append(crc.get(cursor))
    if not values["index"] and sizes[0] > layout.MAX_SINGLE:
        raise BitstreamError(f"a chunk of {sizes[0]} bytes has no index")
    return sizes, crcs


def tolerant_reader(source: Reader | BinaryIO) -> Reader | None:
    """The reader of a file that may be cut or damaged; None where it has no header."""
    if isinstance(source, Reader):
        return source
    try:
        source.seek(0)
        return Reader(source, tolerant=True)
    except BitstreamError:
        return None


def _check(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ChecksumError(
            f"{what} is corrupt; expected CRC {expected:08x}, found {found:08x}; get "
            "the file again"
        )


def _spool(source: BinaryIO) -> BinaryIO:
    """Copy a pipe; anything but a .plc is refused before its end is waited for."""
    start = source.read(_PREFIX_MAX) or b""
    read_prefix(start, MAX_PIPE)
    return spooled(source, start)
