# SPDX-License-Identifier: Apache-2.0
"""What stands beside pixels: equal, noted or refused by name, never lost in silence.

`fixtures/` was made by avifenc 0.11.1, exiftool 12.57 and ImageMagick 6.9.11 of Debian
12, `FIXTURES` says what they put in; other inputs are made here, byte by byte from the
formats' texts or by tifffile. A cell of the matrix is one thing in one format. All
cells go through the records of a ``.plc`` file and back into a PNG.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from polycodec.codecs.files.container.file import (
    Header,
    ImageGeometry,
    Reader,
    write_plc,
)
from polycodec.codecs.files.image.data import Beside, Density, ImageData
from polycodec.codecs.files.image.read import read_image, write_image
from polycodec.codecs.files.image.records import beside_of, records_of
from polycodec.errors import InputError

HERE = Path(__file__).parent / "fixtures"
FIELDS = ("icc", "exif", "xmp", "iptc", "text", "density", "chunks")
RNG = np.random.default_rng(3)
PIXELS = (np.mgrid[:16, :24].sum(0)[..., None] * [5, 3, 6] + 20).astype(np.uint8)
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
GAIN = XMP + b"<!-- hdrgm:Version='1.0' -->"
IRB = b"8BIM\x04\x04\0\0\0\0\0\x10\x1c\x02\x78\0\x0bA caption!."
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def saved(format: str, image: np.ndarray = PIXELS, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


PNG, JPEG = saved("PNG"), saved("JPEG", quality=95)
GIF, WEBP, BMP = saved("GIF"), saved("WEBP", lossless=True), saved("BMP")
ICC = Image.open(HERE / "strips.tif").info["icc_profile"]


def png(*chunks: bytes, behind: bool = False) -> bytes:
    at = len(PNG) - 12 if behind else 33
    return PNG[:at] + b"".join(chunks) + PNG[at:]


def jpeg(*segments: tuple[int, bytes], tail: bytes = b"") -> bytes:
    parts = [
        bytes([255, kind]) + struct.pack(">H", len(body) + 2) + body
        for kind, body in segments
    ]
    return JPEG[:2] + b"".join(parts) + JPEG[2:] + tail


def webp(name: bytes, body: bytes) -> bytes:
    more = name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    size = struct.pack("<I", len(WEBP) - 8 + len(more))
    return WEBP[:4] + size + WEBP[8:] + more


def gif(*extensions: bytes) -> bytes:
    at = 13 + (6 << (GIF[10] & 7))
    return GIF[:at] + b"".join(extensions) + GIF[at:]


def blocks(kind: int, *parts: bytes) -> bytes:
    return bytes([0x21, kind]) + b"".join(bytes([len(p)]) + p for p in parts) + b"\0"


def again_of(out: io.BytesIO) -> ImageData:
    return read_image(io.BytesIO(out.getvalue()))


def through_plc(image: ImageData) -> tuple[Beside, list[str]]:
    """What a file of ours hands on, and its warnings."""
    geometry = ImageGeometry(image.width, image.height, image.depth, image.colour)
    records = records_of(image)
    header = Header("image/default", bytes(4), "image", geometry, records=records)
    out = io.BytesIO()
    write_plc(out, header, [b""])
    reader = Reader(out)
    return Beside(**beside_of(reader)), reader.warnings


# --- what is kept: it comes back equal ------------------------------------------------

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


# --- what other programs wrote --------------------------------------------------------

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


# --- what is not kept is said ---------------------------------------------------------

ALPHA = saved("AVIF", np.dstack([PIXELS, PIXELS[..., :1]]))
MAKER = Image.Exif()
MAKER[0x010F] = "Maker"
MADE = saved("AVIF", exif=MAKER)
BMP5 = (HERE / "profile.bmp").read_bytes()
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"e" * 9
THUMBNAIL = saved("JPEG", PIXELS[:8])
NOTED = {
    "png bKGD": (png(chunk(b"bKGD", bytes(6))), "chunks of the PNG: bKGD"),
    "png private": (
        png(chunk(b"vpAg", bytes(9)), chunk(b"oFFs", bytes(9)), behind=True),
        "vpAg, oFFs",
    ),
    "png sBIT": (png(chunk(b"sBIT", b"\5\6\5")), "sBIT"),
    "png iCCP that does not inflate": (
        png(chunk(b"iCCP", b"bad\0\0not zlib data")),
        "damaged iCCP",
    ),
    "png text of a wrong CRC": (
        png(chunk(b"tEXt", b"Title\0x")[:-1] + b"!"),
        "damaged tEXt",
    ),
    "png text in a language": (
        png(chunk(b"iTXt", b"Title\0\0\0de\0Titel\0x")),
        "language",
    ),
    "png other raw profile": (
        png(chunk(b"tEXt", b"Raw profile type foo\0\nfoo\n 2\nabcd\n")),
        "of type foo",
    ),
    "png with a tail": (PNG + b"more", "4 bytes behind the end"),
    "jpeg extended XMP": (jpeg((0xE1, EXTENDED)), "extended XMP"),
    "jpeg gain map": (
        jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + GAIN), tail=THUMBNAIL),
        "gain map.*XMP still announces",
    ),
    "jpeg ISO gain map": (
        jpeg((0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), tail=THUMBNAIL),
        "gain map",
    ),
    "jpeg motion photo": (
        jpeg(tail=b"\0\0\0\x18ftypmp42" + bytes(99)),
        "video of the motion photo",
    ),
    "jpeg further images": (jpeg(tail=THUMBNAIL), "further images"),
    "jpeg tail": (jpeg(tail=b"something"), "9 bytes behind the end"),
    "jpeg thumbnail": (jpeg((0xE0, b"JFXX\0\x10" + THUMBNAIL)), "thumbnail"),
    "jpeg credentials": (jpeg((0xEB, b"JP\0\1\0\0\0\0jumb")), "content credentials"),
    "jpeg thermal": (jpeg((0xE1, b"FLIR\0\1\0\0")), "APP1 FLIR"),
    "jpeg ICC without its end": (
        jpeg((0xE2, b"ICC_PROFILE\0\1\2" + ICC)),
        "incomplete ICC",
    ),
    "webp chunk": (webp(b"abcd", b"123"), "abcd"),
    "webp tail": (WEBP + b"more", "4 bytes behind"),
    "avif depth map": (
        ALPHA.replace(b"auxiliary:alpha", b"auxiliary:depth"),
        "plane beside the AVIF's image .depth",
    ),
    "avif gain map": (MADE.replace(b"Exif", b"tmap"), "gain map .HDR. of the AVIF"),
    "avif thumbnail": (ALPHA.replace(b"auxl", b"thmb"), "the AVIF's thumbnail"),
    "bmp calibrated": (BMP5.replace(b"DEBM", bytes(4)), "calibrated colours"),
    "bmp linked profile": (BMP5.replace(b"DEBM", b"KNIL"), "in another file"),
    "gif application": (gif(blocks(0xFF, b"SOMETHING10", b"x")), "SOMETHING10"),
    "gif text": (gif(blocks(0x01, bytes(12), b"hi")), "plain text"),
    "gif tail": (GIF + b"more", "4 bytes behind"),
    "ppm tail": (b"P5 1 1 255\n\1more", "4 bytes behind"),
}


def test_many_or_large_texts_are_bounded_together() -> None:
    bomb = chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(20 << 20), 9))
    image = read_image(io.BytesIO(png(*[bomb] * 6)))
    assert [len(value) for _, value in image.text] == [20 << 20] * 3
    assert image.notes == ["not kept: the damaged zTXt chunk of the PNG"]
    names = [b"%c%c%cx" % (97 + k // 26, 97 + k % 26, 65) for k in range(600)]
    image = read_image(io.BytesIO(png(*(chunk(name, b"") for name in names))))
    assert len(image.notes) == 1 and "and 592 more" in image.notes[0]
    texts = [(f"key {k}\x1b[2J", "x") for k in range(50)]
    notes = write_image(ImageData(PIXELS, text=texts), io.BytesIO(), suffix=".jpg")
    assert "and 42 more" in notes[-1] and "\x1b" not in notes[-1]


@pytest.mark.parametrize("name", NOTED)
def test_what_is_not_kept_is_noted_and_pixels_are(name) -> None:
    data, words = NOTED[name]
    image = read_image(io.BytesIO(data))
    assert len(image.notes) == 1 and re.search(words, image.notes[0])
    assert image.pixels.size


def test_damaged_exif_of_an_avif_does_not_stop_its_pixels() -> None:
    data = MADE
    assert read_image(io.BytesIO(data)).notes == []
    at = data.rindex(b"MM\0*")
    image = read_image(io.BytesIO(data[:at] + b"XX\0*" + data[at + 4 :]))
    assert image.notes == ["not kept: the damaged EXIF of the AVIF"]
    assert image.pixels.shape == PIXELS.shape


# --- what cannot be read is refused by name -------------------------------------------


def damaged_jpeg(**options: object) -> bytes:
    noise = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = saved("JPEG", noise, quality=90, **options)
    scan = data.rindex(b"\xff\xda") + 14
    return data[: (scan + len(data)) // 2] + b"\xff\xd9"


REFUSED = {
    "jpeg cut and closed": (damaged_jpeg(), "damaged; its decoder says: premature end"),
    "jpeg, progressive": (damaged_jpeg(progressive=True), "damaged"),
    "jpeg, restarts": (damaged_jpeg(restart_marker_rows=1), "damaged"),
    "jpeg of 12 bits": (
        JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        "samples of 12 bits",
    ),
    "jpeg, lossless": (JPEG.replace(b"\xff\xc0\0\x11", b"\xff\xc3\0\x11"), "lossless"),
    "png without IEND": (PNG[:-12], "cut; expected an IEND chunk at"),
    "png cut in a chunk": (PNG[:-20], "cut in its IDAT chunk"),
    "png of a wrong IDAT": (PNG[:-17] + b"!" + PNG[-16:], "the CRC of IDAT differs"),
    "png of Apple": (png(chunk(b"CgBI", bytes(4))), "needs its CgBI chunk"),
    "webp cut": (WEBP[:-9], "WebP is cut"),
    "gif cut": (GIF[:-3], "cannot read"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "this is HEIC"),
    "jpeg xl": (b"\xff\x0a" + bytes(99), "this is JPEG XL"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "this is JPEG 2000"),
    "photoshop": (b"8BPS\0\1" + bytes(99), "this is Photoshop"),
    "sound": (b"wvpk" + bytes(99), "this is WavPack"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this is SVG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name) -> None:
    data, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        read_image(io.BytesIO(data))


def test_565_bitmap_is_8_bits() -> None:
    head = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66)
    head += struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    head += struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    image = read_image(io.BytesIO(head + struct.pack("<HH", 0xF800, 0x07E0)))
    assert image.pixels.tolist() == [[[255, 0, 0], [0, 255, 0]]] and image.depth == 8


# --- TIFF, by another library ---------------------------------------------------------

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


# --- into every format: equal, or named in a note -------------------------------------

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


def equal(field: str, found: object, wanted: object, again: ImageData) -> bool:
    if field == "density" and found and found.unit != wanted.unit:
        inch = {"inch": 1, "metre": 0.0254, "cm": 2.54}
        a, b = ([v * inch[d.unit] for v in d[:2]] for d in (found, wanted))
        return np.allclose(a, b, atol=0.02)
    if field == "exif" and found != wanted and found:  # TIFF writes it anew
        values = []
        for data in (found, wanted):
            tags = Image.Exif()
            tags.load(data)
            values.append(dict(tags))
        return values[0] == values[1]
    if field == "xmp" and wanted.startswith(b"\xff\xfe"):
        return found in (wanted, wanted.decode("utf-16").encode())
    if field == "text" and not found:  # TIFF has a tag for it
        return b"x" * 1000 in (again.exif or b"")
    return found == wanted


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
