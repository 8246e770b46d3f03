# SPDX-License-Identifier: Apache-2.0
"""What stands beside pixels comes back equal, whoever wrote it.

`fixtures/` was made by avifenc 0.11.1, exiftool 12.57 and ImageMagick 6.9.11 of Debian
12, `FIXTURES` says what they put in; other inputs are made by `pictures.py`, byte by
byte from the formats' texts. All go through the records of a ``.plc`` file and back
into a PNG.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import (
    BMP,
    EXIF,
    FIELDS,
    GIF,
    HERE,
    ICC,
    IRB,
    P3,
    XMP,
    again_of,
    blocks,
    chunk,
    equal,
    gif,
    jpeg,
    png,
    saved,
    through_plc,
    webp,
)
from PIL import Image

from polycodec.codecs.files.image.data import Beside, Density
from polycodec.codecs.files.image.read import read_image, write_image
from polycodec.errors import InputError

raw = "\n".join(["", "iptc", f"{len(IRB):8}", IRB.hex(), ""]).encode()
KEPT = {
    "png eXIf": (png(chunk(b"eXIf", EXIF)), {"exif": EXIF}),
    "png eXIf behind IDAT": (png(chunk(b"eXIf", EXIF), behind=True), {"exif": EXIF}),
    "png XMP behind IDAT": (
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), behind=True),
        {"xmp": XMP},
    ),
    "png XMP, deflated": (
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
        {"xmp": XMP},
    ),
    "png iCCP": (png(chunk(b"iCCP", b"x\0\0" + zlib.compress(ICC))), {"icc": ICC}),
    "png tEXt": (
        png(chunk(b"tEXt", b"Title\0A m\xe4dow"), chunk(b"tEXt", b"Title\0again")),
        {"text": [("Title", "A mädow"), ("Title", "again")]},
    ),
    "png zTXt": (
        png(chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"long " * 99))),
        {"text": [("Author", "long " * 99)]},
    ),
    "png iTXt behind IDAT": (
        png(chunk(b"iTXt", "Comment\0\0\0\0\0日本".encode()), behind=True),
        {"text": [("Comment", "日本")]},
    ),
    "png raw IPTC": (
        png(chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw))),
        {"iptc": IRB},
    ),
    "png pHYs": (
        png(chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1))),
        {"density": Density(11811, 5906, "metre")},
    ),
    "png pHYs, aspect": (
        png(chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0))),
        {"density": Density(1, 2, "aspect")},
    ),
    "png gAMA": (
        png(chunk(b"gAMA", struct.pack(">I", 100000))),
        {"chunks": {"gAMA": struct.pack(">I", 100000)}},
    ),
    "png cHRM": (png(chunk(b"cHRM", P3)), {"chunks": {"cHRM": P3}}),
    "png cICP": (
        png(chunk(b"cICP", b"\x09\x10\0\1")),
        {"chunks": {"cICP": b"\x09\x10\0\1"}},
    ),
    "png sRGB": (png(chunk(b"sRGB", b"\1")), {"chunks": {"sRGB": b"\1"}}),
    "png light": (
        png(chunk(b"mDCV", bytes(24)), chunk(b"cLLI", bytes(8))),
        {"chunks": {"mDCV": bytes(24), "cLLI": bytes(8)}},
    ),
    "png tIME behind IDAT": (
        png(chunk(b"tIME", b"\x07\xea\1\2\3\4\5"), behind=True),
        {"chunks": {"tIME": b"\x07\xea\1\2\3\4\5"}},
    ),
    "jpeg EXIF": (jpeg((0xE1, b"Exif\0\0" + EXIF)), {"exif": EXIF}),
    "jpeg damaged EXIF": (jpeg((0xE1, b"Exif\0\0garbage")), {"exif": b"garbage"}),
    "jpeg XMP": (jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)), {"xmp": XMP}),
    "jpeg ICC in parts": (
        jpeg(
            (0xE2, b"ICC_PROFILE\0\2\2" + ICC[100:]),
            (0xE2, b"ICC_PROFILE\0\1\2" + ICC[:100]),
        ),
        {"icc": ICC},
    ),
    "jpeg IPTC": (jpeg((0xED, b"Photoshop 3.0\0" + IRB)), {"iptc": IRB}),
    "jpeg comments": (
        jpeg((0xFE, b"Taken \xe4\0"), (0xFE, "日本".encode())),
        {"text": [("Comment", "Taken ä"), ("Comment", "日本")]},
    ),
    "jpeg density": (
        saved("JPEG", dpi=(300, 150)),
        {"density": Density(300, 150, "inch")},
    ),
    "webp EXIF": (webp(b"EXIF", EXIF), {"exif": EXIF}),
    "webp XMP": (webp(b"XMP ", XMP), {"xmp": XMP}),
    "webp ICC": (saved("WEBP", icc_profile=ICC), {"icc": ICC}),
    "gif comment": (gif(blocks(0xFE, b"he", b"llo")), {"text": [("Comment", "hello")]}),
    "gif XMP": (
        gif(
            b"\x21\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"
        ),
        {"xmp": XMP},
    ),
    "gif ICC": (
        gif(blocks(0xFF, b"ICCRGBG1012", ICC[:255], ICC[255:])),
        {"icc": ICC},
    ),
    "gif aspect": (
        GIF[:12] + bytes([17]) + GIF[13:],
        {"density": Density(64, 32, "aspect")},
    ),
    "bmp density": (
        BMP[:38] + struct.pack("<ii", 11811, 5906) + BMP[46:],
        {"density": Density(11811, 5906, "metre")},
    ),
    "ppm comment": (
        b"P5\n# a comment\n2 1\n255\n\1\2",
        {"text": [("Comment", "a comment")]},
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_comes_back_equal(name) -> None:
    data, wanted = KEPT[name]
    image = read_image(io.BytesIO(data))
    for field, value in wanted.items():
        assert getattr(image, field) == value
    assert image.notes == []
    stored, warnings = through_plc(image)
    assert stored == Beside(**{f: getattr(image, f) for f in FIELDS})
    assert warnings == []
    out = io.BytesIO()
    assert write_image(image, out, suffix=".png") == []
    again = again_of(out)
    for field in wanted:
        assert equal(field, getattr(again, field), getattr(image, field), again)
    assert np.array_equal(again.pixels, image.pixels)


NOTHING: dict[str, object] = {}
FIXTURES = {
    "associated.tif": (NOTHING, None),
    "comment.gif": ({"text": [("Comment", "hello gif")]}, None),
    "cropped.avif": (NOTHING, "cropped to 12 x 8 pixels"),
    "density.bmp": ({"density": Density(11811, 11811, "metre")}, None),
    "exiftool.jpg": (
        {"text": [("Comment", "hello")], "density": Density(240, 120, "inch")},
        None,
    ),
    "imagemagick.png": (NOTHING, "bKGD"),
    "iptc.tif": (NOTHING, None),
    "magick.webp": (NOTHING, None),
    "p3.avif": ({"chunks": {"cICP": b"\x0c\x0d\0\1"}}, None),
    "pq.avif": ({"chunks": {"cICP": b"\x09\x10\0\1"}}, None),
    "profile.bmp": (NOTHING, None),
    "strips.tif": ({"icc": ICC}, None),
    "texts.png": (
        {
            "text": [("Author", "Ärger"), ("Comment", "日本"), ("Title", "a title")],
            "density": Density(11811, 11811, "metre"),
        },
        None,
    ),
    "turned.avif": (NOTHING, None),
    "wide.avif": ({"density": Density(1, 2, "aspect")}, None),
    "xmp.gif": ({"text": [("Comment", "hello gif")]}, None),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_files_of_other_programs(name) -> None:
    wanted, note = FIXTURES[name]
    image = read_image(HERE / name)
    for field, value in wanted.items():
        assert getattr(image, field) == value
    assert len(image.notes) == bool(note)
    assert note is None or note in image.notes[0]
    assert through_plc(image)[0] == Beside(**{f: getattr(image, f) for f in FIELDS})


def test_what_the_programs_put_in_is_there() -> None:
    for name in ("exiftool.jpg", "iptc.tif", "magick.webp", "xmp.gif"):
        assert b"a title" in (read_image(HERE / name).xmp or b""), name
    for name, words in (
        ("exiftool.jpg", b"a caption"),
        ("iptc.tif", b"a caption"),
        ("texts.png", b"Ulm"),
    ):
        assert words in (read_image(HERE / name).iptc or b""), name
    for name in ("imagemagick.png", "texts.png"):  # by ImageMagick it lies behind IDAT
        tags = Image.Exif()
        tags.load(read_image(HERE / name).exif or b"")
        assert tags[0x0112] == 6, name
    assert len(read_image(HERE / "profile.bmp").icc or b"") == 412  # 410 and padding
    turned = Image.Exif()
    turned.load(read_image(HERE / "turned.avif").exif or b"")
    assert turned[0x0112] not in (0, 1)
    with pytest.raises(InputError, match="more than 8 bits"):
        read_image(HERE / "deep.avif")


def test_a_crop_is_applied_to_the_middle_of_the_avif() -> None:
    whole = bytearray((HERE / "cropped.avif").read_bytes())
    at = whole.index(b"clap")
    whole[at + 4 : at + 20] = struct.pack(">IIII", 24, 1, 16, 1)
    full, part = read_image(io.BytesIO(bytes(whole))), read_image(HERE / "cropped.avif")
    assert full.pixels.shape == (16, 24, 3)
    assert np.array_equal(part.pixels, full.pixels[4:12, 6:18])
    whole[at + 4 : at + 8] = struct.pack(">I", 13)  # 13 of 24: half a pixel
    with pytest.raises(InputError, match="no whole part"):
        read_image(io.BytesIO(bytes(whole)))
