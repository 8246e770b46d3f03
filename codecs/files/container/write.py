# SPDX-License-Identifier: Apache-2.0
"""Write ``.plc`` files in one pass; ``file.py`` reads them.

    write_plc(target, Header(...), chunks)         target may be a pipe

The index stands in front of the chunks, so they are spooled to a temporary file:
memory stays bounded.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import put_rows
from polycodec.codecs.files.container.layout import Header, ImageGeometry
from polycodec.codecs.files.container.records import store
from polycodec.cuda import crc32c
from polycodec.errors import InputError

_SPOOL = 8 << 20  # bytes kept in memory before the spool goes to disk
_PIECE = 1 << 20  # bytes copied at a time


class Writer:
    """Collect chunks, then write the file in one pass.

    ``with Writer() as writer: writer.add(chunk); writer.finish(target, header)``
    """

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115
        self._sizes: list[int] = []
        self._crcs: list[int] = []

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
        self._sizes.append(len(chunk))
        self._crcs.append(crc32c(chunk))
        try:
            self._spool.write(chunk)
        except OSError as error:
            raise InputError(
                f"cannot keep chunks in {tempfile.gettempdir()}; {error.strerror}; "
                "free space there or set TMPDIR"
            ) from error

    def finish(self, target: BinaryIO, header: Header) -> int:
        """Write header, records and chunks; return the file's size in bytes."""
        stored = store(header.records)
        rows = [row for row, _ in stored]
        head = _header_bytes(header, rows, self._sizes, self._crcs)
        self._spool.seek(0)
        try:
            target.write(head)
            for _, body in stored:
                target.write(body)
            shutil.copyfileobj(self._spool, target, _PIECE)
        except OSError as error:
            raise InputError(f"cannot write the file; {error.strerror}") from error
        return len(head) + sum(row["size"] for row in rows) + sum(self._sizes)


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


def file_size(header: Header, sizes: Sequence[int]) -> int:
    """Bytes that a file of chunks of ``sizes`` bytes will have, without writing it."""
    rows = [row for row, _ in store(header.records)]
    head = _header_bytes(header, rows, sizes, [0] * len(sizes))
    return len(head) + sum(row["size"] for row in rows) + sum(sizes)


def _header_bytes(
    header: Header,
    records: Sequence[dict[str, int]],
    sizes: Sequence[int],
    crcs: Sequence[int],
) -> bytes:
    geometry = header.geometry
    kind, rows = layout.GEOMETRIES.get(header.kind, (None, ()))
    if kind is None or not isinstance(geometry, kind):
        raise InputError(f"kind {header.kind!r} does not fit {geometry!r}")
    if problem := layout.over_limit(geometry):
        raise InputError(f"cannot store {problem}")
    if len(sizes) != geometry.n_chunks:
        raise InputError(
            f"the geometry has {geometry.n_chunks} chunks, found {len(sizes)}"
        )
    tiled = isinstance(geometry, ImageGeometry) and geometry.tile
    values = {**vars(geometry), **vars(header), "records": len(records)}
    version = layout.version_of(header.kind)
    values |= {"magic": layout.MAGIC, "version": version}
    values["index"] = bool(tiled) or len(sizes) > 1 or sizes[0] > layout.MAX_SINGLE
    values["metadata"] = bool(records)
    values["alpha"] = any(record.type == "alpha" for record in header.records)
    body, out = bytearray(), bytearray()
    for table in (layout.START, rows, layout.MIDDLE):
        put_rows(body, table, values)
    for record in records:
        put_rows(body, layout.RECORD, record)
    for size, crc in zip(sizes, crcs, strict=True):
        put_rows(body, layout.CHUNK, {**values, "size": size, "crc": crc})
    put_rows(out, layout.prefix_of(version), {**values, "header size": len(body) + 4})
    out += body
    seal = b"" if values["index"] else crcs[0].to_bytes(4, "little")
    put_rows(out, layout.END, {"header crc": crc32c(bytes(out) + seal)})
    return bytes(out)
