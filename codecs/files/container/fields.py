# SPDX-License-Identifier: Apache-2.0
"""Field types of the container: how one number, name or blob becomes bytes.

    row = Row("width", Varint(1, 1 << 20), "pixels")
    row.coding.put(out, 768)   ->  80 06
    row.coding.get(cursor)     ->  768, or a named error

A format is a tuple of rows; ``put_rows`` and ``get_rows`` walk it. Every type
checks its value both ways, so a number that was read is inside its stated range
before anybody allocates from it. A row with ``only`` is there if the flag of that name,
which stands before it, is set.

Varint is little-endian base 128 (LEB128), 7 bits a byte, the high bit says that
another byte follows; the shortest form is the only valid one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from polycodec.errors import BitstreamError, InputError, TruncatedError, VersionError


class Cursor:
    """A position in bytes that never reads past their end."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes; TruncatedError when fewer are left."""
        if size > self.left:
            raise TruncatedError(
                f"the header ends too early; expected {size} more bytes, found "
                f"{self.left}; the file is damaged"
            )
        self.position += size
        return self.data[self.position - size : self.position]


class Coding(Protocol):
    """What a field type offers: both directions, and its line in FORMAT.md as str."""

    def put(self, out: bytearray, value: Any) -> None:
        """Append ``value``; InputError when it is outside the format."""

    def get(self, cursor: Cursor) -> Any:
        """Read a value; BitstreamError when it is outside the format."""


@dataclass(frozen=True)
class Varint:
    """An unsigned number in ``low..high``, one byte for each 7 bits."""

    low: int
    high: int

    def put(self, out: bytearray, value: int) -> None:
        if not self.low <= value <= self.high:
            raise InputError(f"{value} is outside {self.low}..{self.high}")
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)

    def get(self, cursor: Cursor) -> int:
        value = shift = 0
        while True:
            octet = cursor.take(1)[0]
            value |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
            if shift > 56:
                raise BitstreamError("a number is longer than 8 bytes")
        if octet == 0 and shift > 7:
            raise BitstreamError("a number is not in its shortest form")
        if not self.low <= value <= self.high:
            raise BitstreamError(f"{value} is outside {self.low}..{self.high}")
        return value

    def __str__(self) -> str:
        return f"varint, {self.low}..{self.high}"


@dataclass(frozen=True)
class Fixed:
    """Exactly ``size`` bytes."""

    size: int

    def put(self, out: bytearray, value: bytes) -> None:
        if len(value) != self.size:
            raise InputError(f"{len(value)} bytes; expected {self.size}")
        out += value

    def get(self, cursor: Cursor) -> bytes:
        return cursor.take(self.size)

    def __str__(self) -> str:
        return f"{self.size} bytes"


@dataclass(frozen=True)
class U32:
    """A 32-bit unsigned number, little-endian."""

    def put(self, out: bytearray, value: int) -> None:
        out += value.to_bytes(4, "little")

    def get(self, cursor: Cursor) -> int:
        return int.from_bytes(cursor.take(4), "little")

    def __str__(self) -> str:
        return "4 bytes, little-endian"


@dataclass(frozen=True)
class Quality:
    """A number in 0 … 100, stored as hundredths: a varint, or in two bytes."""

    two_bytes: bool = False

    def put(self, out: bytearray, value: float) -> None:
        Varint(0, 10000).put(out, round(100 * value))

    def get(self, cursor: Cursor) -> float:
        if not self.two_bytes:
            return Varint(0, 10000).get(cursor) / 100
        value = int.from_bytes(cursor.take(2), "little")
        if value > 10000:
            raise BitstreamError(f"{value} hundredths are outside 0..10000")
        return value / 100

    def __str__(self) -> str:
        return "varint, 0..10000"


@dataclass(frozen=True)
class Bits:
    """Several small values in one byte, the first in the lowest bits.

    ``parts``: (name, bits, choices); ``choices`` are the values in the order of
    their numbers. The value is a mapping from names to choices.
    """

    parts: tuple[tuple[str, int, Sequence[Any]], ...]

    def put(self, out: bytearray, value: Mapping[str, Any]) -> None:
        octet = shift = 0
        for name, bits, choices in self.parts:
            if value[name] not in choices:
                raise InputError(
                    f"{name} is {value[name]!r}; expected {_list(choices)}"
                )
            octet |= choices.index(value[name]) << shift
            shift += bits
        out.append(octet)

    def get(self, cursor: Cursor) -> dict[str, Any]:
        octet, value = cursor.take(1)[0], {}
        for name, bits, choices in self.parts:
            number = octet & (1 << bits) - 1
            if number >= len(choices):
                raise BitstreamError(f"{name} {number} is unknown to this version")
            value[name] = choices[number]
            octet >>= bits
        if octet:
            raise BitstreamError("reserved bits are set")
        return value

    def __str__(self) -> str:
        parts = (f"{n}: {b} bits = {_list(c)}" for n, b, c in self.parts)
        return "1 byte; " + "; ".join(parts)


NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._+-]*(/[a-z0-9][a-z0-9._+-]*)*")


@dataclass(frozen=True)
class Name:
    """A model's name: one byte for a well-known one, else length and ASCII.

    A first byte of 0x80 or more is the number of a well-known name.
    """

    known: Mapping[int, str]

    def put(self, out: bytearray, value: str) -> None:
        if len(value) > 127 or not NAME_PATTERN.fullmatch(value):
            raise InputError(
                f"{value!r} is no model name; expected up to 127 of a-z 0-9 . _ + - "
                "with / between parts"
            )
        for number, name in self.known.items():
            if name == value:
                out.append(number)
                return
        out.append(len(value))
        out += value.encode("ascii")

    def get(self, cursor: Cursor) -> str:
        first = cursor.take(1)[0]
        if first >= 0x80:
            if first not in self.known:
                raise VersionError(
                    f"the file names its model by number 0x{first:02x}, which this "
                    "version does not know; update polycodec"
                )
            return self.known[first]
        name = cursor.take(first).decode("latin-1")
        if not NAME_PATTERN.fullmatch(name):
            raise BitstreamError(f"{name!r} is no model name")
        return name

    def __str__(self) -> str:
        known = ", ".join(f"0x{n:02x} = `{name}`" for n, name in self.known.items())
        return f"1 byte n, then n bytes of ASCII; or one byte: {known}"


@dataclass(frozen=True)
class Row:
    """One line of the format: a name, how it is coded, what it means."""

    name: str
    coding: Coding
    meaning: str
    only: str = ""  # a flag


def put_rows(out: bytearray, rows: Sequence[Row], values: Mapping[str, Any]) -> None:
    """Append the ``values`` of ``rows``; InputError names the field at fault."""
    for row in rows:
        if row.only and not values[row.only]:
            continue
        try:
            bits = isinstance(row.coding, Bits)
            row.coding.put(out, values if bits else values[row.name])
        except InputError as error:
            raise InputError(f"cannot store {row.name}; {error}") from None


def get_rows(cursor: Cursor, rows: Sequence[Row], values: dict[str, Any]) -> None:
    """Read ``rows`` into ``values``, 0 for what is not there.

    The errors name the field at fault.
    """
    for row in rows:
        if row.only and not values[row.only]:
            values[row.name] = 0
            continue
        try:
            value = row.coding.get(cursor)
        except (TruncatedError, VersionError):
            raise
        except BitstreamError as error:
            raise BitstreamError(
                f"the header's {row.name} is invalid; {error}"
            ) from None
        values |= value if isinstance(row.coding, Bits) else {row.name: value}


def _list(choices: Sequence[Any]) -> str:
    if isinstance(choices, range):
        return f"{choices[0]}..{choices[-1]}"
    return ", ".join(str(c) for c in choices)
