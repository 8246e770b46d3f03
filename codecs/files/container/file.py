# SPDX-License-Identifier: Apache-2.0
"""Read and write ``.plc`` files; ``layout.py`` holds the format's tables.

    write_plc(target, Header(...), chunks)         one pass, target may be a pipe

    with open_plc("photo.plc") as reader:
        reader.header.geometry                     header, CRC checked
        reader.chunk(3)                            reads chunk 3 only, CRC checked

The index stands in front of the chunks, so the writer spools them to a temporary
file (memory stays bounded) and the reader needs one read to know everything.

Damage anywhere is a named error, with one exception: a record that is metadata
only (all but ``alpha``) is left out and said in ``reader.warnings``, because the
pixels do not need it; ``verify`` does call that an error.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Cursor, get_rows, put_rows
from polycodec.codecs.files.container.layout import (
    Header,
    ImageGeometry,
    Record,
    SpeechGeometry,
    VideoGeometry,
)
from polycodec.codecs.files.container.records import LazyRecords, inflate, store
from polycodec.codecs.files.sources import MAX_PIPE, Source, opened, spooled
from polycodec.cuda import crc32c
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    TruncatedError,
    VersionError,
)

__all__ = [
    "Header",
    "ImageGeometry",
    "Reader",
    "Record",
    "SpeechGeometry",
    "VideoGeometry",
    "Writer",
    "file_size",
    "open_plc",
    "write_plc",
]

_SPOOL = 8 << 20  # bytes kept in memory before the spool goes to disk
_PIECE = 1 << 20  # bytes copied at a time
_PREFIX_MAX = 9  # magic, version, header size in up to 4 bytes


class Writer:
    """Collect chunks, then write the file in one pass.

    ``with Writer() as writer: writer.add(chunk); writer.finish(target, header)``
    """

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115
        self._index: list[dict[str, int]] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._spool.close()

    def add(self, chunk: bytes) -> None:
        """Append one chunk."""
        if len(chunk) > layout.MAX_CHUNK:
            raise InputError(
                f"a chunk has {len(chunk)} bytes; expected at most {layout.MAX_CHUNK}; "
                "use smaller tiles or groups"
            )
        self._index.append({"size": len(chunk), "crc": crc32c(chunk)})
        try:
            self._spool.write(chunk)
        except OSError as error:
            raise InputError(
                f"cannot keep chunks in {tempfile.gettempdir()}; {error.strerror}; "
                "free space there or set TMPDIR"
            ) from error

    def finish(self, target: BinaryIO, header: Header) -> int:
        """Write header, records and chunks; return the file's size in bytes."""
        stored = [store(record) for record in header.records]
        head = _header_bytes(header, [row for row, _ in stored], self._index)
        self._spool.seek(0)
        try:
            target.write(head)
            for _, body in stored:
                target.write(body)
            shutil.copyfileobj(self._spool, target, _PIECE)
        except OSError as error:
            raise InputError(f"cannot write the file; {error.strerror}") from error
        sizes = (row["size"] for row in [*(row for row, _ in stored), *self._index])
        return len(head) + sum(sizes)


def write_plc(
    target: BinaryIO,
    header: Header | Callable[[], Header],
    chunks: Iterable[bytes],
) -> int:
    """Write a file from ``chunks`` as they come; return its size in bytes.

    ``header`` may be a function: it is called after the last chunk, when for
    example the number of frames is known. ``target`` is only written to, in order.
    """
    with Writer() as writer:
        for chunk in chunks:
            writer.add(chunk)
        return writer.finish(target, header() if callable(header) else header)


class Reader:
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
        head = self._read_header()
        cursor = Cursor(head)
        values = get_rows(cursor, layout.START)
        kind, rows = layout.GEOMETRIES[values["kind"]]
        geometry = kind(**get_rows(cursor, rows))
        if problem := layout.over_limit(geometry):
            raise BitstreamError(f"the header asks for {problem}")
        middle = get_rows(cursor, layout.MIDDLE)
        self.directory = [
            get_rows(cursor, layout.RECORD) for _ in range(middle["records"])
        ]
        for entry in self.directory:
            entry["type"] = layout.record_name(entry["type"])
        self._index = [get_rows(cursor, layout.CHUNK) for _ in range(geometry.n_chunks)]
        if cursor.left:
            raise BitstreamError(f"the header has {cursor.left} bytes too many")
        self.sizes = tuple(row["size"] for row in self._index)
        self._lay_out()
        records = LazyRecords(self, len(self.directory))
        self.header = Header(
            **values, geometry=geometry, params=middle["params"], records=records
        )

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.sizes)

    def chunk(self, k: int) -> bytes:
        """Return chunk ``k`` (from 0); ChecksumError when it is damaged."""
        if not 0 <= k < self.n_chunks:
            raise IndexError(f"chunk {k} of {self.n_chunks}")
        data = self._read(self._offsets[k], self.sizes[k])
        found, expected = crc32c(data), self._index[k]["crc"]
        if found != expected:
            raise ChecksumError(
                f"chunk {k} of {self.n_chunks} (counted from 0) is corrupt; expected "
                f"CRC {expected:08x}, found {found:08x}; get the file again"
            )
        return data

    def record(self, k: int) -> Record:
        """Return record ``k`` of the directory; ChecksumError when damaged."""
        entry = self.directory[k]
        body = self._read(self._record_offsets[k], entry["size"])
        found = crc32c(body)
        if found != entry["crc"]:
            raise ChecksumError(
                f"the {entry['type']} record is corrupt; expected CRC "
                f"{entry['crc']:08x}, found {found:08x}; get the file again"
            )
        if entry["inflated"]:
            body = inflate(body, entry["inflated"], entry["type"])
        return Record(entry["type"], body)

    def _read_header(self) -> bytes:
        """Return the header between prefix and CRC, both checked."""
        start = self._read(0, min(_PREFIX_MAX, self.file_size))
        self.header_size = check_prefix(start, self.file_size)
        self.version = start[4]
        data = start[: self.header_size]
        data += self._read(len(data), self.header_size - len(data))
        found, expected = crc32c(data[:-4]), int.from_bytes(data[-4:], "little")
        if found != expected:
            raise ChecksumError(
                f"the header is corrupt; expected CRC {expected:08x}, found "
                f"{found:08x}; get the file again"
            )
        cursor = Cursor(data[:-4])
        get_rows(cursor, layout.PREFIX)
        return data[cursor.position : -4]

    def _lay_out(self) -> None:
        """Compute where records and chunks start; check against the file size."""
        at, self._record_offsets, self._offsets = self.header_size, [], []
        for entry in self.directory:
            self._record_offsets.append(at)
            at += entry["size"]
        for size in self.sizes:
            self._offsets.append(at)
            at += size
        if self._tolerant:
            return
        if self.file_size < at:
            ends = zip(self._offsets, self.sizes, strict=True)
            whole = sum(start + size <= self.file_size for start, size in ends)
            raise TruncatedError(
                f"the file is cut; expected {at} bytes, found {self.file_size}; "
                f"the first {whole} of {self.n_chunks} chunks are there; get it again"
            )
        if self.file_size > at:
            raise BitstreamError(
                f"something follows the last chunk; expected {at} bytes, found "
                f"{self.file_size}; cut the file there or get it again"
            )

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
    with opened(source) as file:
        yield Reader(file)


def check_prefix(start: bytes, file_size: int) -> int:
    """Return the size of prefix and header together, from the file's first bytes.

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
            f"{' and '.join(map(str, layout.READABLE))}; update polycodec"
        )
    cursor = Cursor(start)
    size = get_rows(cursor, layout.PREFIX)["header size"]
    total = cursor.position + size
    if total > file_size or size < 4:
        raise TruncatedError(
            f"the file is cut inside its header; expected {total} bytes of header, "
            f"found {file_size} in all; get it again"
        )
    return total


def file_size(header: Header, sizes: Iterable[int]) -> int:
    """Bytes that a file of chunks of ``sizes`` bytes will have, without writing it."""
    stored = [store(record) for record in header.records]
    index = [{"size": size, "crc": 0} for size in sizes]
    size = len(_header_bytes(header, [row for row, _ in stored], index))
    return size + sum(len(body) for _, body in stored) + sum(i["size"] for i in index)


def _header_bytes(
    header: Header, records: list[dict[str, int]], index: list[dict[str, int]]
) -> bytes:
    kind, rows = layout.GEOMETRIES.get(header.kind, (None, ()))
    if kind is None or not isinstance(header.geometry, kind):
        raise InputError(f"kind {header.kind!r} does not fit {header.geometry!r}")
    if problem := layout.over_limit(header.geometry):
        raise InputError(f"cannot store {problem}")
    if len(index) != header.geometry.n_chunks:
        raise InputError(
            f"the geometry has {header.geometry.n_chunks} chunks, found {len(index)}"
        )
    body = bytearray()
    put_rows(body, layout.START, vars(header))
    put_rows(body, rows, vars(header.geometry))
    put_rows(body, layout.MIDDLE, {"params": header.params, "records": len(records)})
    for record in records:
        put_rows(body, layout.RECORD, record)
    for chunk in index:
        put_rows(body, layout.CHUNK, chunk)
    out = bytearray()
    values = {"magic": layout.MAGIC, "version": layout.VERSION}
    put_rows(out, layout.PREFIX, {**values, "header size": len(body) + 4})
    out += body
    put_rows(out, layout.END, {"header crc": crc32c(bytes(out))})
    return bytes(out)


def _spool(source: BinaryIO) -> BinaryIO:
    """Copy a pipe; anything but a .plc is refused before its end is waited for."""
    start = source.read(_PREFIX_MAX) or b""
    check_prefix(start, MAX_PIPE)
    return spooled(source, start)
