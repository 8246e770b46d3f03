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
    "volume": (
        np.stack([np.tile(G8, (2, 2))[:16, :16]] * 16),
        {"photometric": "minisblack", "tile": (16, 16, 16), "volumetric": True},
        "16 planes of a volume",
    ),
    "gray and alpha in planes": (
        np.stack([G8, G8]),
        {
            "photometric": "minisblack",
            "extrasamples": ["unassalpha"],
            "planarconfig": "separate",
        },
        "further bands in planes",
    ),
    "two more, 16": (
        np.dstack([C16, G16, G16]),
        {"photometric": "rgb", "extrasamples": ["unspecified"] * 2},
        "5 bands",
    ),
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


def tiff(image: np.ndarray = PIXELS, **changes: object) -> bytes:
    """A TIFF of Pillow's whose entries (tag: value) are changed afterwards."""
    coder = changes.pop("coder", None)
    data = bytearray(saved("TIFF", image, compression=coder))
    at = struct.unpack_from("<I", data, 4)[0]
    for k in range(struct.unpack_from("<H", data, at)[0]):
        entry = at + 2 + 12 * k
        if (tag := f"t{struct.unpack_from('<H', data, entry)[0]}") in changes:
            struct.pack_into("<HII", data, entry + 2, 4, 1, changes.pop(tag))
    assert not changes
    return bytes(data)


def unchecked() -> bytes:
    """Deflate whose pixels are whole, and whose checksum is not."""
    data, tags = bytearray(tiff(coder="tiff_adobe_deflate")), {}
    with Image.open(io.BytesIO(data)) as image:
        tags = dict(image.tag_v2)
    data[tags[273][0] + tags[279][0] - 1] ^= 1
    return bytes(data)


INCOMPLETE = {
    "more rows than strips": (tiff(t257=40), "has 1 strips; expected 3"),
    "a strip too short": (tiff(t257=40, t278=40), "expected 2880; it is cut"),
    "columns": (tiff(t256=30), "expected 1440; it is cut"),
    "16 bits": (tiff(C16[..., 0], t257=40, t278=40), "expected 1920"),
    "a bitmap": (tiff(G8 > 99, t257=40, t278=40), "expected 120"),
    "sparse": (tiff(t273=0, t279=0), "strip 0 is not in the file"),
    "a wrong checksum": (unchecked(), "strip 0 is damaged .*incorrect data check"),
    "a small JPEG": (
        tiff(coder="jpeg", t256=30),
        "a JPEG of 24 x 16 pixels; expected 30 x 16",
    ),
    "5 bits": (tiff(G8, t258=5), "1 samples of 5 bits"),
    "colour of 4 bits": (tiff(t258=4), "3 samples of 4 bits"),
    "no header": (tiff()[:6], "cut in its header"),
    "no tags": (tiff()[:9], "cut or damaged"),
    "compression": (tiff(t259=77), "compression 77"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_tiff_that_is_not_all_there_is_refused(name) -> None:
    data, words = INCOMPLETE[name]
    with pytest.raises(InputError, match=words):
        read_image(io.BytesIO(data))


def test_a_palette_of_8_bits_is_taken_as_such() -> None:
    palette = Image.fromarray(PIXELS).quantize(32)
    out = io.BytesIO()
    palette.save(out, "TIFF")
    data = bytearray(out.getvalue())
    tags = Image.open(io.BytesIO(data)).tag_v2
    at = data.index(struct.pack("<768H", *tags[320]))
    data[at : at + 1536] = struct.pack("<768H", *(v // 256 for v in tags[320]))
    image = read_image(io.BytesIO(bytes(data)))
    assert np.array_equal(image.pixels, np.asarray(palette.convert("RGB")))
    assert image.notes == ["the TIFF's palette is of 8 bits where 16 are written"]


def test_levels_of_black_and_white_are_noted() -> None:
    levels = {532: (15.0, 235.0) * 3}
    image = read_image(io.BytesIO(saved("TIFF", tiffinfo=levels)))
    assert "ReferenceBlackWhite" in image.notes[0]
    levels = {532: (0.0, 255.0) * 3}
    assert read_image(io.BytesIO(saved("TIFF", tiffinfo=levels))).notes == []


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


def test_damage_that_libtiff_meets_in_a_fax_is_refused() -> None:
    out, refused = io.BytesIO(), 0
    page = Image.fromarray(PIXELS).convert("1")
    page.save(out, "TIFF", compression="group4")
    start = Image.open(out).tag_v2[273][0]
    read_image(io.BytesIO(out.getvalue()))
    for place in range(start + 4, start + 24):
        data = bytearray(out.getvalue())
        data[place] ^= 0x10
        try:
            decoded = read_image(io.BytesIO(bytes(data))).pixels
        except InputError as error:
            assert "pixels are damaged" in str(error)
            refused += 1
        else:  # the changed bits are padding, or a page that another fax could be
            assert decoded.shape[:2] == PIXELS.shape[:2]
    assert refused >= 15


def test_text_of_a_tiff_that_is_not_ascii() -> None:
    stored = saved("TIFF", tiffinfo={315: "Ärger".encode(), 270: "日本".encode()})
    image = read_image(io.BytesIO(stored))
    assert "Ärger".encode() in image.exif and "日本".encode() in image.exif
    out = io.BytesIO()
    assert write_image(image, out, suffix=".tif") == []
    assert "Ärger".encode() in out.getvalue() and "日本".encode() in out.getvalue()
