# SPDX-License-Identifier: Apache-2.0
"""Records of what stands beside pixels: small, bounded, harmless when damaged."""

from __future__ import annotations

import io
import lzma
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    Record,
    write_plc,
)
from polycodec.codecs.files.image import records
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.read import write_image
from polycodec.codecs.files.image.records import (
    KNOWN,
    beside_of,
    known,
    pack_profile,
    unpack_profile,
)
from polycodec.errors import BitstreamError


def stored(*found: Record) -> Reader:
    header = Header(
        "image/default", bytes(4), "image", ImageGeometry(2, 2), records=found
    )
    out = io.BytesIO()
    write_plc(out, header, [b""])
    return Reader(out)


def test_known_profiles_are_profiles_and_cost_a_byte() -> None:
    assert len(records.profiles()) == sum(KNOWN) == records.DICTIONARY
    names = set()
    for k, icc in enumerate(known()):
        assert len(icc) == int.from_bytes(icc[:4], "big")
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        names.add(profile.profile_description)
        assert pack_profile(icc) == bytes([k]) and unpack_profile(bytes([k])) == icc
    assert {"sRGB IEC61966-2.1", "Adobe RGB (1998)", "Display P3"} <= names


def test_profiles_close_to_known_ones_are_small() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert len(icc) == 588  # LittleCMS; the date in it differs each time
    assert len(pack_profile(icc)) <= 40 and unpack_profile(pack_profile(icc)) == icc


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
def test_any_bytes_come_back(size) -> None:
    noise = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    for data in (noise.tobytes(), bytes(size)):
        assert unpack_profile(pack_profile(data)) == data
        assert len(pack_profile(data)) <= size + 1 + size // 1000 + 8


def test_bombs_stop_and_damage_is_named(monkeypatch) -> None:
    monkeypatch.setattr(records, "MAX_INFLATED", 1 << 16)
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(bytes(1 << 24)) + deflate.flush()
    large = lzma.compress(bytes(1 << 24), lzma.FORMAT_RAW, filters=records._FILTERS)
    for data in (
        *(b"\x80" + bomb, b"\x81" + large),
        *(b"", b"\x7f", b"\0\0", b"\x82", b"\x80", b"\x81", b"\x80abc", b"\x81abc"),
    ):
        with pytest.raises(BitstreamError):
            unpack_profile(data)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["profile", "text", "beside", "exif", "xmp", "iptc"]),
    st.binary(max_size=60),
    st.sampled_from([".png", ".jpg", ".tif", ".webp", ".avif", ".ppm"]),
)
def test_hostile_records_never_stop_pixels(kind, data, suffix) -> None:
    reader = stored(Record(kind, data))
    image = ImageData(np.zeros((2, 2, 3), np.uint8), **beside_of(reader))
    out = io.BytesIO()
    write_image(image, out, suffix=suffix)
    with Image.open(out) as again:
        assert again.size == (2, 2) and not np.asarray(again.convert("RGB")).any()


def test_damage_is_a_warning() -> None:
    for record in (
        Record("profile", b"\x7f"),
        Record("text", b"\xff\0\xff\0"),
        Record("beside", b"\x0f"),
        Record("beside", b"\x03abc"),
    ):
        reader = stored(record)
        beside_of(reader)
        assert [record.type in warning for warning in reader.warnings] == [True]
