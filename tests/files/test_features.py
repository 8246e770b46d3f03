# SPDX-License-Identifier: Apache-2.0
"""Files of features: written, told of, classified, and refused as pictures."""

from __future__ import annotations

import copy
import io
import json
import pathlib
import random
import weakref

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from plc_files import image_header, pack
from tiny_features import TINY, tiny_features

import polycodec
from polycodec.codecs.files.container import layout
from polycodec.codecs.files.container.file import (
    FeatureGeometry,
    Header,
    Reader,
    write_plc,
)
from polycodec.codecs.files.features import encode
from polycodec.errors import (
    BitstreamError,
    CodecError,
    InputError,
    ModelError,
    UsageError,
    VersionError,
)


@pytest.fixture(scope="module")
def codec():
    return tiny_features()


@pytest.fixture(scope="module")
def png() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return saved(pixels)


def saved(pixels: np.ndarray, **more: object) -> bytes:
    Image.fromarray(pixels).save(out := io.BytesIO(), format="PNG", **more)
    return out.getvalue()


def test_a_file_is_its_stream_and_says_what_it_is(codec, png):
    result = polycodec.features(png, codec=codec, quality=50)
    assert result.bytes == len(result.data) and (result.width, result.height) == (
        40,
        24,
    )
    about = polycodec.info(result.data)
    assert about["kind"] == "features" and about["version"] == layout.WIDER == 3
    assert about["geometry"] == {"width": 40, "height": 24}
    assert about["model"] == "features/test" and about["bpp"] == 8 * result.bytes / 960
    assert polycodec.verify(result.data)["ok"]
    beside = result.bytes - about["chunk_bytes"][0]
    assert beside == 5 + 1 + 14 + 4 + 2 + 2 + 1 + 4  # magic … checksum
    # Of it four bytes are the seal, the rest is what the tables estimate.
    assert about["chunk_bytes"][0] <= 1.01 * result.estimated_bytes + 12


def test_what_is_told_is_what_the_codec_says(codec, png):
    data = polycodec.features(png, codec=codec, quality=100).data
    told = polycodec.classify(data, codec=codec, top=2)
    assert list(told.classes.values()) == sorted(told.classes.values(), reverse=True)
    assert set(told.classes) == {"cat", "dog"} and told.bytes == len(data)
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    [row] = codec.classify(codec.compress(x, 100))
    assert told.classes["dog"] == pytest.approx(float(row[1]), abs=1e-5)
    assert polycodec.classify(data, codec=codec, top=1).line().count("%") == 1


def test_many_together_are_as_one_by_one(codec, png):
    gray = saved(np.full((9, 9), 77, np.uint8))
    files = polycodec.features_of([png, gray, png], codec, 20)
    files += polycodec.features_of([gray], codec, 100)
    alone = [polycodec.features(p, codec=codec, quality=20).data for p in (png, gray)]
    assert files[:2] == alone and files[2] == files[0]
    rows = polycodec.classify_all(files, codec)
    for data, row in zip(files, rows, strict=True):
        told = polycodec.classify(data, codec=codec, top=2).classes
        assert told["cat"] == pytest.approx(float(row[0]), abs=1e-5)


def test_no_pictures_are_no_files_and_no_rows(codec):
    assert polycodec.features_of([], codec) == []
    assert polycodec.classify_all([], codec).shape == (0, 2)


def test_many_pictures_are_not_all_in_memory(codec, png, monkeypatch):
    read, before, most = encode.read_image, [], 0

    def watched(source):
        nonlocal most
        most = max(most, sum(one() is not None for one in before))
        before.append(weakref.ref(image := read(source)))
        return image

    monkeypatch.setattr(encode, "read_image", watched)
    assert len(polycodec.features_of([png] * 6, codec)) == len(before) == 6
    assert most == 1  # the loop still holds the last


def test_many_are_coded_at_the_quality_that_their_headers_hold(codec, png):
    alone = polycodec.features(png, codec=codec, quality=25.004).data
    assert polycodec.features_of([png], codec, 25.004) == [alone]
    assert polycodec.classify_all([alone], codec).shape == (1, 2)


def test_many_are_refused_by_a_codec_of_pictures(png):
    with pytest.raises(ModelError, match="expected one of features"):
        polycodec.features_of([png], polycodec.load("image/default"))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_seen_upright(codec, orientation):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    lying = saved(pixels, exif=exif)
    with Image.open(io.BytesIO(lying)) as image:
        turned = ImageOps.exif_transpose(image).copy()
    upright = saved(np.asarray(turned))
    a, b = polycodec.features_of([lying, upright], codec)
    assert a == b


def test_features_are_refused_as_a_picture(codec, png, tmp_path):
    (tmp_path / "a.plc").write_bytes(polycodec.features(png, codec=codec).data)
    with pytest.raises(InputError, match="no picture can be made"):
        polycodec.decode(tmp_path / "a.plc", tmp_path / "a.png", codec=codec)
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(ModelError, match="codes features"):
        polycodec.encode(png, codec=codec)
    with pytest.raises(InputError, match="expected features"):
        polycodec.classify(pack(image_header(), [b"x"]), codec=codec)
    with pytest.raises(UsageError, match="another format"):
        polycodec.features(png, tmp_path / "b.jpg", codec=codec)


def test_other_weights_and_older_readers_refuse_by_name(codec, png, monkeypatch):
    data = polycodec.features(png, codec=codec).data
    other = tiny_features()
    other.digest = b"othr"
    with pytest.raises(ModelError, match="7465"):
        polycodec.classify_all([data], other)
    monkeypatch.setattr(layout, "READABLE", (1, 2))
    with pytest.raises(VersionError, match="format version 3"):
        polycodec.info(data)


def test_every_change_of_a_byte_is_noticed(codec, png):
    data = polycodec.features(png, codec=codec).data
    rng = random.Random(0)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(CodecError):
            polycodec.classify_all([bytes(changed)], codec)
        with pytest.raises(CodecError):
            polycodec.classify_all([data[:at]], codec)


def test_a_stream_is_sealed_with_what_the_header_says(codec, png):
    data = polycodec.features(png, codec=codec, quality=20).data
    with pytest.raises(BitstreamError):
        polycodec.classify_all([resealed(data, quality=70.0)], codec)
    with pytest.raises(BitstreamError):
        polycodec.classify_all([resealed(data, width=41)], codec)
    assert polycodec.classify_all([resealed(data)], codec).shape == (1, 2)


def resealed(data: bytes, quality: float | None = None, width: int = 40) -> bytes:
    """The file with another header around its stream, all checksums right."""
    reader = Reader(io.BytesIO(data))
    head = reader.header
    rate = head.quality if quality is None else quality
    shape = FeatureGeometry(width, 24)
    header = Header(head.model, head.digest, "features", shape, rate)
    write_plc(out := io.BytesIO(), header, [reader.chunk(0)])
    return out.getvalue()


@pytest.mark.parametrize("many", [polycodec.features_of, polycodec.classify_all])
def test_one_file_in_place_of_many_and_a_name_in_place_of_a_codec_are_named(
    many, codec, png
):
    for one in ("a.png", png, pathlib.Path("a.plc")):
        with pytest.raises(InputError, match="expected a list"):
            many(one, codec)
    with pytest.raises(InputError, match="'features/cifar10' is no codec; load it"):
        many([png], "features/cifar10")


def test_which_of_many_is_wrong_is_told(codec, png):
    file = polycodec.features(png, codec=codec).data
    with pytest.raises(InputError, match="number 2 of 3: cannot read"):
        polycodec.features_of([png, png[:-40], png], codec)
    with pytest.raises(BitstreamError, match="number 3 of 3: "):
        polycodec.classify_all([file, file, file[:-1]], codec)


def test_many_may_be_any_iterable_and_what_is_none_is_named(codec, png):
    files = polycodec.features_of((png for _ in range(2)), codec)
    assert len(polycodec.classify_all(iter(files), codec)) == 2
    for many in (polycodec.features_of, polycodec.classify_all):
        with pytest.raises(InputError, match="None are no files"):
            many(None, codec)
    with pytest.raises(InputError, match="'features/x' is no codec; load it first"):
        polycodec.classify(files[0], codec="features/x")
    with pytest.raises(UsageError, match="'tops'; nearest: top"):
        polycodec.classify(files[0], codec=codec, tops=2)


def test_a_synthesis_gives_what_decompress_gives(codec):
    codec = copy.deepcopy(codec)
    codec.head.fc.bias.data -= 2
    data = codec.compress(torch.rand(3, 3, 16, 16), 100)
    made = polycodec.Synthesis(codec)(
        codec.latents(data), torch.full((3,), float(codec.level_of(100)))
    )
    assert made.min() < 0  # logits have no range
    torch.testing.assert_close(made, codec.decompress(data))


def test_workers_refuse_a_model_of_which_nothing_is_decoded():
    with pytest.raises(UsageError, match="'features/cifar10' makes features"):
        polycodec.Encoder("features/cifar10")


def test_a_file_is_no_string_of_the_codec(codec, png):
    with pytest.raises(BitstreamError, match=r"a \.plc file is for polycodec.classify"):
        codec.latents(polycodec.features(png, codec=codec).data)


def test_the_commands(codec, png, cli, tmp_path):
    codec.save(tmp_path / "w.safetensors", {"name": "feature", **TINY})
    weights = ("--checkpoint", tmp_path / "w.safetensors")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(png)
    (tmp_path / "in" / "c.txt").write_text("no picture")
    code, out, err = cli("features", tmp_path / "in", "-o", tmp_path / "to", *weights)
    assert code == 0 and out.count(".plc") == 2 and "c.txt" in err
    code, out, _ = cli("classify", tmp_path / "to", "--json", *weights)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 2
    assert rows[0]["classes"] == rows[1]["classes"] and "cat" in rows[0]["classes"]
    code, out, err = cli("decode", tmp_path / "to" / "a.plc", "-o", tmp_path / "x.png")
    assert code == 3 and "no picture can be made" in err
    code, out, _ = cli("info", tmp_path / "to" / "a.plc")
    assert code == 0 and "features" in out and "40x24" in out
    (tmp_path / "to" / "cut.plc").write_bytes(b"")
    code, out, err = cli("classify", tmp_path / "to", *weights)
    assert code == 4 and out.count("%") == 4 and "cut.plc" in err
    for given in (("features", ""), ("classify", ""), ("encode", "a.png", "-o", "")):
        code, _, err = cli(*given)
        assert code == 2 and "name is empty" in err
    _, out, _ = cli("features", "--help")
    assert "dB" not in out  # there is no picture to measure it on
    _, out, _ = cli("classify", "--help")
    assert "--force" not in out  # nothing is written
