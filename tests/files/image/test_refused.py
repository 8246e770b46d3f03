# SPDX-License-Identifier: Apache-2.0
"""What is not kept is said, and what cannot be read is refused by name."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from pictures import (
    GAIN,
    GIF,
    HERE,
    ICC,
    JPEG,
    PIXELS,
    PNG,
    RNG,
    WEBP,
    blocks,
    chunk,
    gif,
    jpeg,
    png,
    saved,
    webp,
)
from PIL import Image

from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.read import read_image, write_image
from polycodec.errors import InputError

ALPHA = saved("AVIF", np.dstack([PIXELS, PIXELS[..., :1]]))
MAKER = Image.Exif()
MAKER[0x010F] = "Maker"
MADE = saved("AVIF", exif=MAKER)
BMP5 = (HERE / "profile.bmp").read_bytes()
EXTENDED = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8) + b"e" * 9
THUMBNAIL = saved("JPEG", PIXELS[:8])


def saved_palette(colours: int) -> bytes:
    """A PNG of 32 colours, the first ``colours`` of which are in its palette."""
    out = io.BytesIO()
    Image.fromarray(PIXELS).quantize(32).save(out, "PNG")
    data = out.getvalue()
    at = data.index(b"PLTE") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    whole = chunk(b"PLTE", data[at + 8 : at + 8 + 3 * colours]) if colours else b""
    return data[:at] + whole + data[at + 12 + size :]


NOTED = {
    "png bKGD": (png(chunk(b"bKGD", bytes(6))), "chunks of the PNG: bKGD"),
    "png private": (
        png(chunk(b"vpAg", bytes(9)), chunk(b"oFFs", bytes(9)), behind=True),
        "vpAg, oFFs",
    ),
    "png tRNS too late": (
        png(chunk(b"tRNS", bytes(6)), behind=True),
        "tRNS chunk behind the pixels",
    ),
    "png palette too short": (
        saved_palette(31),
        "pixels are of no colour of its palette",
    ),
    "avif box": (ALPHA + struct.pack(">I4s", 12, b"zzzz") + bytes(4), "zzzz box"),
    "avif sequence": (
        ALPHA + struct.pack(">I4s", 12, b"moov") + bytes(4),
        "image sequence",
    ),
    "plain ppm": (b"P2 2 1 9\n1 2 3", "numbers behind the samples"),
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
    "png without palette": (saved_palette(0), "no palette"),
    "a .plc file": (b"\x93PLC" + bytes(99), "encoded already; decode it first"),
    "bmp cut in its header": (saved("BMP")[:30], "cut in its header"),
    "webp chunk beyond the end": (
        WEBP[:4] + struct.pack("<I", len(WEBP) - 28) + WEBP[8:-20],
        "WebP is cut in its VP8L chunk",
    ),
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


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_clear_gray_of_a_png_is_clear_at_every_depth(depth) -> None:
    peak = (1 << depth) - 1
    values = np.arange(8) * peak // 7
    bits = (values[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    row = b"\0" + np.packbits(bits).tobytes()
    header = struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", int(values[3])))]
    parts += [(b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    image = read_image(io.BytesIO(PNG[:8] + b"".join(chunk(*p) for p in parts)))
    assert ((image.alpha == 0) == (values == values[3])).all()
