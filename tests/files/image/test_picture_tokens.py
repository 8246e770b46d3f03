# SPDX-License-Identifier: Apache-2.0
"""Token files of images: pictures to arrays and back, tiles, levels, hostile ones."""

from __future__ import annotations

import functools
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_parts import cascade, section

import polycodec
from polycodec.codecs.files.tokens.convert import convert
from polycodec.codecs.files.tokens.file import ImageTokens, read_tokens, write_tokens
from polycodec.errors import InputError, ModelError
from polycodec.registry import build

TILED = {
    "signal": "image",
    "channels": 12,
    "transform": section("transform", "conv"),
    "quantizer": {"name": "residual", "levels": 3, "codes": 16},
    "entropy": {"name": "tokens-static"},
}
CASCADE = {k: v for k, v in cascade().items() if k != "name"}
BOTH = pytest.mark.parametrize("config", [TILED, CASCADE], ids=["tiled", "cascade"])


@functools.lru_cache(maxsize=2)
def made_of(config: str):
    torch.manual_seed(0)
    codec = build("codec/token", **json.loads(config))
    codec.freeze(lambda codec: None)
    codec.name, codec.digest = "image/test", b"test"
    return codec


def made(config: dict):
    return made_of(json.dumps(config))


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 131, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@BOTH
def test_tokens_are_those_of_the_file_and_come_back(config, picture, tmp_path):
    codec = made(config)
    polycodec.encode(picture, tmp_path / "a.plc", codec=codec, quality=100)
    tokens = polycodec.tokens(picture, tmp_path / "t.npz", codec=codec)
    stored = polycodec.tokens(tmp_path / "a.plc", codec=codec)
    assert isinstance(tokens, ImageTokens) and np.array_equal(
        tokens.codes, stored.codes
    )
    rows, columns = codec.grid((150, 131))
    assert tokens.codes.shape == (len(codec.sizes), rows, columns)
    polycodec.tokens(tmp_path / "t.npz", tmp_path / "b.plc", codec=codec)
    assert (tmp_path / "a.plc").read_bytes() == (tmp_path / "b.plc").read_bytes()
    polycodec.decode(tmp_path / "a.plc", tmp_path / "a.png", codec=codec)
    polycodec.tokens(tmp_path / "t.npz", tmp_path / "b.png", codec=codec)
    a, b = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    assert np.array_equal(np.array(a), np.array(b))


def test_tiles_and_levels_are_kept(picture, tmp_path):
    codec = made(TILED)
    options = {"quality": 50, "codec": codec}
    polycodec.encode(picture, tmp_path / "a.plc", tile=64, **options)
    tokens = polycodec.tokens(tmp_path / "a.plc", codec=codec)
    assert tokens.codes.shape[0] == 2 and tokens.tile == 64
    polycodec.tokens(tokens, tmp_path / "b.plc", codec=codec)
    assert (tmp_path / "a.plc").read_bytes() == (tmp_path / "b.plc").read_bytes()
    whole = polycodec.tokens(picture, **options)
    assert np.array_equal(whole.codes, tokens.codes)


def test_gray_of_16_bits_is_kept_and_alpha_said_to_be_lost(tmp_path):
    codec = made(TILED)
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 17), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    tokens = polycodec.tokens(tmp_path / "deep.png", codec=codec)
    assert (tokens.depth, tokens.colour) == (16, "gray")
    polycodec.tokens(tokens, tmp_path / "back.png", codec=codec)
    assert np.array(Image.open(tmp_path / "back.png")).shape == (9, 17)
    Image.new("RGBA", (20, 20), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    finest = {"codec": codec, "quality": 100}
    polycodec.encode(tmp_path / "alpha.png", tmp_path / "alpha.plc", **finest)
    for name in ("alpha.png", "alpha.plc"):
        result = convert(tmp_path / name, tmp_path / f"{name}.npz", codec=codec)
        assert "alpha are not kept" in " ".join(result.notes)
        assert "3 x 2 x 2 tokens of 20x20" in result.line()


def test_arrays_are_checked_in_python_too(picture, tmp_path):
    codec = made(TILED)
    tokens = polycodec.tokens(picture, codec=codec)
    floats = tokens.codes.astype(float)
    for codes in (floats, floats * np.nan, tokens.codes.tolist(), tokens.codes + 16):
        tokens.codes = codes
        with pytest.raises(InputError, match=r"expected (an array|0 to 15)"):
            polycodec.tokens(tokens, tmp_path / "a.png", codec=codec)


def test_metadata_is_said_to_be_lost(picture, tmp_path):
    codec, exif = made(TILED), Image.Exif()
    exif[274] = 6
    Image.open(picture).save(tmp_path / "turned.png", exif=exif.tobytes())
    for name, notes in (("in.png", 0), ("turned.png", 1)):
        result = convert(tmp_path / name, tmp_path / "t.npz", codec=codec, force=True)
        assert len(result.notes) == notes


def test_other_books_are_named(picture, tmp_path):
    tokens = polycodec.tokens(picture, codec=made(CASCADE))
    with pytest.raises(ModelError, match="tokens are of 42 codebooks"):
        polycodec.tokens(tokens, tmp_path / "a.png", codec=made(TILED))
    tokens.tile = 64
    with pytest.raises(InputError, match="has no tiles; expected 0"):
        polycodec.tokens(tokens, tmp_path / "a.plc", codec=made(CASCADE))
    tokens.tile = 0
    fewer = made(CASCADE)
    tokens.codes = tokens.codes[:3]
    with pytest.raises(InputError, match="3 planes; this codebook has rates of 42"):
        polycodec.tokens(tokens, tmp_path / "a.plc", codec=fewer)


def test_hostile_fields_are_named(picture):
    tokens = polycodec.tokens(picture, codec=made(TILED))
    cases = {
        "width": {"width": 300},
        "size": {"height": 1 << 20, "width": 1 << 20},
        "stride": {"stride": 0},
        "tile": {"tile": 7},
        "depth": {"depth": 40},
        "colour": {"colour": "cmyk"},
        "a code .* -1 in plane \\d, expected 0 to 15": {"codes": tokens.codes - 1},
        "planes": {"codes": np.concatenate([tokens.codes] * 2)},
        "kind": {"kind": "music"},
    }
    for word, changed in cases.items():
        file = io.BytesIO()
        write_tokens(file, tokens)
        file.seek(0)
        with np.load(file) as found:
            np.savez(again := io.BytesIO(), **{**dict(found), **changed})
        with pytest.raises(InputError, match="rows" if word == "width" else word):
            again.seek(0)
            read_tokens(again)
