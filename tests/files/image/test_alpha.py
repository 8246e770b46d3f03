# SPDX-License-Identifier: Apache-2.0
"""The alpha plane: without loss, small, bounded when read."""

from __future__ import annotations

import io
import lzma
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import Reader, Record, write_plc
from polycodec.codecs.files.image import alpha as alpha_module
from polycodec.codecs.files.image import encode as encode_module
from polycodec.codecs.files.image.alpha import decode_alpha, encode_alpha
from polycodec.codecs.stored import load_codec
from polycodec.errors import BitstreamError, DeterminismError


def soft_disc(bits: int = 8) -> np.ndarray:
    y, x = np.mgrid[:96, :128]
    peak = (1 << bits) - 1
    edge = np.clip((40 - np.hypot(x - 64, y - 48)) * peak / 9, 0, peak)
    return edge.astype(np.uint16 if bits > 8 else np.uint8)


PLANES = {
    "opaque": np.full((700, 900), 255, np.uint8),
    "opaque 16": np.full((70, 90), 65535, np.uint16),
    "constant 16": np.full((70, 90), 12345, np.uint16),
    "1x1": np.array([[7]], np.uint8),
    "1x1 16": np.array([[777]], np.uint16),
    "1x2": np.array([[7, 9]], np.uint8),
    "mask": (soft_disc() > 100).astype(np.uint8) * 255,
    "soft": soft_disc(),
    "soft 16": soft_disc(16),
    "soft 8 in 16": soft_disc().astype(np.uint16) * 257,
    "noise": np.random.default_rng(0).integers(0, 256, (50, 60)).astype(np.uint8),
}
# Measured with Pillow 13.0 (libwebp 1.6) and rounded up by a tenth; raw: 12,288.
MOST = {"opaque": 2, "opaque 16": 3, "constant 16": 7, "mask": 350, "soft": 1700}


@pytest.mark.parametrize("name", PLANES)
def test_planes_come_back_and_are_small(name) -> None:
    plane = PLANES[name]
    data = encode_alpha(plane)
    got = decode_alpha(data, plane.shape[1], plane.shape[0])
    assert got.dtype == plane.dtype and np.array_equal(got, plane)
    assert len(data) <= plane.nbytes + 16
    assert len(data) <= MOST.get(name, len(data))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([2, 256, 65536]), st.data()
)
def test_any_plane_comes_back(height, width, levels, data) -> None:
    seed = data.draw(st.integers(0, 1 << 32))
    kind = np.uint16 if levels > 256 else np.uint8
    plane = (
        np.random.default_rng(seed).integers(0, levels, (height, width)).astype(kind)
    )
    if levels == 2:
        plane *= np.uint8(255)
    got = decode_alpha(encode_alpha(plane), width, height)
    assert got.dtype == kind and np.array_equal(got, plane)


@pytest.mark.parametrize("form", ["_png", "_webp", "_lzma"])
def test_every_form_is_read(form) -> None:
    number = getattr(alpha_module, form.upper())
    for plane in (PLANES["soft"], PLANES["mask"]):
        data = bytes([number]) + getattr(alpha_module, form)(plane)
        assert np.array_equal(decode_alpha(data, 128, 96), plane)


@pytest.mark.parametrize("name", ["opaque", "mask", "soft", "soft 16", "noise"])
def test_damage_gives_a_plane_or_a_named_error(name) -> None:
    """The container's CRC finds damage; here nothing may crash or grow."""
    plane = PLANES[name]
    height, width = plane.shape
    good, noise = encode_alpha(plane), np.random.default_rng(1)
    for size in range(0, len(good), 1 + len(good) // 80):
        with pytest.raises(BitstreamError):
            decode_alpha(good[:size], width, height)
    for _ in range(80):
        bad = bytearray(good)
        bad[noise.integers(0, len(bad))] ^= 1 << noise.integers(0, 8)
        try:
            assert decode_alpha(bytes(bad), width, height).shape == (height, width)
        except BitstreamError as error:
            assert "alpha plane is damaged" in str(error)


@pytest.mark.parametrize("form", ["_png", "_webp", "_lzma"])
def test_a_plane_of_another_size_is_refused(form) -> None:
    number = getattr(alpha_module, form.upper())
    data = bytes([number]) + getattr(alpha_module, form)(PLANES["soft"])
    for width, height in ((128, 95), (127, 96), (1, 1), (1 << 14, 1 << 14)):
        with pytest.raises(BitstreamError, match="expected"):
            decode_alpha(data, width, height)


def test_other_image_formats_are_not_run() -> None:
    out = io.BytesIO()
    Image.fromarray(PLANES["soft"]).save(out, "TIFF")
    with pytest.raises(BitstreamError):
        decode_alpha(b"\x01" + out.getvalue(), 128, 96)


def test_an_lzma_bomb_stops_at_the_plane() -> None:
    filters = alpha_module._FILTERS
    bomb = lzma.compress(bytes(1 << 22), lzma.FORMAT_RAW, filters=filters)
    with pytest.raises(BitstreamError, match="expected 12 bytes, found 13"):
        decode_alpha(b"\x03" + bomb, 4, 3)


@pytest.mark.parametrize(
    "data", [b"", b"\x06", b"\x00", b"\x00ab", b"\x04", b"\x05\x01"]
)
def test_malformed_streams(data) -> None:
    with pytest.raises(BitstreamError, match="alpha plane is damaged"):
        decode_alpha(data, 2, 2)


@pytest.fixture
def translucent(tiny_checkpoint):
    """A codec and a picture with alpha, as PNG."""
    out = io.BytesIO()
    Image.fromarray(np.dstack([PLANES["soft"]] * 4)).save(out, "PNG")
    return load_codec(tiny_checkpoint), out.getvalue()


def rewritten(data: bytes, alpha: bytes | None) -> bytes:
    """The file with another alpha record, or none; all checksums are right."""
    reader, out = Reader(io.BytesIO(data)), io.BytesIO()
    kept = [] if alpha is None else [Record("alpha", alpha)]
    header = replace(reader.header, records=tuple(kept))
    write_plc(out, header, [reader.chunk(k) for k in range(reader.n_chunks)])
    return out.getvalue()


@pytest.mark.parametrize("alpha", ["lossless", "codec"])
def test_another_alpha_plane_under_good_checksums_is_named(translucent, alpha) -> None:
    codec, png = translucent
    data = api.encode(png, codec=codec, alpha=alpha, tile=64).data
    own = Reader(io.BytesIO(data)).header.record("alpha")
    assert rewritten(data, own) == data
    decoded = Image.open(io.BytesIO(api.decode(data, codec=codec).data))
    assert decoded.mode == "RGBA"
    for other in (encode_alpha(PLANES["soft"] // 2), None):
        with pytest.raises(DeterminismError):
            api.decode(rewritten(data, other), codec=codec)
        with pytest.raises(DeterminismError):
            api.decode(rewritten(data, other), codec=codec, region=(100, 9, 8, 8))


def test_files_whose_alpha_was_not_sealed_decode(translucent, monkeypatch) -> None:
    codec, png = translucent
    today = api.encode(png, codec=codec, tile=64).data
    monkeypatch.setattr(encode_module, "seal_of", lambda data: b"")
    before = api.encode(png, codec=codec, tile=64).data
    assert len(before) == len(today) and before != today
    files = [api.decode(data, codec=codec).data for data in (before, today)]
    assert files[0] == files[1]
