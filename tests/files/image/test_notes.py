# SPDX-License-Identifier: Apache-2.0
"""Files through the shipped model: what encoding says, what decoding brings back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import polycodec
from polycodec.codecs.files.image.read import read_image

HERE = Path(__file__).parent / "fixtures"
SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".avif", ".ppm")


@pytest.fixture(scope="module")
def codec():
    return polycodec.load("image/default")


def page(**options: object) -> io.BytesIO:
    """A page of one bit a pixel, which PNG and fax codings hold in a few bytes."""
    marks = np.random.default_rng(0).integers(0, 2, (8, 8)).astype(bool)
    out = io.BytesIO()
    Image.fromarray(np.kron(marks, np.ones((12, 12), bool))).save(out, **options)
    return out


@pytest.mark.parametrize(
    "options", [{"format": "PNG"}, {"format": "TIFF", "compression": "group4"}]
)
def test_a_page_that_grows_is_noted(codec, options) -> None:
    source, out = page(**options), io.BytesIO()
    source.seek(0)
    notes = polycodec.encode(source, out, codec=codec).notes
    assert any("larger than its source" in note for note in notes)


def test_a_photograph_that_shrinks_is_not(codec) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    source = io.BytesIO()
    Image.fromarray(noise).save(source, "PNG")
    source.seek(0)
    assert polycodec.encode(source, io.BytesIO(), codec=codec, quality=10).notes == []


@pytest.mark.parametrize("name", ["exif", "xmp"])
def test_damaged_metadata_is_noted_and_decodes_everywhere(
    codec, name, tmp_path
) -> None:
    value = {"exif": b"Exif\0\0garbage", "xmp": b"<x>caf\xe9</x>"}[name]
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "bad.jpg", quality=99, **{name: value})
    notes = polycodec.encode(tmp_path / "bad.jpg", codec=codec, quality=5).notes
    assert [("XMP is left out" in note) for note in notes] == [True] * (name == "xmp")
    for suffix in SUFFIXES:
        out = tmp_path / f"back{suffix}"
        polycodec.decode(tmp_path / "bad.plc", out, codec=codec)
        assert read_image(out).pixels.shape == (40, 40, 3)


@pytest.mark.parametrize("name", ["p3.avif", "exiftool.jpg", "texts.png", "strips.tif"])
def test_what_stands_beside_comes_back_in_a_png(codec, name) -> None:
    coded, out = io.BytesIO(), io.BytesIO()
    polycodec.encode(HERE / name, coded, codec=codec)
    coded.seek(0)
    assert polycodec.decode(coded, out, codec=codec).notes == []
    found, wanted = read_image(io.BytesIO(out.getvalue())), read_image(HERE / name)
    for field in ("icc", "exif", "xmp", "iptc", "text", "chunks"):
        assert getattr(found, field) == getattr(wanted, field)


def test_the_code_points_of_an_avif_come_back_in_an_avif(codec, tmp_path) -> None:
    polycodec.encode(HERE / "pq.avif", tmp_path / "a.plc", codec=codec)
    polycodec.decode(tmp_path / "a.plc", tmp_path / "a.avif", codec=codec)
    assert read_image(tmp_path / "a.avif").chunks == {"cICP": b"\x09\x10\0\1"}


def test_the_usual_profile_costs_a_small_picture_few_bytes(codec) -> None:
    sizes = []
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (None, profile):
        source, out = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (64, 64), (9, 99, 200)).save(source, "PNG", icc_profile=icc)
        source.seek(0)
        sizes.append(polycodec.encode(source, out, codec=codec).bytes)
    assert sizes[1] - sizes[0] <= 45  # the date in LittleCMS's profile takes most
