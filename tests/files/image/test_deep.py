# SPDX-License-Identifier: Apache-2.0
"""16-bit PNG and TIFF against their specifications and another library."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from polycodec.codecs.files.image.formats.deep import write_png16
from polycodec.codecs.files.image.read import ImageData, read_image, write_image

SIZES = ((1, 1), (1, 9), (23, 37))  # (H, W)


def samples(shape: tuple[int, ...], bits: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    return noise.astype(np.uint16 if bits > 8 else np.uint8)


def paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def predicted(kind: int, a: int, b: int, c: int) -> int:
    """The prediction of PNG filter ``kind`` from left, above and above left."""
    return (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]


def png(pixels: np.ndarray, interlace: bool, extra: bytes = b"") -> io.BytesIO:
    """Write a 16-bit PNG byte by byte, all filters in turn, straight from the text."""
    height, width, channels = pixels.shape
    step, body = 2 * channels, bytearray()
    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
    adam7 += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    for top, left, down, right in adam7 if interlace else [(0, 0, 1, 1)]:
        part = pixels[top::down, left::right].astype(">u2")
        above = bytes(part.shape[1] * step)
        for y in range(part.shape[0] if part.size else 0):
            row = part[y].tobytes()
            body.append(y % 5)
            for k, value in enumerate(row):
                a = row[k - step] if k >= step else 0
                c = above[k - step] if k >= step else 0
                body.append(value - predicted(y % 5, a, above[k], c) & 255)
            above = row
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlace)
    parts = [(b"IHDR", head), (b"tRNS", extra), (b"IDAT", zlib.compress(bytes(body)))]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in [*parts, (b"IEND", b"")]:
        if data or name == b"IEND":
            crc = zlib.crc32(name + data)
            out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)
    return io.BytesIO(out)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_16_bit_png_is_read_in_full(size, channels, interlace) -> None:
    pixels = samples((*size, channels), 16)
    got = read_image(png(pixels, interlace))
    whole = got.pixels
    if channels in (2, 4):
        whole = np.concatenate([whole, got.alpha[..., None]], axis=2)
    assert got.depth == 16 and np.array_equal(whole, pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_colour_key_becomes_alpha(channels) -> None:
    pixels = samples((5, 7, channels), 16)
    key = pixels[2, 3]
    got = read_image(png(pixels, False, key.astype(">u2").tobytes()))
    assert np.array_equal(got.pixels, pixels)
    assert np.array_equal(got.alpha == 0, (pixels == key).all(axis=2))
    assert set(np.unique(got.alpha)) == {0, 65535}


def unfiltered(data: bytes, height: int, row: int, step: int) -> bytes:
    """Undo PNG's filters byte by byte."""
    out, above, at = b"", bytes(row), 0
    for _ in range(height):
        kind, line, at = data[at], bytearray(data[at + 1 : at + 1 + row]), at + 1 + row
        for k in range(row):
            a = line[k - step] if k >= step else 0
            c = above[k - step] if k >= step else 0
            line[k] = line[k] + predicted(kind, a, above[k], c) & 255
        above = bytes(line)
        out += above
    return out


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_written_to_its_specification(channels) -> None:
    slope = np.arange(70)[:, None, None] * 300 + np.arange(9)[:, None] * 700
    noise = samples((70, 9, channels), 6)
    pixels = (slope + noise).astype(np.uint16)  # smooth: several filters get used
    out = io.BytesIO()
    write_png16(out, pixels)
    data, at, body = out.getvalue(), 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == (
            zlib.crc32(name + chunk)
        )
        body += chunk if name == b"IDAT" else b""
        at += 12 + length
    raw, row = zlib.decompress(body), 18 * channels
    assert len({raw[k * (row + 1)] for k in range(70)}) > 1
    got = np.frombuffer(unfiltered(raw, 70, row, 2 * channels), ">u2")
    assert np.array_equal(got.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_another_library_both_ways(compression, channels, order) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = samples((9, 14, channels), 16)
    out = io.BytesIO()
    kind = "minisblack" if channels == 1 else "rgb"
    options = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    squeezed = pixels[..., 0] if channels == 1 else pixels
    tifffile.imwrite(
        out,
        squeezed,
        byteorder=order,
        photometric=kind,
        compression=compression,
        planarconfig="contig" if channels > 1 else None,
        **options,
    )
    got = read_image(io.BytesIO(out.getvalue()))
    assert got.depth == 16
    assert np.array_equal(got.pixels, pixels[..., : 3 if channels > 1 else 1])
    if channels == 4:
        assert np.array_equal(got.alpha, pixels[..., 3])
    ours = io.BytesIO()
    write_image(ImageData(got.pixels, 16, got.alpha), ours, suffix=".tif")
    ours.seek(0)
    assert np.array_equal(np.squeeze(tifffile.imread(ours)), np.squeeze(squeezed))
