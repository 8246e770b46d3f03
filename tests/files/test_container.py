# SPDX-License-Identifier: Apache-2.0
"""The `.plc` container: golden bytes, hostile bytes, seeks, bounded memory."""

from __future__ import annotations

import io
import os
import pathlib
import re
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plc_files import image_header, pack, said

from polycodec.codecs.files.container import inspect, layout
from polycodec.codecs.files.container.fields import Cursor, Varint
from polycodec.codecs.files.container.file import (
    FeatureGeometry,
    Header,
    ImageGeometry,
    Reader,
    Record,
    SpeechGeometry,
    VideoGeometry,
    open_plc,
    write_plc,
)
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    TruncatedError,
    VersionError,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


# The worked example of FORMAT.md. Format version 2 must be read and written like
# this for ever; computed when the version was frozen, CRCs by polycodec.cuda.
GOLDEN = bytes.fromhex(
    "93 50 4c 43 02 08 81 de ad be ef 03 02 17 89 2f 01 06 "
    "02 00 c2 d9 9d f5 03 1c 8d 65 45 68 69 61 62 63"
)
GOLDEN_HEADER = Header(
    "image/default",
    b"\xde\xad\xbe\xef",
    "image",
    ImageGeometry(3, 2),
    60.25,
    (Record("comment", b"hi"),),
)
GOLDEN_CHUNKS = [b"abc"]


def test_golden_file_is_written_and_read() -> None:
    assert pack(GOLDEN_HEADER, GOLDEN_CHUNKS).hex(" ") == GOLDEN.hex(" ")
    reader = Reader(io.BytesIO(GOLDEN))
    assert said(reader) == GOLDEN_HEADER
    assert reader.chunk(0) == b"abc"
    assert reader.warnings == []


def test_features_are_of_version_3_and_all_else_is_not() -> None:
    # Computed when version 3 was frozen; the byte behind the version is the form.
    golden = bytes.fromhex(
        "93 50 4c 43 03 04 84 de ad be ef 20 20 89 2f 03 31 3b d4 4c 61 62 63"
    )
    geometry = FeatureGeometry(32, 32)
    header = Header(
        "features/cifar10", b"\xde\xad\xbe\xef", "features", geometry, 60.25
    )
    assert pack(header, [b"abc"]).hex(" ") == golden.hex(" ")
    reader = Reader(io.BytesIO(golden))
    assert said(reader) == header and reader.version == 3
    assert reader.chunk(0) == b"abc"
    with pytest.raises(BitstreamError):  # version 2 has no such kind
        Reader(io.BytesIO(golden[:4] + b"\x02" + golden[5:]))


def test_format_md_shows_the_tables_and_the_golden_file() -> None:
    text = (ROOT / "FORMAT.md").read_text(encoding="utf-8")
    assert layout.describe() in text
    example = text.split("## A worked example")[1]
    rows = re.findall(r"^\| `((?:[0-9a-f]{2} ?)+)` \|", example, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == GOLDEN


def test_overhead_of_a_default_image_is_25_bytes() -> None:
    header = Header("image/default", bytes(4), "image", ImageGeometry(768, 512), 50)
    assert len(pack(header, [bytes(20_000)])) - 20_000 == 25


def test_every_kind_round_trips() -> None:
    cases = [
        ("image", ImageGeometry(100, 70, 16, "gray", 32)),
        ("video", VideoGeometry(64, 48, 70, 32, 30000, 1001, 10, full_range=True)),
        ("speech", SpeechGeometry(16000, 50_000, 16_000, 2)),
        ("features", FeatureGeometry(640, 480)),
    ]
    for kind, geometry in cases:
        chunks = [os.urandom(k) for k in range(geometry.n_chunks)]
        header = Header("x/y-1.0", b"1234", kind, geometry, 12.34)
        reader = Reader(io.BytesIO(pack(header, chunks)))
        assert said(reader) == header
        assert [reader.chunk(k) for k in range(reader.n_chunks)] == chunks


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 1 << 14),
    height=st.integers(1, 1 << 14),
    depth=st.integers(1, 16),
    colour=st.sampled_from(["gray", "rgb"]),
    quality=st.integers(0, 10000).map(lambda n: n / 100),
    model=st.from_regex(r"\A[a-z0-9]{1,20}(/[a-z0-9.-]{0}[a-z0-9]{1,20})?\Z"),
    records=st.lists(
        st.tuples(
            st.sampled_from([*layout.RECORD_TYPES.values(), "type77", "type9000"]),
            st.binary(max_size=400) | st.binary(max_size=9).map(lambda b: b * 99),
        ),
        max_size=5,
    ),
    chunk=st.binary(max_size=500),
)
def test_what_is_written_is_read(
    width, height, depth, colour, quality, model, records, chunk
) -> None:
    geometry = ImageGeometry(width, height, depth, colour)
    kept = tuple(Record(*r) for r in records)
    header = Header(model, b"abcd", "image", geometry, quality, kept)
    reader = Reader(io.BytesIO(pack(header, [chunk])))
    assert said(reader) == header
    assert reader.chunk(0) == chunk


def test_a_chunk_is_reached_by_reading_the_header_and_the_chunk() -> None:
    header = image_header(width=1600, height=1600, tile=100)
    records = (Record("exif", os.urandom(50_000)),)
    header = Header(**{**vars(header), "records": records})
    data = pack(header, [bytes([k]) * 1000 for k in range(256)])
    reader = Reader(io.BytesIO(data))
    assert reader.chunk(137) == bytes([137]) * 1000
    assert reader.bytes_read == reader.header_size + 1000


def test_chunks_that_changed_places_are_noticed() -> None:
    data = bytearray(pack(image_header(width=64, height=32, tile=32), [b"AA", b"BB"]))
    data[-4:] = b"BBAA"
    with pytest.raises(ChecksumError, match="chunk 0 of 2"):
        Reader(io.BytesIO(bytes(data))).chunk(0)


@pytest.mark.parametrize(("version", "crc"), [(1, "94 1e 38 37"), (2, "39 f5 ea d4")])
def test_the_layout_of_the_first_version_is_read(version, crc) -> None:
    older = (
        f"93 50 4c 43 {version:02x} 1e 00 81 de ad be ef 03 02 17 00 02 89 17 01 06 "
        f"02 00 c2 d9 9d f5 03 b7 3f 4b 36 {crc} 68 69 61 62 63"
    )
    reader = Reader(io.BytesIO(bytes.fromhex(older)))
    assert said(reader) == GOLDEN_HEADER and reader.version == version
    assert reader.chunk(0) == b"abc"


def test_versions_and_other_files_are_refused_by_name() -> None:
    future = bytearray(GOLDEN)
    future[4] = 4
    with pytest.raises(VersionError, match=r"version 4.*reads versions 1, 2, 3;"):
        Reader(io.BytesIO(bytes(future)))
    with pytest.raises(BitstreamError, match=r"not a \.plc file"):
        Reader(io.BytesIO(b"\x89PNG\r\n\x1a\n"))
    with pytest.raises(TruncatedError):
        Reader(io.BytesIO(b""))


def test_numbers_have_one_form() -> None:
    for bad in (b"\x80\x00", b"\xff\x80\x00", b"\x80" * 12):
        with pytest.raises(BitstreamError):
            Varint(0, 1 << 60).get(Cursor(bad))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": "Ümlaut"}, "model"),
        ({"model": ""}, "model"),
        ({"model": "a/../b"}, "model"),
        ({"digest": b"12345"}, "digest"),
        ({"quality": 100.01}, "quality"),
        ({"kind": "video"}, "kind"),
        ({"geometry": ImageGeometry(0, 5)}, "width"),
        ({"geometry": ImageGeometry(5, 5, 17)}, "depth"),
        ({"geometry": ImageGeometry(5, 5, 8, "cmyk")}, "colour"),
        ({"geometry": ImageGeometry(1 << 20, 1 << 20)}, "pixels"),
        ({"geometry": ImageGeometry(64, 64, tile=32)}, "chunks"),
        (
            {"kind": "speech", "geometry": SpeechGeometry(9, 9, 1 << 22, 255)},
            "1069547520 samples; expected at most 134217728",
        ),
        ({"records": (Record("nonsense", b""),)}, "type"),
    ],
)
def test_the_writer_refuses_what_the_format_cannot_hold(change, word) -> None:
    header = Header(**{**vars(image_header()), **change})
    out = io.BytesIO()
    with pytest.raises(InputError, match=word):
        write_plc(out, header, [b"abc"])
    assert out.getvalue() == b""


class Pipe(io.RawIOBase):
    """Only forwards, in small pieces."""

    def __init__(self, data: bytes = b"") -> None:
        self.stream, self.written = io.BytesIO(data), b""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(min(size, 100) if size > 0 else 100)

    def write(self, data) -> int:
        self.written += bytes(data)
        return len(data)


def test_pipes_both_ways_and_a_header_made_last() -> None:
    produced = []

    def chunks():
        for k in range(3):
            produced.append(k)
            yield bytes([k]) * 300

    def header() -> Header:
        return Header(
            "speech/default",
            bytes(4),
            "speech",
            SpeechGeometry(16000, 16000 * len(produced), 16000),
        )

    pipe = Pipe()
    write_plc(pipe, header, chunks())
    reader = Reader(Pipe(pipe.written))
    assert said(reader) == header()
    assert reader.chunk(2) == bytes([2]) * 300
    with pytest.raises(BitstreamError, match=r"not a \.plc"):
        Reader(Pipe(b"x" * 1000))


def test_info_and_verify(tmp_path) -> None:
    path = tmp_path / "a.plc"
    header = image_header(width=70, height=40, tile=32)
    header = Header(**{**vars(header), "records": (Record("icc", b"profile " * 30),)})
    path.write_bytes(good := pack(header, [os.urandom(60 + k) for k in range(6)]))
    said = inspect.info(path)
    assert said["model"] == "image/default" and said["chunks"] == 6
    assert said["bpp"] == pytest.approx(8 * len(good) / 2800)
    records = sum(r["stored_bytes"] for r in said["records"])
    assert said["header_bytes"] + records + sum(said["chunk_bytes"]) == len(good)
    assert said["records"][0]["bytes"] == 240
    assert inspect.verify(path)["ok"] is True
    for at, word in ((-1, "chunk 5 of 6"), (said["header_bytes"] + 1, "icc")):
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bytes(bad))
        with pytest.raises(ChecksumError, match=word):
            inspect.verify(path)
    with pytest.raises(InputError, match="cannot read"):
        inspect.info(tmp_path / "missing.plc")
    with pytest.raises(InputError, match="cannot read"):
        inspect.verify(tmp_path)


def test_info_of_video_and_speech_give_rates(tmp_path) -> None:
    path = tmp_path / "a.plc"
    cases = [
        ("video", VideoGeometry(64, 64, 50, 50, 25), 2.0),
        ("speech", SpeechGeometry(8000, 16000, 16000), 2.0),
    ]
    for kind, geometry, seconds in cases:
        data = pack(Header("a", bytes(4), kind, geometry), [bytes(1000)])
        path.write_bytes(data)
        kbps = inspect.info(path)["kbps"]
        assert kbps == pytest.approx(8 * len(data) / 1000 / seconds)


def test_info_and_verify_do_not_load_torch_or_pillow(tmp_path) -> None:
    path = tmp_path / "a.plc"
    path.write_bytes(GOLDEN)
    code = (
        "import sys; import polycodec;"
        f"polycodec.info({str(path)!r}); polycodec.verify({str(path)!r});"
        "sys.exit(any(m in sys.modules for m in ('torch', 'PIL')))"
    )
    run = subprocess.run([sys.executable, "-c", code], env=_environment(), check=False)
    assert run.returncode == 0


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_inflate_accepts_exactly_the_announced_stream() -> None:
    from polycodec.codecs.files.container.records import inflate

    data = b"abc" * 50
    packed = zlib.compress(data)[2:-4]  # without zlib's header and checksum
    assert inflate(packed, 150, "icc") == data
    for bad, size in ((packed + b"x", 150), (packed, 149), (packed[:-1], 150)):
        with pytest.raises(BitstreamError):
            inflate(bad, size, "icc")


def test_open_plc_reads_from_a_path(tmp_path) -> None:
    path = tmp_path / "a.plc"
    path.write_bytes(GOLDEN)
    with open_plc(path) as reader:
        assert reader.header.record("comment") == b"hi"
        assert reader.header.record("icc") is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_an_input_error() -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(InputError, match="No space left"),
    ):
        write_plc(full, GOLDEN_HEADER, GOLDEN_CHUNKS)
