# SPDX-License-Identifier: Apache-2.0
"""The format of a ``.plc`` file, as tables; FORMAT.md is printed from them.

    ┌ prefix ┬────────────── header ───────────────┬ records ┬─ chunks ─┐
    │ magic  │ model digest geometry quality       │ icc     │ 0 │ 1 │… │
    │ version│ record directory, chunk index, CRC  │ exif …  │          │
    └────────┴─────────────────────────────────────┴─────────┴──────────┘

One read of the header tells where everything is, so one chunk (an image tile, a
group of frames, seconds of speech) is reached and decoded alone. The header has
a CRC-32C of its own, and so has every record and every chunk; those stand in
the header, so a swapped chunk is noticed too. A file of one small chunk saves the
bytes of that: it has no index, and one CRC for header and chunk.

Numbers and names in these tables are stored in files: append, never renumber.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polycodec.codecs.files.container.fields import (
    U32,
    Bits,
    Fixed,
    Name,
    Quality,
    Row,
    Varint,
)
from polycodec.codecs.files.container.geometry import (
    FeatureGeometry,
    Geometry,
    ImageGeometry,
    SetGeometry,
    SpeechGeometry,
    VideoGeometry,
)
from polycodec.errors import BitstreamError

MAGIC = b"\x93PLC"  # BITSTREAM: the high bit shows a transfer that cut it
VERSION = 2  # BITSTREAM: 2 since the hash of streams covers means
WIDER = 3  # BITSTREAM: of kinds that two bits of the form do not hold
READABLE = (1, 2, 3)  # BITSTREAM
MAX_SIDE = 1 << 20  # pixels
MAX_PIXELS = 1 << 29  # of one image or frame: 512 Mi
MAX_CHUNKS = 1 << 20
MAX_MEMBERS = 1 << 18  # of a set
MAX_RATE = 1 << 20  # samples a second
MAX_SPAN = 1 << 22  # coded samples of each channel in a chunk
MAX_CHUNK_SAMPLES = 1 << 27  # of all channels
MAX_CHUNK = 1 << 31  # bytes
MAX_HEADER = 1 << 24  # bytes
MAX_RECORDS = 255
MAX_RECORD = 1 << 28  # bytes as stored
MAX_INFLATED = 1 << 26  # bytes of all records together after decompression
MAX_SINGLE = 1 << 16  # bytes of the chunk of a file without index

# BITSTREAM, all tables below
WELL_KNOWN_MODELS = {
    0x81: "image/default",
    0x82: "video/default",
    0x83: "speech/default",
    0x84: "features/cifar10",
    0x85: "speech/live",
    0x86: "image/cifar10",
    0x87: "image/granular",
    0x88: "image/mcquic",
}
RECORD_TYPES = {
    1: "icc",
    2: "exif",
    3: "xmp",
    4: "alpha",
    5: "tags",
    6: "comment",
    7: "profile",
    8: "iptc",
    9: "beside",
    10: "text",
    11: "times",
    12: "names",
    13: "members",
    16: "condition",
}
# Of ITU-T H.273, chroma sample location types 0 … 5, one up.
SITINGS = ("unknown", "left", "center", "topleft", "top", "bottomleft", "bottom")
SAMPLES = ("int16", "int8", "int24", "int32", "float32", "float64")
# The signal: damage is an error.
CRITICAL_RECORDS = frozenset({"alpha", "condition", "members", "names", "times"})

FORM = Bits(
    (
        ("kind", 2, ("image", "video", "speech", "set")),
        ("index", 1, (False, True)),
        ("metadata", 1, (False, True)),
    )
)
WIDER_FORM = Bits((("kind", 3, (*FORM.parts[0][2], "features")), *FORM.parts[1:]))
# The first byte of the older layout's header size, at the place of the form.
OLDER = 16

MAGIC_AND_VERSION = (
    Row("magic", Fixed(4), "`93 50 4c 43`"),
    Row("version", Varint(0, 127), "2"),
)
SIZE = Row("header size", Varint(1, MAX_HEADER), "bytes from here to the CRC's end")
PREFIX = (
    *MAGIC_AND_VERSION,
    Row("form", FORM, "what is coded; an index, metadata: are there"),
    replace(SIZE, only="index"),
)
WIDER_PREFIX = (
    *MAGIC_AND_VERSION[:1],
    replace(MAGIC_AND_VERSION[1], meaning="3"),
    replace(PREFIX[2], coding=WIDER_FORM),
    PREFIX[3],
)
START = (
    Row("model", Name(WELL_KNOWN_MODELS), "that decodes the chunks"),
    Row("digest", Fixed(4), "first bytes of the digest of its weights"),
)
# Of version 1, and of version 2 before its release.
OLDER_PREFIX = (*MAGIC_AND_VERSION, SIZE, Row("kind", Bits(FORM.parts[:1]), ""))
OLDER_FLAGS = {"index": True, "metadata": True}
IMAGE = (
    Row("width", Varint(1, MAX_SIDE), "pixels"),
    Row("height", Varint(1, MAX_SIDE), "pixels"),
    Row(
        "samples",
        Bits(
            (
                ("depth", 4, range(1, 17)),
                ("colour", 2, ("gray", "rgb")),
                ("alpha", 1, (False, True)),
            )
        ),
        "bits a sample, which samples; there is an `alpha` record",
    ),
    Row("tile", Varint(0, MAX_SIDE), "side of a tile in pixels, 0: one chunk", "index"),
)
VIDEO = (
    Row("width", Varint(1, MAX_SIDE), "pixels"),
    Row("height", Varint(1, MAX_SIDE), "pixels"),
    Row("frames", Varint(1, 1 << 40), "in all"),
    Row("gop", Varint(1, 1 << 20), "frames in a chunk"),
    Row("rate_num", Varint(1, 1 << 31), "frames in `rate_den` seconds"),
    Row("rate_den", Varint(1, 1 << 31), "seconds"),
    Row(
        "samples",
        Bits(
            (
                ("depth", 4, range(1, 17)),
                ("colour", 3, ("gray", "rgb", "yuv444", "yuv422", "yuv420")),
                ("full_range", 1, (False, True)),
            )
        ),
        "bits a sample, which samples, levels",
    ),
    Row("primaries", Varint(0, 255), "H.273 colour primaries"),
    Row("transfer", Varint(0, 255), "H.273 transfer characteristics"),
    Row("matrix", Varint(0, 255), "H.273 matrix coefficients"),
    Row("aspect_num", Varint(1, 1 << 16), "pixel width"),
    Row("aspect_den", Varint(1, 1 << 16), "pixel height"),
    Row(
        "display",
        Bits(
            (
                ("rotation", 2, (0, 90, 180, 270)),
                ("mirrored", 1, (False, True)),
                ("siting", 3, SITINGS),
            )
        ),
        "degrees counter-clockwise, after mirroring; where chroma samples lie",
    ),
    Row("sound", Varint(0, MAX_CHUNKS), "chunks of sound behind the frames'"),
)
SPEECH = (
    Row("rate", Varint(1, MAX_RATE), "samples a second of the source"),
    Row("samples", Varint(1, 1 << 48), "of each channel of the source"),
    Row("span", Varint(1, MAX_SPAN), "coded samples of each channel in a chunk"),
    Row("channels", Varint(1, 255), "coded"),
    Row("format", Bits((("sample", 3, SAMPLES),)), "of the source's samples"),
    Row("coded_rate", Varint(0, MAX_RATE), "coded samples a second, 0: `rate`"),
    Row("source_channels", Varint(0, 255), "of the source, 0: `channels`"),
)
SET = (
    Row("members", Varint(1, MAX_MEMBERS), "in all; each is a chunk"),
    Row("holds", Bits((("holds", 2, ("image",)),)), "kind of all members"),
)
FEATURES = (
    Row("width", Varint(1, MAX_SIDE), "pixels of the picture that was read"),
    Row("height", Varint(1, MAX_SIDE), "pixels, likewise"),
)
# A member in the record `members`, then in its chunk.
MEMBER = (*IMAGE, Row("records", Varint(0, MAX_RECORDS), "in its chunk"))
MIDDLE = (
    Row("quality", Quality(), "hundredths: the rate"),
    Row("records", Varint(1, MAX_RECORDS), "number of records", "metadata"),
)
OLDER_MIDDLE = (
    Row("params", Varint(2, 2), "bytes of the quality"),
    Row("quality", Quality(two_bytes=True), "hundredths"),
    Row("records", Varint(0, MAX_RECORDS), "number of records"),
)
RECORD = (
    Row("type", Varint(1, 1 << 14), "see the record types"),
    Row("size", Varint(0, MAX_RECORD), "bytes as stored"),
    Row("inflated", Varint(0, MAX_INFLATED), "bytes inflated, 0: not compressed"),
    Row("crc", U32(), "CRC-32C of the stored bytes"),
)
MEMBER_RECORD = RECORD[:3]  # the chunk's CRC covers it
CHUNK = (
    Row("size", Varint(0, MAX_CHUNK), "bytes"),
    Row("crc", U32(), "CRC-32C of the bytes", "index"),
)
# Without index the only chunk's CRC is not stored: the header's covers it too.
END = (Row("header crc", U32(), "CRC-32C of all before it, then of the chunk's CRC"),)

GEOMETRIES: dict[str, tuple[type, tuple[Row, ...]]] = {
    "image": (ImageGeometry, IMAGE),
    "video": (VideoGeometry, VIDEO),
    "speech": (SpeechGeometry, SPEECH),
    "set": (SetGeometry, SET),
    "features": (FeatureGeometry, FEATURES),
}


@dataclass(frozen=True)
class Record:
    """Metadata beside the signal; ``type`` is a name of ``RECORD_TYPES``.

    Types this version does not know appear as ``type77`` and are kept.
    """

    type: str
    data: bytes


@dataclass(frozen=True)
class Header:
    """What a file says before its chunks; ``digest``: 4 bytes, ``quality``: 0 … 100.

    ``records`` are those to be written; `Reader.find` gives those of a file.
    """

    model: str
    digest: bytes
    kind: str
    geometry: Geometry
    quality: float = 0.0
    records: Sequence[Record] = ()


def version_of(kind: str) -> int:
    """The version that a file of a kind is written in: the first that has it."""
    return VERSION if kind in FORM.parts[0][2] else WIDER


def prefix_of(version: int, older: bool = False) -> tuple[Row, ...]:
    """What a file of a version begins with; ``older``: in the layout before forms."""
    if older:
        return OLDER_PREFIX
    return WIDER_PREFIX if version >= WIDER else PREFIX


def record_number(name: str) -> int:
    """Return the stored number of a record type, 0 when there is none."""
    for number, known in RECORD_TYPES.items():
        if known == name:
            return number
    digits = name.removeprefix("type")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def record_name(number: int) -> str:
    """Return the name of a stored record type."""
    return RECORD_TYPES.get(number, f"type{number}")


def over_limit(geometry: Any) -> str | None:
    """Say which limit on products of fields ``geometry`` breaks, if any."""
    pixels = getattr(geometry, "width", 0) * getattr(geometry, "height", 0)
    if pixels > MAX_PIXELS:
        return f"{pixels} pixels; expected at most {MAX_PIXELS}"
    if geometry.n_chunks > MAX_CHUNKS:
        return f"{geometry.n_chunks} chunks; expected at most {MAX_CHUNKS}"
    if isinstance(geometry, SpeechGeometry):
        samples = geometry.span * geometry.channels
        if samples > MAX_CHUNK_SAMPLES:
            return f"chunks of {samples} samples; expected at most {MAX_CHUNK_SAMPLES}"
    return None


def check_records(rows: Sequence[Mapping[str, Any]], alpha: bool | None) -> None:
    """Check what a directory says of all its records; BitstreamError.

    ``alpha``: whether the image has one; None: that is not told.
    """
    inflated = sum(row["inflated"] for row in rows)
    if inflated > MAX_INFLATED:
        raise BitstreamError(
            f"the metadata is {inflated} bytes inflated; expected at most "
            f"{MAX_INFLATED}"
        )
    if alpha not in (None, any(row["type"] == "alpha" for row in rows)):
        raise BitstreamError(
            "the header and the metadata disagree on whether there is an alpha record; "
            "get the file again"
        )


def describe() -> str:
    """Return the tables as Markdown; FORMAT.md holds exactly this text."""
    parts = [
        ("Prefix", PREFIX),
        ("Prefix of version 3, of kinds that it alone has", WIDER_PREFIX),
        ("Header: start", START),
        ("Geometry of an image", IMAGE),
        ("Geometry of a video", VIDEO),
        ("Geometry of speech", SPEECH),
        ("Geometry of a set", SET),
        ("Geometry of features", FEATURES),
        ("For each member of a set, in its record `members`", MEMBER),
        ("For each record of a member, at the start of its chunk", MEMBER_RECORD),
        ("Header: quality and metadata", MIDDLE),
        ("For each record", RECORD),
        ("For each chunk", CHUNK),
        ("Header: end", END),
    ]
    lines = []
    for title, rows in parts:
        lines += [f"**{title}**", "", "| field | bytes | meaning |", "|---|---|---|"]
        for row in rows:
            only = f"; if {row.only}" if row.only else ""
            lines.append(f"| {row.name} | {row.coding}{only} | {row.meaning} |")
        lines.append("")
    types = (
        f"{n} `{t}`{' (critical)' if t in CRITICAL_RECORDS else ''}"
        for n, t in RECORD_TYPES.items()
    )
    return "\n".join([*lines, "**Record types**: " + ", ".join(types) + "."])


if __name__ == "__main__":
    print(describe())
