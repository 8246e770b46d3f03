# SPDX-License-Identifier: Apache-2.0
"""Every field into every format: equal, or named in a note; pixels always."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
import pytest
from pictures import (
    EXIF,
    FIELDS,
    ICC,
    IRB,
    PIXELS,
    XMP,
    again_of,
    equal,
)
from PIL import Image, ImageCms

from polycodec.codecs.files.image.data import Density, ImageData
from polycodec.codecs.files.image.read import write_image

FULL = {
    "icc": ICC,
    "exif": EXIF,
    "xmp": XMP,
    "iptc": IRB,
    "text": [("Comment", "hello"), ("Title", "Ä")],
    "density": Density(300, 150, "inch"),
    "chunks": {"cICP": b"\x0c\x0d\0\1", "tIME": b"\x07\xea\1\2\3\4\5"},
}
BAD = {
    "exif": b"garbage",
    "xmp": b"<x>caf\xe9</x>",
    "icc": bytes(1 << 21),
}


def exif_cut() -> bytes:
    """A maker's name, then a directory whose values lie behind the end."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0131] = "Maker", "software of some length"
    return tags.tobytes()[6:-12]


HARD = {**{f"{k}, damaged": (k, v) for k, v in BAD.items()}} | {
    "exif, cut": ("exif", exif_cut()),
    "exif, large": ("exif", EXIF + bytes(90_000)),
    "xmp, large": ("xmp", XMP + b" " * 80_000),
    "xmp, UTF-16": ("xmp", "<x:xmpmeta>ö</x:xmpmeta>".encode("utf-16")),
    "text, large": ("text", [("Comment", "x" * 70_000)]),
    "icc, huge": ("icc", ICC + bytes(17 << 20)),
}
SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".avif", ".ppm")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("deep", [False, True])
def test_every_field_into_every_format(deep, field, suffix) -> None:
    pixels = PIXELS.astype(np.uint16) * 257 if deep else PIXELS
    image = ImageData(pixels, 16 if deep else 8, **{field: FULL[field]})
    check_written(image, field, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", HARD)
def test_what_a_target_cannot_hold_never_stops_pixels(name, suffix) -> None:
    field, value = HARD[name]
    warnings.simplefilter("error")  # what Pillow warns of is a note
    check_written(ImageData(PIXELS, **{field: value}), field, suffix)


def check_written(image: ImageData, field: str, suffix: str) -> None:
    out = io.BytesIO()
    notes = write_image(image, out, suffix=suffix, quality=100)
    again = again_of(out)
    assert again.pixels.shape == image.pixels.shape
    names = {"chunks": "cICP|tIME", "text": "text|comment", "icc": "icc|ICC"}
    said = [n for n in notes if re.search(names.get(field, field), n, re.IGNORECASE)]
    assert said or equal(field, getattr(again, field), getattr(image, field), again)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x0c\x0d", "P3"),
        (b"\x09\x0e", "2020"),
        (b"\x01\x01", "709"),
        (b"\x09\x10", ""),
    ],
)
def test_code_points_become_a_profile_where_there_is_one(code, words) -> None:
    image = ImageData(PIXELS, chunks={"cICP": code + b"\0\1"})
    for suffix in (".jpg", ".webp", ".tif"):
        out = io.BytesIO()
        notes = write_image(image, out, suffix=suffix)
        assert any("cICP" in note for note in notes)
        icc = again_of(out).icc
        assert (icc is not None) == bool(words)
        if icc:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
            assert words in (profile.profile_description or "")


def test_gray_profiles_stay_with_gray() -> None:
    profile = ICC[:16] + b"GRAY" + ICC[20:]
    gray = ImageData(PIXELS[..., :1], icc=profile)
    for suffix, kept in ((".png", True), (".jpg", True), (".tif", True)):
        out = io.BytesIO()
        write_image(gray, out, suffix=suffix)
        assert (again_of(out).icc == profile) == kept
    for suffix in (".webp", ".avif"):  # these hold colour only
        out = io.BytesIO()
        notes = write_image(gray, out, suffix=suffix)
        assert any("profile, which is for GRAY" in note for note in notes)
        assert again_of(out).icc is None


def test_other_profiles_do_not_go_into_a_gray_png() -> None:
    for icc, space in ((ICC, "RGB"), (ICC[:16] + b"CMYK" + ICC[20:], "CMYK")):
        gray = ImageData(PIXELS[..., :1], icc=icc)
        out = io.BytesIO()
        notes = write_image(gray, out, suffix=".png")
        assert notes == [f"PNG: left out the ICC profile, which is for {space}"]
        assert again_of(out).icc is None
        write_image(gray, out := io.BytesIO(), suffix=".jpg")
        assert again_of(out).icc == icc
