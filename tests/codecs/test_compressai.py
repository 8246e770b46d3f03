# SPDX-License-Identifier: Apache-2.0
"""CompressAI both ways: its checkpoints in our files, our codecs in its evaluation."""

from __future__ import annotations

import copy
import json
import pathlib
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from signals import photo

pytest.importorskip("compressai.zoo", reason="needs the compressai extra")

from polycodec.codecs import zoo
from polycodec.codecs.families import compressai as ours
from polycodec.codecs.families.adopted import adopt
from polycodec.codecs.measures.image import psnr
from polycodec.errors import DeterminismError, ModelError
from polycodec.eval.image.compressai import AsCompressAI, main

ARCHITECTURES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean")


def checkpoint(folder: pathlib.Path, architecture: str) -> tuple[pathlib.Path, object]:
    """A small model of random weights, as CompressAI's examples store one."""
    torch.manual_seed(0)
    model = ours.architectures()[architecture](16, 24).eval()
    with torch.no_grad():
        model.g_a[-1].weight.mul_(12)  # else every latent is 0
    model.update(force=True)
    path = folder / "net.pth.tar"
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, path)
    return path, model


@pytest.fixture
def adopted(tmp_path):
    path, model = checkpoint(tmp_path, "mbt2018-mean")
    adopt("mbt2018-mean", path, tmp_path / "mine")
    return zoo.load("image/mine", checkpoint=tmp_path / "mine"), model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bytes_and_images_are_theirs(tmp_path, architecture):
    path, model = checkpoint(tmp_path, architecture)
    card = adopt(architecture, path, tmp_path / "mine")
    codec = zoo.load("image/mine", checkpoint=tmp_path / "mine")
    assert card["digest"][:8] == codec.digest.hex() and codec.levels == 1
    x = torch.from_numpy(photo(1, (128, 192))).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        strings = model.compress(x)
        x_hat = model.decompress(**strings)["x_hat"]
    (data,) = codec.compress(x)
    assert (codec.decompress([data]) - x_hat).abs().max() < 1e-5
    size = sum(len(s) for part in strings["strings"] for s in part)
    assert abs(len(data) - size) < 0.02 * size + 80
    odd = codec.decompress(codec.compress(x[..., :70, :45]))
    assert odd.shape[2:] == (70, 45)


def test_a_file_by_the_command_line(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    checkpoint(tmp_path, "mbt2018-mean")
    Image.fromarray(photo(2, (96, 80))).save(tmp_path / "a.png")
    args = ("export", "net.pth.tar", "--compressai", "mbt2018-mean")
    code, _, err = cli(*args, "--install", "image/theirs")
    assert code == 0, err
    code, out, err = cli("encode", "a.png", "-m", "image/theirs", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == "image/theirs"
    code, _, err = cli("decode", "a.plc", "-o", "back.png")
    assert code == 0, err
    assert np.array(Image.open(tmp_path / "back.png")).shape == (96, 80, 3)
    code, _, err = cli(*args[:3], "cheng2020-anchor")
    assert code == 5 and "cannot be coded here" in err
    state = torch.load(tmp_path / "net.pth.tar")["state_dict"]
    first = "g_a.0.weight"
    broken = {
        "is no file of tensors": b"no checkpoint",
        "holds a list that is no table": [1],
        f"{first} of net.pth.tar is not finite": {**state, first: state[first] / 0},
        f"no tensor '{first}'": {k: v for k, v in state.items() if k != first},
        "not those of mbt2018-mean; ": {**state, first: state[first][:, :2]},
    }
    for said, given in broken.items():
        if isinstance(given, bytes):
            (tmp_path / "net.pth.tar").write_bytes(given)
        else:
            torch.save(given, tmp_path / "net.pth.tar")
        code, _, err = cli(*args)
        assert code == 5 and said in err, err
    code, _, err = cli("export", str(tmp_path), *args[2:])
    assert code != 0 and "Is a directory" in err


def test_other_tables_are_refused_not_decoded_to_noise(adopted):
    codec, _ = adopted
    data = codec.compress(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        for name, value in codec.entropy.named_parameters():
            if "h_s" in name:
                value.mul_(3.0)
    with pytest.raises(DeterminismError):
        codec.decompress(data)


def test_threads_and_copies_do_not_meet(adopted):
    codec, _ = adopted
    signals = [torch.rand(1, 3, 64, 64) for _ in range(4)]
    expected = [codec.compress(x) for x in signals]
    found: dict[int, list[bytes]] = {}

    def work(k):
        found[k] = codec.compress(signals[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[k] for k in range(4)] == expected
    assert copy.deepcopy(codec).compress(signals[0]) == expected[0]


def test_an_unknown_architecture_is_refused(tmp_path):
    path, _ = checkpoint(tmp_path, "mbt2018-mean")
    with pytest.raises(ModelError, match="expected one of"):
        adopt("elic2022", path, tmp_path / "mine")
    with pytest.raises(ModelError, match="not those of bmshj2018-factorized"):
        adopt("bmshj2018-factorized", path, tmp_path / "mine")


def test_their_evaluation_runs_ours(tmp_path, tiny_checkpoint, capsys):
    pixels = photo(3, (192, 256))
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    name = f"image/mine@{tiny_checkpoint}"
    main(["pretrained", str(tmp_path / "photos"), "-a", name, "-q", "30,70"])
    found = json.loads(capsys.readouterr().out)["results"]
    codec = zoo.load("image/mine", checkpoint=tiny_checkpoint)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    sizes = [len(codec.compress(x, q)[0]) for q in (30, 70)]
    assert found["bpp"] == pytest.approx([8 * n / (192 * 256) for n in sizes])
    for quality, value in zip((30, 70), found["psnr-rgb"], strict=True):
        x_hat = codec.decompress(codec.compress(x, quality))[0]
        decoded = (255 * x_hat).round().permute(1, 2, 0).numpy().astype(np.uint8)
        assert value == pytest.approx(psnr(pixels, decoded), abs=1e-4)


def test_their_estimate_is_ours(tiny_checkpoint):
    model = AsCompressAI(f"image/mine@{tiny_checkpoint}", 50)
    x = torch.from_numpy(photo(1, (64, 64))).permute(2, 0, 1)[None] / 255
    out = model(x)
    bits = -torch.log2(out["likelihoods"]["all"]).sum().item()
    (data,) = model.compress(x)["strings"][0]
    assert 8 * (len(data) - 100) < bits < 8 * len(data)
    assert out["x_hat"].shape == x.shape
