# SPDX-License-Identifier: Apache-2.0
"""The members of a set: names and sizes in its records, each coded in a chunk.

    index = Index(reader)               reads the records `names` and `members`
    member = index.open("b/c.png")      reads and checks the chunk of this one
    member.header, member.chunk(0)      as of a file of its own

A member's chunk, all of which the chunk's CRC covers:

    ┌ a row for each record ┬ records ┬ sizes of tiles but the last ┬ tiles ┐

No file of a model's name, digest, quality and checksums: those stand once in the set.
The streams of its tiles are those of a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from polycodec.codecs.files.container import layout, names
from polycodec.codecs.files.container.fields import Cursor, Varint, get_rows, put_rows
from polycodec.codecs.files.container.file import Reader, Stored, StoredHeader
from polycodec.codecs.files.container.geometry import ImageGeometry, SetGeometry
from polycodec.codecs.files.container.layout import Header, Record
from polycodec.codecs.files.container.records import inflate, store
from polycodec.errors import BitstreamError

_SIZE = Varint(0, layout.MAX_CHUNK)
_ALWAYS = {"index": True}  # of rows that stand there if there is an index


@dataclass(frozen=True)
class Entry:
    """What the index says of a member; ``records``: how many stand in its chunk."""

    geometry: ImageGeometry
    alpha: bool = False
    records: int = 0


class Member(Stored):
    """One member, read as a file of its own is; ``size``: bytes of its chunk."""

    def __init__(self, about: Header, entry: Entry, data: bytes) -> None:
        self.warnings: list[str] = []
        self.size = len(data)
        cursor = Cursor(data)
        self.directory = [_record_row(cursor) for _ in range(entry.records)]
        layout.check_records(self.directory, entry.alpha)
        self._records = [cursor.take(row["size"]) for row in self.directory]
        count = entry.geometry.n_chunks
        if count - 1 > cursor.left:
            raise BitstreamError(f"its {count} tiles have no sizes")
        sizes = [_SIZE.get(cursor) for _ in range(count - 1)]
        self._chunks = [cursor.take(size) for size in sizes]
        self._chunks.append(cursor.take(cursor.left))
        self.header = StoredHeader(
            model=about.model,
            digest=about.digest,
            kind="image",
            geometry=entry.geometry,
            quality=about.quality,
            reader=self,
        )

    def chunk(self, k: int) -> bytes:
        """Return tile ``k`` (from 0)."""
        return self._chunks[k]

    def intact(self, kind: str | None = None) -> Iterator[Record]:
        """Yield the records, or those of one type."""
        for row, body in zip(self.directory, self._records, strict=True):
            if kind in (None, row["type"]):
                size = row["inflated"]
                data = inflate(body, size, row["type"]) if size else body
                yield Record(row["type"], data)


class Index:
    """Names, sizes and places of the members of an opened set; reads no member.

    BitstreamError for an index that is damaged, InputError for a file that is no set.
    """

    def __init__(self, reader: Reader) -> None:
        expected = "a set; see polycodec decode"
        count = reader.geometry(SetGeometry, expected).members
        self.reader = reader
        self.names = names.read(_record(reader, "names"), count)
        self.entries = _entries(_record(reader, "members"), count)
        self._numbers = {name: k for k, name in enumerate(self.names)}

    def size(self, name: str) -> int:
        """Bytes of a member's chunk."""
        return self.reader.sizes[self._numbers[name]]

    def entry(self, name: str) -> Entry:
        """What the index says of a member."""
        return self.entries[self._numbers[name]]

    def open(self, name: str) -> Member:
        """Read one member, and check it; the errors name it."""
        k = self._numbers[name]
        try:
            data = self.reader.chunk(k)
            return Member(self.reader.header, self.entries[k], data)
        except BitstreamError as error:
            raise type(error)(f"member '{name}' is damaged; {error}") from error


def index_records(listed: Sequence[str], entries: Sequence[Entry]) -> list[Record]:
    """The records of a set of so called members; InputError for a name."""
    rows = bytearray()
    for entry in entries:
        about = {"alpha": entry.alpha, "records": entry.records}
        put_rows(rows, layout.MEMBER, {**vars(entry.geometry), **about, **_ALWAYS})
    return [Record("names", names.stored(listed)), Record("members", bytes(rows))]


def member_chunk(records: Sequence[Record], chunks: Sequence[bytes]) -> bytes:
    """The chunk of a member."""
    kept, out = store(records), bytearray()
    for row, _ in kept:
        put_rows(out, layout.MEMBER_RECORD, row)
    for _, body in kept:
        out += body
    for chunk in chunks[:-1]:
        _SIZE.put(out, len(chunk))
    return bytes(out) + b"".join(chunks)


def _record(reader: Reader, kind: str) -> bytes:
    data = reader.header.record(kind)
    if data is None:
        raise BitstreamError(f"the set has no record '{kind}'; get the file again")
    return data


def _record_row(cursor: Cursor) -> dict[str, Any]:
    row: dict[str, Any] = {}
    get_rows(cursor, layout.MEMBER_RECORD, row)
    return {**row, "type": layout.record_name(row["type"])}


def _entries(data: bytes, count: int) -> list[Entry]:
    """The rows of ``count`` members; of those that are equal one object."""
    cursor, last = Cursor(data), b""
    entries: list[Entry] = []
    for _ in range(count):
        start = cursor.position
        if last and data.startswith(last, start):  # fields end where they say
            cursor.position += len(last)
            entries.append(entries[-1])
            continue
        values: dict[str, Any] = dict(_ALWAYS)
        get_rows(cursor, layout.MEMBER, values)
        wanted = {f.name: values[f.name] for f in fields(ImageGeometry)}
        geometry = ImageGeometry(**wanted)
        if problem := layout.over_limit(geometry):
            raise BitstreamError(f"a member asks for {problem}")
        entries.append(Entry(geometry, values["alpha"], values["records"]))
        last = data[start : cursor.position]
    if cursor.left:
        raise BitstreamError(f"{cursor.left} bytes follow the last member's row")
    return entries
