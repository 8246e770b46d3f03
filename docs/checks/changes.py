# SPDX-License-Identifier: Apache-2.0
"""Ways of changing a `.plc` file at random, its checksums made right or left.

WAYS[name](data, rng) -> (what was changed, the file); see `hostile.py`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Cursor, Varint, get_rows
from polycodec.codecs.files.container.file import Reader
from polycodec.cuda import crc32c

NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 320, 512, 1000, 4095]
NUMBERS += [16000, 44100, 65535, *(1 << k for k in range(16, 57, 4)), (1 << 48) - 1]


def varint(value: int) -> bytes:
    """A number as the format writes it."""
    out = bytearray()
    Varint(0, 1 << 62).put(out, value)
    return bytes(out)


class Parts:
    """A file in pieces: the fields of its header, its records, its chunks."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[str, str, bytes]] = []
        cursor, values = Cursor(data), {"older": False}
        for table in (layout.prefix_of(data[4]), layout.START):
            self._take(cursor, table, values)
        self._take(cursor, layout.GEOMETRIES[values["kind"]][1], values)
        self._take(cursor, layout.MIDDLE, values)
        self.records = values["records"]
        sizes = []
        for k in range(self.records):
            self._take(cursor, layout.RECORD, row := dict(values), f"record {k} ")
            sizes.append(row["size"])
        for k in range(Reader(io.BytesIO(data)).n_chunks):
            self._take(cursor, layout.CHUNK, row := dict(values), f"chunk {k} ")
            sizes.append(row["size"])
        at, self.parts = cursor.position + 4, []
        for size in sizes:
            self.parts.append(data[at : at + size])
            at += size

    def _take(self, cursor: Cursor, rows, values: dict, owner: str = "") -> None:
        for row in rows:
            start = cursor.position
            get_rows(cursor, (row,), values)
            if cursor.position > start:
                kind = type(row.coding).__name__
                taken = cursor.data[start : cursor.position]
                self.fields.append((owner + row.name, kind, taken))

    def joined(self, kept: str = "") -> bytes:
        """The file, sizes and checksums made right; ``kept``: a field left as it is."""
        body, prefix, part = b"", b"", -1
        for name, _, data in self.fields:
            if name in ("magic", "version", "form"):
                prefix += data
                continue
            if name == "header size":
                continue
            part += name.endswith(" size")
            if name.endswith(" size") and name != kept:
                data = varint(len(self.parts[part]))
            if name.endswith(" crc") and name != kept:
                data = crc32c(self.parts[part]).to_bytes(4, "little")
            body += data
        size = [d for n, _, d in self.fields if n == "header size"]
        if size:
            prefix += size[0] if kept == "header size" else varint(len(body) + 4)
        seal = b"" if size else crc32c(self.parts[-1]).to_bytes(4, "little")
        head = prefix + body
        return head + crc32c(head + seal).to_bytes(4, "little") + b"".join(self.parts)


Change = Callable[[bytes, random.Random], tuple[str, bytes]]


def scrambled(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, set, cut, removed, inserted or swapped."""
    out, kind, n = bytearray(data), rng.random(), max(1, len(data))
    at, more = rng.randrange(n), rng.randrange(1, 9)
    if not data or kind > 0.9:
        out[at:at] = rng.randbytes(more)
    elif kind < 0.5:
        out[at] ^= 1 << rng.randrange(8)
    elif kind < 0.6:
        out[at] = rng.randrange(256)
    elif kind < 0.7:
        del out[at:]
    elif kind < 0.8:
        del out[at : at + more]
    else:
        there = rng.randrange(n)
        out[at : at + more], out[there : there + more] = (
            out[there : there + more],
            out[at : at + more],
        )
    return bytes(out)


def in_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Any byte of the file."""
    return "bytes", scrambled(data, rng)


def in_fields(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One field of the header."""
    parts = Parts(data)
    k = rng.randrange(2, len(parts.fields))
    name, kind, old = parts.fields[k]
    if kind in ("Varint", "Quality"):
        value = Varint(0, 1 << 62).get(Cursor(old))
        near = max(0, value + rng.choice([-320, -64, -16, -2, -1, 1, 2, 16, 64, 320]))
        new = varint(rng.choice([rng.choice(NUMBERS), near, near, 2 * value]))
    elif kind == "Name":
        new = rng.choice([b"\x81", b"\x82", b"\x83", b"\x0d../etc/passwd", b"\x00"])
    else:
        new = scrambled(old, rng)
    parts.fields[k] = (name, kind, new)
    return name.split(" ")[-1] if "chunk" in name else name, parts.joined(kept=name)


def in_chunk(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Bytes of a chunk."""
    parts = Parts(data)
    k = rng.randrange(parts.records, len(parts.parts))
    parts.parts[k] = scrambled(parts.parts[k], rng)
    return "chunk", parts.joined()


def in_record(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Bytes of a record."""
    parts = Parts(data)
    k = rng.randrange(parts.records)
    parts.parts[k] = scrambled(parts.parts[k], rng)
    return Reader(io.BytesIO(data)).directory[k]["type"], parts.joined()


def in_places(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Two parts change places, or one is there twice."""
    parts = Parts(data)
    a, b = rng.sample(range(len(parts.parts)), 2)
    old = parts.parts[b]
    parts.parts[b] = parts.parts[a]
    if rng.random() < 0.7:
        parts.parts[a] = old
    return "chunks" if min(a, b) >= parts.records else "records", parts.joined()


WAYS: dict[str, Change] = {
    "bytes": in_bytes,
    "fields": in_fields,
    "payload": in_chunk,
    "records": in_record,
    "places": in_places,
}
