# SPDX-License-Identifier: Apache-2.0
"""Files of format version 1 decode to the integers that the package of then decoded.

`tests/golden/make_v1.py` says how they were made. Integers must be equal; samples come
from floats, so their mean and deviation are compared, not each of them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pathlib

import numpy as np
import pytest
import soundfile

from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.image.alpha import decode_alpha
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.speech.chunks import unpack_chunk
from polycodec.codecs.files.tokens import convert
from polycodec.codecs.files.tokens.file import read_tokens
from polycodec.codecs.signals.grid import Grid
from polycodec.codecs.stored import load_codec

V1 = pathlib.Path(__file__).parents[1] / "golden" / "v1"
INDEX = json.loads((V1 / "index.json").read_text())
GRID = 16  # latents of images are multiples of 1/16
CODED_ALPHA = 6  # first byte of an alpha record whose plane the codec coded
BEFORE_STREAM = 12  # bytes of such a record: form, depth, sizes, quality


def of_kind(kind: str, suffix: str = ".plc") -> list[str]:
    return [n for n in INDEX if n.startswith(kind) and n.endswith(suffix)]


@functools.cache
def codec_of(name: str):
    weights = INDEX[name]["weights"]
    return _loaded(weights)


@functools.cache
def _loaded(weights: str):
    name = weights.replace("-", "/", 1)
    return load_codec(V1 / "weights" / f"{weights}.safetensors", name=name)


def sha(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).astype("<i4").tobytes())
    return digest.hexdigest()


def latents(codec, stream: bytes, height: int, width: int) -> np.ndarray:
    """Decoded latents in sixteenths, on which they must lie."""
    y_hat = codec.read([stream], 0.0, codec.grid((height, width)))
    scaled = (y_hat.double() * GRID).numpy()
    assert np.array_equal(scaled, np.rint(scaled))
    return scaled


def opened(name: str) -> Reader:
    return Reader(io.BytesIO((V1 / "files" / name).read_bytes()))


def assert_samples(samples: np.ndarray, name: str) -> None:
    found = (float(samples.mean()), float(samples.std()))
    assert found == pytest.approx((INDEX[name]["mean"], INDEX[name]["std"]), abs=2e-3)


def test_there_are_enough_of_every_kind():
    assert len(of_kind("image")) >= 40 and len(of_kind("speech")) >= 20
    assert len(of_kind("speech", ".npz")) == 5
    assert {p.name for p in (V1 / "files").iterdir()} == set(INDEX)


@pytest.mark.parametrize("name", of_kind("image"))
def test_images_have_their_latents(name):
    codec, reader, row = codec_of(name), opened(name), INDEX[name]
    geometry = reader.header.geometry
    grid = Grid(geometry.height, geometry.width, geometry.tile)
    chunks = []
    for k in range(len(grid)):
        tile = grid.span(k)
        size = (tile.bottom - tile.top, tile.right - tile.left)
        chunks.append(latents(codec, reader.chunk(k), *size))
    assert sha(chunks) == row["integers"]
    alpha = reader.header.record("alpha")
    assert (alpha is None) == ("alpha" not in row)
    if alpha is not None:
        if alpha[0] == CODED_ALPHA:
            stream, size = alpha[BEFORE_STREAM:], (geometry.height, geometry.width)
            plane = latents(codec, stream, *size)
        else:
            plane = decode_alpha(alpha, geometry.width, geometry.height)
        assert sha([plane]) == row["alpha"]
    for kind in ("icc", "exif", "xmp"):
        record = reader.header.record(kind)
        found = None if record is None else hashlib.sha256(record).hexdigest()
        assert found == row.get(kind)


@pytest.mark.parametrize("name", of_kind("image"))
def test_images_decode_to_files(name, tmp_path):
    source = V1 / "files" / name
    done = api.decode(source, tmp_path / "out.png", codec=codec_of(name))
    image = read_image(tmp_path / "out.png")
    geometry = opened(name).header.geometry
    assert (done.width, done.height) == (image.width, image.height)
    assert (image.alpha is not None) == ("alpha" in INDEX[name])
    # Depths that PNG has not are spread over the next one that it has.
    samples = image.pixels.astype(np.float64) / ((1 << image.depth) - 1)
    assert image.depth >= geometry.depth
    assert_samples(samples, name)


@pytest.mark.parametrize("name", of_kind("speech"))
def test_speech_has_its_codes(name):
    codec, reader = codec_of(name), opened(name)
    geometry = reader.header.geometry
    frames, span = (
        -(-geometry.coded_samples // codec.stride),
        geometry.span // codec.stride,
    )
    chunks = []
    for k in range(reader.n_chunks):
        levels, streams = unpack_chunk(reader.chunk(k), geometry.channels)
        count = min(span, frames - k * span)
        chunks.append(codec.read(streams, levels, (count,)).numpy())
    assert sha(chunks) == INDEX[name]["integers"]


@pytest.mark.parametrize("name", of_kind("speech"))
def test_speech_decodes_to_files(name, tmp_path):
    geometry = opened(name).header.geometry
    done = api.decode(V1 / "files" / name, tmp_path / "out.wav", codec=codec_of(name))
    x, rate = soundfile.read(tmp_path / "out.wav", always_2d=True)
    assert x.shape == (geometry.samples, geometry.channels)
    assert rate == geometry.rate == done.rate
    assert_samples(x, name)


@pytest.mark.parametrize("name", of_kind("speech", ".npz"))
def test_token_files_have_their_codes_and_can_be_heard(name, tmp_path):
    source = V1 / "files" / name
    tokens = read_tokens(io.BytesIO(source.read_bytes()))
    assert sha([tokens.codes]) == INDEX[name]["integers"]
    convert.convert(source, tmp_path / "out.wav", codec=codec_of(name))
    x, rate = soundfile.read(tmp_path / "out.wav", always_2d=True)
    assert (len(x), rate) == (tokens.samples, tokens.rate) and x.std() > 1e-3
