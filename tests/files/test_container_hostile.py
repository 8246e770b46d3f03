# SPDX-License-Identifier: Apache-2.0
"""Hostile `.plc` files: flipped, cut, random, lying; named errors, bounded memory."""

from __future__ import annotations

import collections
import contextlib
import io
import random
import tracemalloc
from dataclasses import replace

import pytest
from plc_files import image_header, pack, said

from polycodec.codecs.files import api
from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.fields import Varint
from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    Record,
)
from polycodec.codecs.stored import load_codec
from polycodec.cuda import crc32c
from polycodec.errors import BitstreamError, CodecError, TruncatedError


def small_file() -> bytes:
    """About 700 bytes: tiles, deflated and raw metadata, alpha."""
    noise = random.Random(1)
    records = (
        Record("icc", b"profile " * 30),
        Record("exif", noise.randbytes(60)),
        Record("alpha", noise.randbytes(40)),
        Record("type77", b"from the future"),
    )
    header = image_header(width=70, height=40, tile=32)
    header = Header(**{**vars(header), "records": records})
    return pack(header, [noise.randbytes(60 + k) for k in range(6)])


def outcome(data: bytes, good: bytes) -> str:
    """Decode all of ``data`` and compare with the undamaged file."""
    want = Reader(io.BytesIO(good))
    try:
        got = Reader(io.BytesIO(data))
        chunks = [got.chunk(k) for k in range(got.n_chunks)]
        same = [want.chunk(k) for k in range(want.n_chunks)] == chunks
        wanted, found = said(want), said(got)
        if same and replace(wanted, records=()) == replace(found, records=()):
            lost = len(wanted.records) - len(found.records)
            kept = set(found.records) <= set(wanted.records)
            return "harmless" if kept and len(got.warnings) == lost > 0 else "silent"
        return "silent"
    except CodecError:
        return "named"
    except Exception as error:
        return f"crash: {error!r}"


FLIPS = (1, 16, 128, 255)


def test_every_flipped_bit_and_byte_is_noticed() -> None:
    good = small_file()
    counts = collections.Counter()
    for at in range(len(good)):
        for flip in FLIPS:
            bad = bytearray(good)
            bad[at] ^= flip
            counts[outcome(bytes(bad), good)] += 1
    print(dict(counts))
    assert set(counts) == {"named", "harmless"}
    metadata = len(FLIPS) * sum(e["size"] for e in Reader(io.BytesIO(good)).directory)
    assert counts["harmless"] == metadata - len(FLIPS) * 40  # all records but alpha


def test_every_cut_and_every_tail_is_a_named_error() -> None:
    good = small_file()
    for size in range(len(good)):
        with pytest.raises(TruncatedError):
            Reader(io.BytesIO(good[:size]))
    for tail in (b"\0", b"garbage", good):
        with pytest.raises(BitstreamError, match="follows the last chunk"):
            Reader(io.BytesIO(good + tail))


def test_random_bytes_and_random_mutations_never_crash() -> None:
    good, noise = small_file(), random.Random(2)
    counts = collections.Counter()
    for _ in range(300):
        bad = bytearray(good)
        for _ in range(noise.randint(2, 12)):
            bad[noise.randrange(len(bad))] = noise.randrange(256)
        if bad != good:
            counts[outcome(bytes(bad), good)] += 1
        prefix = layout.MAGIC + b"\x01" if noise.random() < 0.5 else b""
        data = prefix + noise.randbytes(noise.randrange(90))
        counts[outcome(data, good)] += 1
    assert set(counts) <= {"named", "harmless"}, counts


def resealed(data: bytes, change) -> bytes:
    """Change the header with its CRC made right again: a hostile writer."""
    reader = Reader(io.BytesIO(data))
    size, index = reader.header_size, data[5] & 4
    seal = b"" if index else crc32c(reader.chunk(0)).to_bytes(4, "little")
    head = bytearray(data[: size - 4])
    change(head)
    return bytes(head) + crc32c(bytes(head) + seal).to_bytes(4, "little") + data[size:]


def test_valid_checksums_around_invalid_headers_are_named_errors() -> None:
    good = pack(image_header(), [b"abc"])
    noise, counts = random.Random(3), collections.Counter()

    def change(head: bytearray) -> None:
        head[noise.randrange(5, len(head))] = noise.randrange(256)

    for _ in range(400):
        data = resealed(good, change)
        try:
            reader = Reader(io.BytesIO(data))
            list(reader.intact())
            reader.chunk(0)
            counts["valid"] += 1  # another width, say, is a valid file
        except CodecError:
            counts["named"] += 1
    assert counts["named"] > 50 and sum(counts.values()) == 400


@contextlib.contextmanager
def memory_below(limit: int):
    """Check the peak of what Python allocates inside, in bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def varint(value: int) -> bytes:
    out = bytearray()
    Varint(0, 1 << 56).put(out, value)
    return bytes(out)


def test_huge_announcements_allocate_nothing() -> None:
    """Half a million tiles, or a record of 256 MiB, announced by a tiny file."""
    good = pack(image_header(width=3, height=2, tile=64), [b"abc"])
    assert good[12:17] == bytes([3, 2, 0x17, 64]) + b"\x89"
    sizes = varint(1 << 14) + varint(1 << 15)

    def tiles(head: bytearray) -> None:
        head[12:16] = sizes + b"\x17\x20"

    def record(head: bytearray) -> None:
        head[5] |= 8
        head[18:18] = b"\x01\x01" + varint(1 << 28) + b"\0" + bytes(4)

    for change in (tiles, record):

        def sized(head: bytearray, change=change) -> None:
            change(head)
            head[6] = len(head) + 4 - 7

        data = resealed(good, sized)
        with memory_below(1 << 20), pytest.raises(TruncatedError):
            Reader(io.BytesIO(data))


def test_what_all_records_inflate_to_is_bounded() -> None:
    """Twenty records of 64 MiB each: what each may have, no file may have together."""
    bomb = Record("type77", bytes(32 << 20))
    header = replace(image_header(), records=(bomb,) * 2)
    good = pack(header, [b"c"])
    entries = Reader(io.BytesIO(good)).directory
    assert [e["inflated"] for e in entries] == [32 << 20] * 2

    def more(head: bytearray) -> None:
        at = head.index(honest := varint(32 << 20))
        head[at : at + 4] = varint((32 << 20) + 1)
        assert len(honest) == 4

    with pytest.raises(BitstreamError, match="inflated; expected at most 67108864"):
        Reader(io.BytesIO(resealed(good, more)))
    # A third is stored as it is; reading pixels and metadata inflates none of them.
    large = pack(replace(header, records=(bomb,) * 3), [b"c"])
    reader = Reader(io.BytesIO(large))
    assert [e["inflated"] for e in reader.directory] == [32 << 20] * 2 + [0]
    with memory_below(1 << 20):
        assert reader.header.record("icc") is None


def test_a_renamed_or_added_alpha_record_is_named() -> None:
    header = replace(image_header(), records=(Record("alpha", b"plane"),))
    good = pack(header, [b"c"])
    at = good.index(bytes([4, 5]))

    def rename(head: bytearray) -> None:
        head[at] = 77

    def deny(head: bytearray) -> None:
        head[13] &= ~64

    for change in (rename, deny):
        with pytest.raises(BitstreamError, match="alpha record"):
            Reader(io.BytesIO(resealed(good, change)))


def test_many_chunks_cost_little_memory() -> None:
    """A limit on their number is not enough: 2^20 of them were 337 MB."""
    count = 1 << 15
    header = image_header(width=1 << 12, height=1 << 11, tile=16)
    data = pack(header, [b""] * count)
    with memory_below(40 * count + len(data)):
        assert Reader(io.BytesIO(data)).n_chunks == count


def test_decompression_bomb_stops_at_the_announced_size() -> None:
    zeros = bytes(32 << 20)
    icc = (Record("icc", zeros),)
    header = Header("a/b", bytes(4), "image", ImageGeometry(1, 1), 0, icc)
    good = pack(header, [b"c"])
    assert len(good) < 40_000
    honest, lie = varint(len(zeros)), varint(1 << 22)
    assert len(honest) == len(lie)

    def change(head: bytearray) -> None:
        at = head.index(honest)
        head[at : at + 4] = lie

    reader = Reader(io.BytesIO(resealed(good, change)))
    with memory_below(12 << 20):
        assert list(reader.intact()) == []
    assert "does not decompress" in reader.warnings[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda h, c: (replace(h, quality=h.quality + 0.01), c),
        lambda h, c: (replace(h, geometry=replace(h.geometry, width=79)), c),
        lambda h, c: (replace(h, geometry=replace(h.geometry, height=70)), c),
        lambda h, c: (replace(h, geometry=replace(h.geometry, depth=9)), c),
        lambda h, c: (replace(h, geometry=replace(h.geometry, colour="gray")), c),
        lambda h, c: (h, [c[1], c[0], *c[2:]]),
        lambda h, c: (h, [c[0], c[0], *c[2:]]),
    ],
    ids=["quality", "width", "height", "depth", "colour", "swapped", "repeated"],
)
def test_streams_are_sealed_with_what_stands_around_them(
    photo, tiny_checkpoint, change
) -> None:
    """These decoded to other pixels without a word once checksums were right."""
    codec = load_codec(tiny_checkpoint)
    data = api.encode(photo.read_bytes(), codec=codec, tile=64).data
    reader = Reader(io.BytesIO(data))
    chunks = [reader.chunk(k) for k in range(reader.n_chunks)]
    assert len(chunks) > 1 and api.decode(data, codec=codec).data
    good = pack(said(reader), chunks)
    assert api.decode(good, codec=codec).data
    bad = pack(*change(said(reader), chunks))
    with pytest.raises(BitstreamError, match=r"decodes to something else|cut|end"):
        api.decode(bad, codec=codec)
