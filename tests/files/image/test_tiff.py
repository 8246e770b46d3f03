# SPDX-License-Identifier: Apache-2.0
"""TIFF files as another library writes them: kept, noted or refused by name."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import (
    HERE,
    PIXELS,
    again_of,
    saved,
)
from PIL import Image

from polycodec.codecs.files.image.read import read_image, write_image
from polycodec.errors import InputError

G8, G16 = PIXELS[..., 1], PIXELS[..., 1].astype(np.uint16) * 257
C16 = PIXELS.astype(np.uint16) * 257
TIFFS = {
    "float": (PIXELS.astype(np.float32), {"photometric": "rgb"}, "float samples of 32"),
    "half": (G8.astype(np.float16), {}, "float samples of 16"),
    "double": (G8.astype(np.float64), {}, "float samples of 64"),
    "complex": (G8.astype(np.complex64), {}, "complex"),
    "signed 8": (G8.astype(np.int8), {}, "signed samples of 8"),
    "signed 16": (G16.astype(np.int16), {}, "signed samples of 16"),
    "signed 16, colour": (
        C16.astype(np.int16),
        {"photometric": "rgb"},
        "signed samples of 16",
    ),
    "32 bits": (G8.astype(np.uint32), {}, "samples of 32"),
    "planar 16": (
        np.moveaxis(C16, 2, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        "in planes",
    ),
    "gray and alpha 16": (
        np.dstack([G16, G16]),
        {
            "photometric": "minisblack",
            "extrasamples": ["unassalpha"],
            "planarconfig": "contig",
        },
        "16-bit gray with alpha",
    ),
    "associated 16": (
        np.dstack([C16, G16]),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        "alpha is multiplied",
    ),
    "white is 0, 16": (G16, {"photometric": "miniswhite"}, "white is 0"),
    "cmyk": (np.dstack([PIXELS, G8]), {"photometric": "separated"}, "CMYK"),
    "many bands": (
        np.dstack([G8] * 5),
        {"photometric": "minisblack", "planarconfig": "contig"},
        "5 bands",
    ),
    "alpha last": (
        np.dstack([PIXELS, G8, G8]),
        {"photometric": "rgb", "extrasamples": ["unspecified", "unassalpha"]},
        "alpha behind other bands",
    ),
    "big-endian BigTIFF": (G8, {"bigtiff": True, "byteorder": ">"}, "BigTIFF"),
    "two pages": (np.stack([G8, G8]), {"photometric": "minisblack"}, "multi-page"),
}
BANDS = {
    "infrared": (np.dstack([PIXELS, G8]), ["unspecified"], 1),
    "two more": (np.dstack([PIXELS, G8, G8]), ["unspecified"] * 2, 2),
    "alpha and one": (np.dstack([PIXELS, G8, G8]), ["unassalpha", "unspecified"], 1),
    "infrared, 16": (np.dstack([C16, G16]), ["unspecified"], 1),
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiff_that_is_refused(name) -> None:
    tifffile = pytest.importorskip("tifffile")
    array, options, words = TIFFS[name]
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    with pytest.raises(InputError, match=words):
        again_of(out)


@pytest.mark.parametrize("name", BANDS)
def test_further_bands_of_a_tiff_are_noted(name) -> None:
    tifffile = pytest.importorskip("tifffile")
    array, extra, lost = BANDS[name]
    out = io.BytesIO()
    tifffile.imwrite(out, array, photometric="rgb", extrasamples=extra)
    image = again_of(out)
    assert image.notes == [f"not kept: {lost} of the TIFF's bands beside its image"]
    assert np.array_equal(image.pixels, array[..., :3])
    assert (image.alpha is None) == (extra[0] == "unspecified")


def test_compressions_that_are_not_there_are_named() -> None:
    data = bytearray(saved("TIFF"))
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    for code, words in ((50001, "WebP"), (34712, "JPEG 2000"), (34887, "LERC")):
        data[entry + 8 : entry + 10] = struct.pack("<H", code)
        with pytest.raises(InputError, match=f"{words} inside TIFF"):
            read_image(io.BytesIO(bytes(data)))


def test_damage_of_jpeg_inside_tiff_is_refused() -> None:
    data = bytearray((HERE / "strips.tif").read_bytes())
    tags = Image.open(HERE / "strips.tif").tag_v2
    start, size = tags[273][0], tags[279][0]
    data[start + size - 30 : start + size - 2] = b"\xff\xd9" * 14
    with pytest.raises(InputError, match="JPEG strip 0 is damaged"):
        read_image(io.BytesIO(bytes(data)))


def test_libtiff_does_not_write_to_standard_error_itself(capfd) -> None:
    data = bytearray(saved("TIFF", compression="tiff_lzw"))
    data[10:60] = bytes(50)
    with pytest.raises(InputError):
        read_image(io.BytesIO(bytes(data)))
    assert capfd.readouterr() == ("", "")


def test_text_of_a_tiff_that_is_not_ascii() -> None:
    stored = saved("TIFF", tiffinfo={315: "Ärger".encode(), 270: "日本".encode()})
    image = read_image(io.BytesIO(stored))
    assert "Ärger".encode() in image.exif and "日本".encode() in image.exif
    out = io.BytesIO()
    assert write_image(image, out, suffix=".tif") == []
    assert "Ärger".encode() in out.getvalue() and "日本".encode() in out.getvalue()
