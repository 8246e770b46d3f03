# SPDX-License-Identifier: Apache-2.0
"""Images in and out: every format and mode, 16 bits, metadata, refusals."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from polycodec.codecs.files.image.data import to_depth
from polycodec.codecs.files.image.read import (
    FORMATS,
    ImageData,
    read_image,
    write_image,
)
from polycodec.errors import InputError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
LOSSLESS = (".png", ".tif", ".ppm", ".pgm", ".pnm")
SIZES = ((1, 1), (1, 9), (23, 37))  # (H, W)


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    return tags.tobytes().removeprefix(b"Exif\0\0")


def exif_values(data: bytes | None) -> tuple[object, ...]:
    tags = Image.Exif()
    tags.load(data or b"")
    return tags.get(0x0112), tags.get(0x010F), tags.get_ifd(0x8769).get(0x9003)


def samples(shape: tuple[int, ...], bits: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    return noise.astype(np.uint16 if bits > 8 else np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, format, **options)
    out.seek(0)
    return out


def again(picture: ImageData, suffix: str, **options: object) -> ImageData:
    out = io.BytesIO()
    write_image(picture, out, suffix=suffix, **options)
    out.seek(0)
    return read_image(out)


# --- round trips -------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [1, 4, 8, 10, 12, 16])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_keep_every_sample(suffix, depth, channels, size) -> None:
    if suffix == ".pgm" and channels == 3:
        pytest.skip("refused by name, see below")
    pixels = samples((*size, channels), depth)
    got = again(ImageData(pixels, depth), suffix)
    if suffix == ".ppm":
        pixels = np.broadcast_to(pixels, (*size, 3))
    assert got.depth >= depth and got.alpha is None
    assert np.array_equal(got.pixels, to_depth(pixels, depth, got.depth))
    if suffix in (".ppm", ".pgm", ".pnm"):
        assert got.depth == depth


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_kept(suffix, bits, channels) -> None:
    if suffix == ".webp" and bits == 16:
        pytest.skip("WebP has 8 bits")
    pixels, alpha = samples((7, 9, channels), bits), samples((7, 9), bits, 1)
    got = again(ImageData(pixels, bits, alpha), suffix, quality=100)
    assert np.array_equal(got.pixels, np.broadcast_to(pixels, got.pixels.shape))
    assert np.array_equal(got.alpha, alpha) and got.alpha.dtype == alpha.dtype


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
@pytest.mark.parametrize("size", SIZES)
def test_lossy_formats_are_close_and_say_so(suffix, size) -> None:
    ramp = np.linspace(20, 220, size[0] * size[1] * 3).reshape(*size, 3)
    pixels = ramp.astype(np.uint8)
    out = io.BytesIO()
    notes = write_image(ImageData(pixels), out, suffix=suffix)
    assert len(notes) == 1 and "lossy" in notes[0] and "quality 9" in notes[0]
    got = read_image(io.BytesIO(out.getvalue()))
    assert np.abs(got.pixels.astype(int) - pixels).mean() < 3
    small = io.BytesIO()
    write_image(ImageData(pixels), small, suffix=suffix, quality=5)
    assert len(small.getvalue()) < len(out.getvalue()) or size[0] == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("deep", [False, True])
def test_metadata_is_kept_and_orientation_not_applied(suffix, deep) -> None:
    pixels = samples((8, 20, 3), 16 if deep else 8)
    picture = ImageData(pixels, 16 if deep else 8, icc=ICC, exif=exif(6), xmp=XMP)
    got = again(picture, suffix)
    assert got.pixels.shape == (8, 20, 3)
    assert got.icc == ICC and got.xmp == XMP
    assert exif_values(got.exif) == (6, "Maker", "2020:01:02 03:04:05")
    third = again(got, ".tif")  # and through another format
    assert exif_values(third.exif) == exif_values(got.exif)
    assert third.icc == ICC and third.xmp == XMP


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_is_a_tag_and_not_a_turn(orientation) -> None:
    pixels = samples((3, 5, 3), 8)
    stored = saved(Image.fromarray(pixels), "TIFF", tiffinfo={274: orientation})
    got = read_image(stored)
    assert np.array_equal(got.pixels, pixels)
    assert exif_values(got.exif)[0] == orientation


def test_exif_that_describes_another_files_bytes_does_not_break_a_tiff() -> None:
    tags = Image.Exif()
    tags[0x0100], tags[0x0101], tags[0x0111], tags[0x0112] = 9999, 8888, 7, 3
    pixels = samples((4, 6, 3), 8)
    got = again(ImageData(pixels, exif=tags.tobytes()[6:]), ".tif")
    assert np.array_equal(got.pixels, pixels)
    assert exif_values(got.exif)[0] == 3


# --- what Pillow wrote, read by us -------------------------------------------

GRAY, RGB = samples((6, 11), 8), samples((6, 11, 3), 8)
MODES = [
    ("1", Image.fromarray(GRAY).convert("1"), 1, 1, False),
    ("L", Image.fromarray(GRAY), 1, 8, False),
    ("LA", Image.fromarray(samples((6, 11, 2), 8), "LA"), 1, 8, True),
    ("P", Image.fromarray(RGB).quantize(16), 3, 8, False),
    ("RGB", Image.fromarray(RGB), 3, 8, False),
    ("RGBA", Image.fromarray(samples((6, 11, 4), 8)), 3, 8, True),
    ("I;16", Image.fromarray(samples((6, 11), 16)), 1, 16, False),
]


@pytest.mark.parametrize(("mode", "image", "channels", "depth", "alpha"), MODES)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_every_mode(format, mode, image, channels, depth, alpha) -> None:
    assert image.mode == mode
    got = read_image(saved(image, format))
    assert (got.pixels.shape, got.depth) == ((6, 11, channels), depth)
    assert (got.alpha is not None) == alpha
    if mode == "1":
        assert np.array_equal(got.pixels[..., 0], np.asarray(image).astype(np.uint8))
    elif mode == "P":
        assert np.array_equal(got.pixels, np.asarray(image.convert("RGB")))
    else:
        whole = [got.pixels] if not alpha else [got.pixels, got.alpha[..., None]]
        expected = np.asarray(image).reshape(6, 11, -1)
        assert np.array_equal(np.concatenate(whole, axis=2), expected)


def test_colour_keys_and_palettes_with_transparency_become_alpha() -> None:
    palette = Image.fromarray(RGB).quantize(8)
    keyed = read_image(saved(palette, "PNG", transparency=3))
    assert np.array_equal(keyed.alpha == 0, np.asarray(palette) == 3)
    gray = read_image(saved(Image.fromarray(GRAY), "PNG", transparency=int(GRAY[0, 0])))
    assert np.array_equal(gray.alpha == 0, GRAY[0, 0] == GRAY)
    key = tuple(int(v) for v in RGB[2, 3])
    colour = read_image(saved(Image.fromarray(RGB), "PNG", transparency=key))
    assert np.array_equal(colour.alpha == 0, (RGB[2, 3] == RGB).all(axis=2))


# --- Netpbm -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "depth", "expected"),
    [
        (b"P5 2 1 255\n\x01\x02", 8, [1, 2]),
        (b"P5\n# a comment\n2 1\n# more\n1023\n\x03\xff\x00\x01", 10, [1023, 1]),
        (b"P5 2 1 100\n\x64\x32", 7, [127, 64]),
        (b"P2 2 1 65535 65535 # end\n 7", 16, [65535, 7]),
        (b"P6 1 1 65535\n\0\1\0\2\0\3", 16, [1, 2, 3]),
        (b"P3 1 1 255 1 2 3", 8, [1, 2, 3]),
        (b"P1 3 1 1 0\n1", 1, [0, 1, 0]),
        (b"P1 3 1 101", 1, [0, 1, 0]),
        (b"P4 3 1\n\xa0", 1, [0, 1, 0]),
    ],
)
def test_netpbm(data, depth, expected) -> None:
    got = read_image(io.BytesIO(data))
    assert got.depth == depth
    assert got.pixels.ravel().tolist() == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P5 2 1 255\n\x01", "cut"),
        (b"P5 2", "cut"),
        (b"P5 2 1 100\n\x65\x01", "at most 100"),
        (b"P5 2 1 70000\n\1\1\1\1", "maximum"),
        (b"P5 2 1 0\n\1\1", "maximum"),
        (b"P5 0 1 255\n", "pixels"),
        (b"P5 99999 99999 255\n", "at most"),
        (b"P5 999999999999 1 255\n", "header"),
        (b"P2 2 1 255 1 x", "numbers"),
        (b"P2 2 1 255 1", "cut"),
        (b"P5 1 1 255\n\x01P5 1 1 255\n\x01", "several"),
        (b"Pf 1 1 -1.0\n\0\0\0\0", "float"),
        (b"P7\nWIDTH 1\n", "PAM"),
    ],
)
def test_bad_netpbm_is_refused_by_name(data, words) -> None:
    with pytest.raises(InputError, match=words):
        read_image(io.BytesIO(data))


# --- refusals -----------------------------------------------------------------


def frames() -> dict[str, object]:
    return {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}


def high_bit_avif() -> io.BytesIO:
    data = bytearray(saved(Image.fromarray(RGB), "AVIF").getvalue())
    data[data.index(b"av1C") + 6] |= 0x40  # what a 10-bit file says
    return io.BytesIO(bytes(data))


REFUSED = {
    "empty": (lambda: io.BytesIO(b""), "empty"),
    "text": (lambda: io.BytesIO(b"hello, I am a text\n" * 9), "supported kind"),
    "zeros": (lambda: io.BytesIO(bytes(1000)), "supported kind"),
    "pdf": (lambda: io.BytesIO(b"%PDF-1.4\n" + bytes(100)), "supported kind"),
    "cmyk jpeg": (lambda: saved(Image.new("CMYK", (5, 5)), "JPEG"), "CMYK"),
    "cmyk tiff": (lambda: saved(Image.new("CMYK", (5, 5)), "TIFF"), "CMYK"),
    "lab tiff": (lambda: saved(Image.new("LAB", (5, 5)), "TIFF"), "Lab"),
    "float tiff": (lambda: saved(Image.new("F", (5, 5)), "TIFF"), "float"),
    "32-bit tiff": (lambda: saved(Image.new("I", (5, 5)), "TIFF"), "of 32 bits"),
    "gif": (lambda: saved(Image.fromarray(RGB), "GIF", **frames()), "animation"),
    "apng": (lambda: saved(Image.fromarray(RGB), "PNG", **frames()), "animation"),
    "webp": (lambda: saved(Image.fromarray(RGB), "WEBP", **frames()), "animation"),
    "tiff": (lambda: saved(Image.fromarray(RGB), "TIFF", **frames()), "multi-page"),
    "avif": (lambda: saved(Image.fromarray(RGB), "AVIF", **frames()), "animation"),
    "10-bit avif": (high_bit_avif, "more than 8 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name) -> None:
    make, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        read_image(make())


def test_png_of_no_width_or_too_many_pixels_is_refused_before_decoding() -> None:
    for width, height, words in ((0, 5, "read"), (60_000, 60_000, "at most")):
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n"
        for name, body in ((b"IHDR", head), (b"IDAT", b"x"), (b"IEND", b"")):
            crc = zlib.crc32(name + body)
            data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)
        with pytest.raises(InputError, match=words):
            read_image(io.BytesIO(data))
    with pytest.raises(InputError, match="expected at most 65"):
        read_image(saved(Image.fromarray(GRAY), "PNG"), max_pixels=65)
    assert read_image(saved(Image.fromarray(GRAY), "PNG"), max_pixels=66).width == 11


def test_pillows_own_limit_is_lifted_and_restored(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for format in ("PNG", "TIFF"):
        stored = saved(Image.fromarray(RGB), format)
        assert np.array_equal(read_image(stored).pixels, RGB)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [s for s in FORMATS if s not in (".pgm", ".pnm")])
def test_cut_files_are_input_errors_wherever_they_are_cut(suffix, deep) -> None:
    out = io.BytesIO()
    picture = ImageData(samples((20, 30, 3), 16 if deep else 8), 16 if deep else 8)
    write_image(picture, out, suffix=suffix)
    data = out.getvalue()
    cuts = {
        *range(0, len(data), 1 + len(data) // 60),
        *range(len(data) - 25, len(data)),
    }
    for size in sorted(cuts):
        with pytest.raises(InputError):
            read_image(io.BytesIO(data[:size]))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".ppm"])
def test_damaged_files_give_pixels_or_an_input_error(suffix) -> None:
    out = io.BytesIO()
    write_image(
        ImageData(samples((9, 12, 3), 8), icc=ICC, exif=exif()), out, suffix=suffix
    )
    data, noise = out.getvalue(), np.random.default_rng(1)
    for _ in range(120):
        bad = bytearray(data)
        for at in noise.integers(0, len(bad), 3):
            bad[at] = noise.integers(0, 256)
        try:
            assert read_image(io.BytesIO(bytes(bad))).pixels.ndim == 3
        except InputError as error:
            assert str(error).startswith("cannot read")


def test_missing_and_unreadable_files_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*nope\.png; No such file"):
        read_image(tmp_path / "nope.png")
    with pytest.raises(InputError, match="cannot read"):
        read_image(tmp_path)


def test_a_pipe_will_do() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stored = saved(Image.fromarray(RGB), "PNG").getvalue()
    assert np.array_equal(read_image(Pipe(stored)).pixels, RGB)
    for suffix in FORMATS:
        out, file = Pipe(), io.BytesIO()
        picture = ImageData(RGB[..., :1] if suffix == ".pgm" else RGB)
        write_image(picture, out, suffix=suffix)
        write_image(picture, file, suffix=suffix)
        assert out.getvalue() == file.getvalue()


# --- what a target cannot hold --------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".ppm"])
def test_alpha_is_not_dropped_silently(suffix) -> None:
    with pytest.raises(InputError, match="no alpha"):
        write_image(ImageData(RGB, alpha=GRAY), io.BytesIO(), suffix=suffix)


def test_losses_of_metadata_and_precision_are_said() -> None:
    picture = ImageData(samples((4, 4, 3), 16), 16, icc=ICC, exif=exif(), xmp=XMP)
    notes = write_image(picture, io.BytesIO(), suffix=".ppm")
    assert notes == ["PPM: left out icc, exif, xmp, which it cannot hold"]
    notes = write_image(picture, io.BytesIO(), suffix=".jpg")
    assert any("rounded to 8 bits" in note for note in notes)
    assert write_image(picture, io.BytesIO(), suffix=".png") == []


def test_other_refusals_of_the_writer(tmp_path) -> None:
    wide = ImageData(np.zeros((1, 16384, 3), np.uint8))
    for picture, suffix, words in (
        (wide, ".webp", "at most 16383"),
        (ImageData(RGB), ".pgm", "gray only"),
        (ImageData(RGB), ".xyz", "cannot write images as"),
        (ImageData(RGB), "", "cannot write images as"),
    ):
        with pytest.raises(InputError, match=words):
            write_image(picture, tmp_path / f"x{suffix}")
    with pytest.raises(InputError, match=r"expected 0\.\.100"):
        write_image(ImageData(RGB), tmp_path / "x.jpg", quality=101)
    assert os.listdir(tmp_path) == []


def test_depths_scale_end_to_end() -> None:
    for depth in range(1, 17):
        ends = np.array([0, (1 << depth) - 1], np.uint16)
        for wanted in (8, 16):
            assert to_depth(ends, depth, wanted).tolist() == [0, (1 << wanted) - 1]
            every = np.arange(1 << depth, dtype=np.uint16)
            if wanted >= depth:
                back = to_depth(to_depth(every, depth, wanted), wanted, depth)
                assert np.array_equal(back, every)
