# SPDX-License-Identifier: Apache-2.0
"""Sets: many pictures in one file, each reached alone, whatever happens to others."""

from __future__ import annotations

import collections
import io
import os
import pathlib
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plc_files import pack as pack_plc

import polycodec
from polycodec.codecs.files.container import names
from polycodec.codecs.files.container.file import Header, Reader, Record, write_plc
from polycodec.codecs.files.container.inspect import info, verify
from polycodec.codecs.files.container.layout import ImageGeometry, SetGeometry
from polycodec.codecs.files.container.members import (
    Entry,
    Index,
    index_records,
    member_chunk,
)
from polycodec.codecs.files.image.decode import read_plc
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.sets import pack as packing
from polycodec.codecs.stored import load_codec
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    CodecError,
    InputError,
    UsageError,
)

NAMES = ["a.png", "b/c.png", "b/d.jpg", "z.png", "ö é.png"]


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return load_codec(tiny_checkpoint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Pictures of three sizes and several kinds, with a file that is none."""
    root = tmp_path_factory.mktemp("icons")
    rng = np.random.default_rng(0)
    (root / "b").mkdir()
    Image.fromarray(picture(rng, 32, 32)).save(root / "a.png")
    Image.fromarray(picture(rng, 24, 30)).save(root / "b" / "c.png", dpi=(72, 72))
    Image.fromarray(picture(rng, 32, 32)).save(root / "b" / "d.jpg")
    Image.fromarray(picture(rng, 32, 32, 4)).save(root / "ö é.png")
    Image.fromarray(picture(rng, 40, 20)[..., 0]).save(root / "z.png")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes((root / "a.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def packed(folder, codec) -> bytes:
    out = io.BytesIO()
    result = polycodec.pack(folder, out, codec=codec, quality=60)
    assert result.members == len(NAMES) and result.bytes == len(out.getvalue())
    reasons = {os.path.basename(name): why for name, why in result.left.items()}
    assert reasons == {"notes.txt": "no image", ".hidden.png": "hidden"}
    return out.getvalue()


def picture(rng, height: int, width: int, channels: int = 3) -> np.ndarray:
    small = rng.integers(0, 256, (4, 4, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


def test_members_are_what_files_of_their_own_are(folder, codec, packed):
    index = Index(Reader(io.BytesIO(packed)))
    assert index.names == NAMES
    for name in NAMES:
        path = folder / name
        alone = polycodec.encode(path.read_bytes(), codec=codec, quality=60)
        reader, member = Reader(io.BytesIO(alone.data)), index.open(name)
        assert member.chunk(0) == reader.chunk(0)
        assert list(member.intact()) == list(reader.intact())
        assert member.header.geometry == reader.header.geometry
        image, _ = read_plc(member, codec=codec)
        wanted, _ = read_plc(reader, codec=codec)
        assert np.array_equal(image.pixels, wanted.pixels)
        assert (image.alpha is None) == (wanted.alpha is None)
        if image.alpha is not None:
            assert np.array_equal(image.alpha, read_image(path).alpha)


def test_one_member_is_read_without_the_others(packed):
    reader = Reader(io.BytesIO(packed))
    index = Index(reader)
    before = reader.bytes_read
    assert index.open("b/d.jpg").size == reader.bytes_read - before
    assert before < reader.header_size + 150  # names and sizes, no member


def test_unpacked_by_name_and_pattern(tmp_path, codec, packed):
    result = polycodec.unpack(packed, tmp_path / "all", codec=codec)
    files = sorted(p.relative_to(tmp_path / "all").as_posix() for p in walk(tmp_path))
    assert files == ["a.png", "b/c.png", "b/d.png", "z.png", "ö é.png"]
    assert result.members == 5
    polycodec.unpack(packed, tmp_path / "b", codec=codec, only=["b/*", "a.png"])
    assert len(list(walk(tmp_path / "b"))) == 3
    whole, part = tmp_path / "all" / "b" / "c.png", tmp_path / "b" / "b" / "c.png"
    assert whole.read_bytes() == part.read_bytes()  # with the density it came with
    assert names.chosen(["1.png", "[1].png"], ["[1].png"]) == ["[1].png"]
    with pytest.raises(UsageError, match="the output's name is empty"):
        polycodec.unpack(packed, "", codec=codec)
    with pytest.raises(InputError, match=r"'b/x.png'; nearest: b/c.png"):
        polycodec.unpack(packed, tmp_path / "x", codec=codec, only=["b/x.png"])
    with pytest.raises(InputError, match="exists already"):
        polycodec.unpack(packed, tmp_path / "all", codec=codec)
    polycodec.unpack(packed, tmp_path / "all", codec=codec, force=True)


def walk(folder: pathlib.Path):
    return (p for p in folder.rglob("*") if p.is_file())


def test_a_batch_of_many_sizes_keeps_the_order(tmp_path, codec, monkeypatch):
    monkeypatch.setattr(packing, "BATCH", 8)
    rng = np.random.default_rng(1)
    for k in range(10):  # more than a batch
        size = 16 + 8 * (k % 3), 16 + 4 * (k % 2)
        Image.fromarray(picture(rng, *size)).save(tmp_path / f"{k:02}.png")
    told: list[tuple[int, int]] = []
    out = io.BytesIO()
    step = lambda done, total: told.append((done, total))  # noqa: E731
    polycodec.pack(tmp_path, out, codec=codec, progress=step)
    assert told == [(8, 10), (10, 10)]
    polycodec.unpack(out.getvalue(), tmp_path / "back", codec=codec)
    for k in range(10):
        image = Image.open(tmp_path / "back" / f"{k:02}.png")
        assert image.size == (16 + 4 * (k % 2), 16 + 8 * (k % 3))


def test_overhead_of_a_member_is_its_size_checksum_and_name(codec, tmp_path):
    rng = np.random.default_rng(2)
    for k in range(40):
        Image.fromarray(picture(rng, 16, 16)).save(tmp_path / f"{k:04}.png")
    out = io.BytesIO()
    result = polycodec.pack(tmp_path, out, codec=codec)
    index = Index(Reader(io.BytesIO(out.getvalue())))
    streams = sum(index.size(name) for name in index.names)
    # A varint and a CRC of 4 bytes; deflate takes names and equal sizes together.
    assert (result.bytes - streams - 60) / 40 < 5 + 4


def test_damaged_members_are_named_and_the_others_unpacked(tmp_path, codec, packed):
    reader = Reader(io.BytesIO(packed))
    start = len(packed) - sum(reader.sizes)
    bad = bytearray(packed)
    bad[start + 2] ^= 1  # in a.png
    bad[-1] ^= 1  # in the last one
    pattern = r"2 of 5 members .* 'a.png' is damaged.* 'ö é.png' is damaged"
    with pytest.raises(ChecksumError, match=pattern):
        polycodec.unpack(bytes(bad), tmp_path, codec=codec)
    assert len(list(walk(tmp_path))) == 3
    with pytest.raises(ChecksumError, match=r"'a.png' is damaged.*1 more: 'ö é.png'"):
        verify(bytes(bad))
    assert verify(packed)["chunks"] == 5
    with pytest.raises(BitstreamError, match=r"'ö é.png'"):  # cut
        polycodec.unpack(packed[:-1], tmp_path / "cut", codec=codec)
    assert len(list(walk(tmp_path / "cut"))) == 4


def test_streams_that_lie_behind_good_checksums_are_named(tmp_path, codec, packed):
    data = edited(packed, lambda chunks: chunks.__setitem__(0, chunks[0][:-2] + b"xy"))
    with pytest.raises(CodecError, match=r"1 of 5 .*'a.png' is damaged"):
        polycodec.unpack(data, tmp_path, codec=codec)
    assert len(list(walk(tmp_path))) == 4


@pytest.mark.parametrize("first", ["a.png/c.png", "/".join("d" * 1900)])
def test_a_folder_that_cannot_be_costs_no_other_member(tmp_path, codec, packed, first):
    def rename(rows):
        rows["names"] = rows["names"].replace(b"b/c.png", first.encode())

    data = edited(packed, lambda chunks: None, rename)
    with pytest.raises(InputError, match=r"1 of 5 members .* cannot make the folder"):
        polycodec.unpack(data, tmp_path / "out", codec=codec)
    assert len(list((tmp_path / "out").glob("**/*.png"))) == 4


def edited(data: bytes, change, records=lambda rows: None) -> bytes:
    """The set with other chunks and records, its checksums right: a hostile writer."""
    reader = Reader(io.BytesIO(data))
    chunks = [reader.chunk(k) for k in range(reader.n_chunks)]
    change(chunks)
    rows = {record.type: record.data for record in reader.intact()}
    records(rows)
    about = {**vars(reader.header), "records": [*map(record_of, rows.items())]}
    about.pop("reader")
    out = io.BytesIO()
    write_plc(out, Header(**about), chunks)
    return out.getvalue()


def record_of(item: tuple[str, bytes]):
    return Record(*item)


ELSEWHERE = ["../a.png", "/etc/a.png", "b/../../a.png", "a//b", "", "C:/a.png"]
ELSEWHERE += ["b\\c", "a\nb", "b/./c.png", "e\u0301.png", "b/d.jpg"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere_are_refused(tmp_path, codec, packed, name):
    def rename(rows):
        rows["names"] = rows["names"].replace(b"a.png", name.encode())

    data = edited(packed, lambda chunks: None, rename)
    for read in (info, verify, lambda d: polycodec.unpack(d, tmp_path, codec=codec)):
        with pytest.raises(BitstreamError, match="member"):
            read(data)
    assert not list(walk(tmp_path))


def test_a_link_in_the_folder_does_not_lead_out_of_it(tmp_path, codec, packed):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "b").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="outside"):
        polycodec.unpack(packed, tmp_path / "in", codec=codec)
    assert not list(walk(tmp_path / "out"))


FLIPS = (1, 128, 255)
DECODED: dict[tuple, np.ndarray] = {}  # members that were decoded once


def test_hostile_sets_are_named_or_decode_to_the_same(codec, packed):
    """Every byte of the index; bytes of members with and without right checksums."""
    good = contents(packed, codec)
    noise, counts = random.Random(4), collections.Counter()
    reader = Reader(io.BytesIO(packed))
    start = len(packed) - sum(reader.sizes)
    for at in range(start):
        bad = bytearray(packed)
        bad[at] ^= FLIPS[at % 3]
        counts[outcome(bytes(bad), good, codec)] += 1
    assert counts == {"named": start}

    def change(chunks):
        k = noise.randrange(len(chunks))
        chunk = bytearray(chunks[k])
        for _ in range(noise.randint(1, 4)):
            chunk[noise.randrange(len(chunk))] = noise.randrange(256)
        chunks[k] = bytes(chunk[: noise.randint(1, len(chunk))])

    def lie(rows):
        kind = noise.choice(["names", "members"])
        data = bytearray(rows[kind])
        data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
        rows[kind] = bytes(data)

    for _ in range(40):
        data = edited(packed, change)
        counts[outcome(data, good, codec)] += 1
        data = edited(packed, lambda chunks: None, lie)
        counts["lie", outcome(data, good, codec)] += 1
    print(counts)
    # A name that was changed by whoever also made its checksum right is a name.
    assert {o for o in counts if "silent" in o} <= {("lie", "renamed")}
    assert not any("crash" in str(outcome) for outcome in counts)


def contents(data: bytes, codec) -> dict[str, np.ndarray | str]:
    reader = Reader(io.BytesIO(data))
    index, found = Index(reader), {}
    for k, name in enumerate(index.names):
        key = reader.chunk(k), index.entry(name)
        try:
            if key not in DECODED:
                DECODED[key] = read_plc(index.open(name), codec=codec)[0].pixels
            found[name] = DECODED[key]
        except CodecError:
            found[name] = "named"
    return found


def outcome(data: bytes, good, codec) -> str:
    """What comes of a set: an error of ours, equal pixels, other names, or others."""
    try:
        found = contents(data, codec)
    except CodecError:
        return "named"
    except Exception as error:
        return f"crash: {error!r}"
    pairs = list(zip(found.values(), good.values(), strict=True))
    if any(not isinstance(x, str) and not np.array_equal(x, y) for x, y in pairs):
        return "silent"
    if any(isinstance(x, str) for x in found.values()):
        return "named"
    return "same" if list(found) == list(good) else "renamed"


def test_what_is_refused_when_packing(tmp_path, codec, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to do in the folder"):
        polycodec.pack(tmp_path / "empty", tmp_path / "a.plc", codec=codec)
    with pytest.raises(InputError, match="nothing to pack"):
        polycodec.pack([], tmp_path / "a.plc", codec=codec)
    with pytest.raises(InputError, match="nothing to do"):
        polycodec.pack([tmp_path / "empty", folder / "a.png"], tmp_path / "a.plc")
    with pytest.raises(UsageError, match="quality is 101"):
        polycodec.pack(folder, tmp_path / "a.plc", codec=codec, quality=101)
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("e\u0301.png", "\u00e9.png"):
        Image.new("RGB", (16, 16)).save(twice / name)
    if len(os.listdir(twice)) == 2:
        with pytest.raises(InputError, match=r"two members are called .é\.png"):
            polycodec.pack(twice, tmp_path / "a.plc", codec=codec)
    assert not (tmp_path / "a.plc").exists()


def test_a_picture_that_cannot_be_read_ends_it_or_is_told(tmp_path, codec):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG and no more")
    out = io.BytesIO()
    with pytest.raises(InputError, match=r"b\.png"):
        polycodec.pack(tmp_path, out, codec=codec)
    assert not out.getvalue()
    result = polycodec.pack(tmp_path, out, codec=codec, keep_going=True)
    assert result.members == 1 and list(result.failed) == ["b.png"]


def test_metadata_is_kept_or_dropped(tmp_path, codec, folder):
    out = io.BytesIO()
    polycodec.pack(folder, out, codec=codec, metadata="drop")
    index = Index(Reader(io.BytesIO(out.getvalue())))
    kinds = {n: [r.type for r in index.open(n).intact()] for n in index.names}
    assert kinds.pop("ö é.png") == ["alpha"]
    assert not any(kinds.values())


def test_capitals_that_meet_are_named(tmp_path, codec):
    assert names.meeting(["a.png", "b.png", "A.PNG"]) == [("a.png", "A.PNG")]
    for name in ("a.png", "A.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    if len(os.listdir(tmp_path)) == 2:
        result = polycodec.pack(tmp_path, io.BytesIO(), codec=codec)
        assert "A.png and a.png" in result.notes[-1]


def test_two_of_one_stem_keep_their_whole_names(tmp_path, codec):
    for name in ("a.png", "a.bmp"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    out = io.BytesIO()
    files = [tmp_path / "a.png", tmp_path / "a.bmp"]
    polycodec.pack(files, out, codec=codec)
    polycodec.unpack(out.getvalue(), tmp_path / "back", codec=codec)
    assert sorted(os.listdir(tmp_path / "back")) == ["a.bmp.png", "a.png.png"]


def test_a_set_is_no_image_and_an_image_no_set(tmp_path, packed, folder, codec):
    with pytest.raises(InputError, match="polycodec unpack"):
        polycodec.decode(packed, tmp_path / "a.png")
    image = polycodec.encode((folder / "a.png").read_bytes(), codec=codec).data
    with pytest.raises(InputError, match="holds image; expected a set"):
        polycodec.unpack(image, tmp_path / "a")


# A set of "a" and "b/c", of 3 x 2 pixels, at quality 60.25; their tiles "abc", "d".
# Sets must be read and written like this for ever; made when they were new.
GOLDEN = bytes.fromhex(
    "93 50 4c 43 02 0f 26 81 de ad be ef 02 00 89 2f 02 "
    "0c 06 00 3f 1e 90 e9 0d 0a 00 2b 3d 43 34 08 ae 59 78 07 01 2c 57 21 f4 f4 fa 54 "
    "65 61 00 62 2f 63 00 03 02 17 00 01 03 02 17 00 00 06 02 00 68 69 61 62 63 64"
)


def test_the_golden_set_is_written_and_read():
    entry = Entry(ImageGeometry(3, 2))
    chunks = [member_chunk([Record("comment", b"hi")], [b"abc"]), b"d"]
    entries = [replace(entry, records=1), entry]
    records = index_records(["a", "b/c"], entries)
    about = "image/default", b"\xde\xad\xbe\xef", "set", SetGeometry(2), 60.25
    assert pack_plc(Header(*about, records), chunks).hex(" ") == GOLDEN.hex(" ")
    index = Index(Reader(io.BytesIO(GOLDEN)))
    assert index.names == ["a", "b/c"] and index.entries == entries
    assert index.open("a").header.record("comment") == b"hi"
    assert [index.open(name).chunk(0) for name in index.names] == [b"abc", b"d"]


def test_the_index_says_names_sizes_and_bits(packed):
    said = info(packed)
    assert [m["name"] for m in said["members"]] == NAMES
    pixels = sum(m["width"] * m["height"] for m in said["members"])
    assert pixels == 3 * 32 * 32 + 24 * 30 + 40 * 20
    assert said["bpp"] == pytest.approx(8 * len(packed) / pixels)
    assert said["members"][4]["alpha"] and said["members"][3]["colour"] == "gray"
