# SPDX-License-Identifier: Apache-2.0
"""Files of images and speech as a data set of torch."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import polycodec
from polycodec.codecs.files import dataset
from polycodec.codecs.files.loader import SHARED
from polycodec.codecs.stored import load_codec
from polycodec.errors import BitstreamError, InputError, UsageError


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return load_codec(tiny_checkpoint)


@pytest.fixture
def folder(tmp_path, codec):
    """Three images in tiles of 64, of one size, and one of 16 bits."""
    rng = np.random.default_rng(0)
    for k in range(3):
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        png = io.BytesIO()
        small.resize((140, 100), Image.Resampling.BICUBIC).save(png, "PNG")
        place = tmp_path / "a" / f"{k}.plc"
        place.parent.mkdir(exist_ok=True)
        polycodec.encode(png.getvalue(), place, codec=codec, quality=30 * k, tile=64)
    (tmp_path / "a" / "readme.txt").write_text("no image")
    return tmp_path / "a"


def decoded(path, codec, **options) -> np.ndarray:
    data = polycodec.decode(path.read_bytes(), codec=codec, **options).data
    return np.asarray(Image.open(io.BytesIO(data)))


def test_pixels_are_those_of_decode(folder, codec):
    data = polycodec.PlcDataset(folder, codec=codec)
    assert len(data) == 3
    for path, x in zip(sorted(folder.glob("*.plc")), data, strict=True):
        assert x.dtype == torch.uint8 and x.shape == (3, 100, 140)
        assert np.array_equal(x.permute(1, 2, 0), decoded(path, codec))
    part = polycodec.PlcDataset(folder, codec=codec, region=(50, 20, 40, 30))[2]
    assert torch.equal(part, x[:, 20:50, 50:90])


def test_codes_are_what_was_coded_and_need_no_synthesis(folder, codec, monkeypatch):
    given = {"codec": codec, "region": lambda width, height: (60, 0, width - 60, 33)}
    codes = polycodec.PlcDataset(folder, read="codes", **given)[1]
    latents = polycodec.PlcDataset(folder, read="latents", **given)[1]
    whole = polycodec.PlcDataset(folder, read="codes", codec=codec)
    monkeypatch.setattr(type(codec), "synthesise", None)
    assert whole[1].shape == (12, 7, 9)  # 100 x 140 by 16
    assert torch.equal(codes, whole[1][:, :3, 3:])
    level = codec.level_of(30)
    assert torch.allclose(latents, codec.dequantize(codes[None], level)[0])


def test_workers_get_names_and_load_codecs(folder, codec, tiny_checkpoint):
    alone = polycodec.PlcDataset(folder, codec=codec, region=(8, 8, 64, 64))
    one = torch.stack(list(alone))
    by_name = polycodec.PlcDataset(
        folder, checkpoint=tiny_checkpoint, region=(8, 8, 64, 64), transform=half
    )
    assert torch.equal(by_name[0], half(one[0]))
    loads = SHARED._loaded.cache_info().misses
    again = polycodec.PlcDataset(folder, checkpoint=tiny_checkpoint)
    assert again[0].shape == (3, 100, 140)
    assert SHARED._loaded.cache_info().misses == loads
    assert len(pickle.dumps(by_name)) < 10_000
    loader = DataLoader(
        by_name, batch_size=3, num_workers=1, multiprocessing_context="fork"
    )
    [batch] = loader
    assert torch.equal(batch, half(one))


def half(x: torch.Tensor) -> torch.Tensor:
    return x.float() / 2


def test_members_of_a_set(folder, codec, tmp_path):
    for path in folder.glob("*.plc"):
        polycodec.decode(path, path.with_suffix(".png"), codec=codec)
        path.unlink()
    polycodec.pack(folder, tmp_path / "set.plc", codec=codec)
    data = polycodec.PlcDataset(tmp_path / "set.plc", codec=codec)
    polycodec.unpack(tmp_path / "set.plc", tmp_path / "out", codec=codec)
    assert [name for _, name in data.items] == ["0.png", "1.png", "2.png"]
    for (_, name), x in zip(data.items, data, strict=True):
        expected = np.asarray(Image.open(tmp_path / "out" / name)).astype(int)
        # They were decoded side by side: equal latents, sums in another order.
        apart = np.abs(x.permute(1, 2, 0).numpy() - expected)
        assert apart.max() <= 1 and apart.mean() < 0.01
    assert torch.equal(pickle.loads(pickle.dumps(data))[1], data[1])


def test_sets_of_a_folder_or_a_list(folder, codec, tmp_path, monkeypatch):
    sets = tmp_path / "sets"
    sets.mkdir()
    for k, size in enumerate((16, 24)):
        Image.new("RGB", (size, 16)).save(tmp_path / f"{k}.png")
        polycodec.pack(tmp_path / f"{k}.png", sets / f"{k}.plc", codec=codec)
    (sets / "z.plc").write_bytes((folder / "0.plc").read_bytes())
    monkeypatch.setattr(dataset, "_SETS", 1)
    for files in (sets, sorted(sets.iterdir())):
        data = polycodec.PlcDataset(files, codec=codec)
        assert [data[k].shape[2] for k in (0, 1, 2, 0)] == [16, 24, 140, 16]
    assert [name for _, name in data.items] == ["0.png", "1.png", None]


def test_speech_whole_in_part_and_as_codes(tmp_path, sound_codec):
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(36000) / 16000
    talk = 0.3 * np.sin(40 * time) * np.sin(7 * time)
    soundfile.write(tmp_path / "talk.wav", talk, 16000)
    place = tmp_path / "talk.plc"
    polycodec.encode(tmp_path / "talk.wav", place, codec=sound_codec, quality=100)
    data = polycodec.PlcDataset([place], codec=sound_codec)
    assert data[0].shape == (1, 36000) and data[0].dtype == torch.float32
    polycodec.decode(place, tmp_path / "back.wav", codec=sound_codec)
    back, _ = soundfile.read(tmp_path / "back.wav", dtype="float32")
    assert np.abs(data[0][0].numpy() - back).max() < 1e-4
    part = polycodec.PlcDataset([place], codec=sound_codec, seconds=(0.5, 1.25))[0]
    assert torch.equal(part, data[0][:, 8000:20000])
    given = {"codec": sound_codec, "read": "codes"}
    tokens = polycodec.tokens(place, codec=sound_codec).codes
    codes = polycodec.PlcDataset([place], **given)[0]
    assert np.array_equal(codes, tokens)
    some = polycodec.PlcDataset([place], seconds=(0.5, 1.251), **given)[0]
    assert torch.equal(some, codes[..., 200:501])


def test_what_is_wrong_is_told_with_its_file(folder, codec, tmp_path):
    with pytest.raises(UsageError, match="signal, codes, latents"):
        polycodec.PlcDataset(folder, read="pixels")
    with pytest.raises(InputError, match="no files"):
        polycodec.PlcDataset(empty(tmp_path))
    broken = folder / "1.plc"
    broken.write_bytes(broken.read_bytes()[:-3])
    with pytest.raises(BitstreamError, match=r"1\.plc: "):
        polycodec.PlcDataset(folder, codec=codec)[1]
    with pytest.raises(UsageError, match=r"0\.plc: region"):
        polycodec.PlcDataset(folder, codec=codec, region=(0, 0, 999, 9))[0]


def empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"
