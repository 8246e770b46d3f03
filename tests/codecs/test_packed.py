# SPDX-License-Identifier: Apache-2.0
"""Packed weights: the same numbers everywhere, and named errors for what is damaged."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from polycodec.codecs import stored, zoo
from polycodec.codecs.packed import beyond, pack, unpack
from polycodec.codecs.quantizers.weights.allocation import gone
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.errors import ModelError
from polycodec.registry import build

HOWS = ("scalar", "lattice", "trellis")


@pytest.fixture(scope="module")
def weights(tiny_checkpoint):
    """The tiny codec's config and stored tensors."""
    codec, config, tensors = stored.read_weights(tiny_checkpoint)
    stored.fill(codec, tensors, config, tiny_checkpoint)
    return codec, config, tensors


def plan_of(codec, tensors) -> dict[str, Choice]:
    """Every quantizer in turn, at about 3 bits (the trellis) or 6."""
    plan = {}
    for k, name in enumerate(sorted(stored.approximable(codec))):
        rms = float(tensors[name].double().square().mean().sqrt())
        if rms > 0:
            step = round(4 * np.log2(rms)) - 16
            how = HOWS[k % 3]
            plan[name] = Choice(how, 12 if how == "trellis" else step)
    return plan


@pytest.fixture(scope="module")
def packed(weights, tmp_path_factory):
    """A packed file of the tiny codec."""
    codec, config, tensors = weights
    path = tmp_path_factory.mktemp("packed") / "a.safetensors"
    stored.write_weights(codec, path, config, tensors, plan_of(codec, tensors))
    return path


def rewritten(source, target, change) -> None:
    """A copy whose header, parsed, and bytes ``change`` has seen."""
    with safe_open(str(source), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        data = file.get_tensor("coded").clone()
    data = change(config["coded"], data)
    save_file({"coded": data}, str(target), {"config": json.dumps(config)})


def test_without_a_plan_nothing_is_lost(weights, tmp_path):
    codec, config, tensors = weights
    path = tmp_path / "a.safetensors"
    stored.write_weights(codec, path, config, tensors, {})
    _, again, back = stored.read_weights(path)
    assert again == config and back.keys() == tensors.keys()
    for key, value in tensors.items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value)


def test_packed_weights_make_a_codec_that_is_exact(weights, packed, tiny_checkpoint):
    codec, _, tensors = weights
    assert packed.stat().st_size < 0.6 * tiny_checkpoint.stat().st_size
    _, _, back = stored.read_weights(packed)
    for key in plan_of(codec, tensors):
        was, now = tensors[key].double(), back[key].double()
        assert (was - now).norm() < 0.25 * was.norm(), key
    again = stored.load_codec(packed)
    assert again.digest == stored.digest_of(packed)[:4]
    x = torch.rand(1, 3, 70, 50)
    data = again.compress(x)
    assert torch.equal(again.decompress(data), again.decompress(data))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert stored.load_codec(packed).compress(x) == data
    finally:
        torch.set_num_threads(threads)


def test_a_difference_needs_its_base(weights, tiny_checkpoint, tmp_path, monkeypatch):
    codec, config, tensors = weights
    tuned = {
        key: value + (value * 0.001).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in tensors.items()
    }
    base, path = tmp_path / "base.safetensors", tmp_path / "a.safetensors"
    base.write_bytes(tiny_checkpoint.read_bytes())
    monkeypatch.setattr(zoo, "weights_of", lambda name: base)
    stored.write_weights(codec, path, config, tuned, {}, "image/base")
    with safe_open(str(path), framework="pt") as file:
        entries = json.loads(file.metadata()["config"])["coded"]["tensors"]
    assert entries["tables.z.freqs"][0] == "same" and entries["tables.z.freqs"][3] == 0
    _, _, back = stored.read_weights(path)
    assert all(torch.equal(back[k], v) for k, v in tuned.items())
    plan = {key: Choice("scalar", -44) for key in stored.approximable(codec)}
    stored.write_weights(codec, path, config, tuned, plan, "image/base")
    _, _, back = stored.read_weights(path)
    for key, value in tuned.items():
        # A step is 2^-11: floats are off by half of it, integers not at all.
        assert (back[key].double() - value.double()).abs().max() < 2**-11, key
    base.write_bytes(base.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelError, match="difference from other weights"):
        stored.load_codec(path)


def test_rows_of_another_grid_are_not_foretold():
    value = torch.tensor([[9, -7, 3, 1], [5, 5, -5, 2]], dtype=torch.int16)
    guess = value.double() + 0.25
    guess[1] *= 2.0**13  # a row that became small: its grid is finer than the base's
    rest = beyond(value, guess)
    assert (rest == [[-0.25] * 4, [5, 5, -5, 2]]).all()
    plan = {"a": Choice("scalar", 0)}
    coded, entries = pack({"a": value}, plan, lambda *about: guess, {})
    back = unpack(coded, entries, lambda *about: guess, 8)
    assert torch.equal(back["a"], value)


def test_a_difference_may_go_altogether():
    w = np.random.default_rng(3).laplace(size=(40, 30))
    every = gone(w, 2.0)
    data = build(f"weights/{every.choice.how}").encode(w, every.choice.setting)
    assert not build("weights/scalar").decode(data, w.shape).any()
    assert len(data) <= every.bytes and every.loss == 2 * float((w**2).sum())


def test_integers_of_exact_layers_are_regridded(weights):
    codec, _, _ = weights
    layer = copy.deepcopy(next(iter(stored.exact_layers(codec).values())))
    before = layer.integers()
    grids = {
        "weight_exp": before["weight_exp"] - 1,
        "input_exp": before["input_exp"] + 2,
    }
    found = layer.regridded(before, grids)
    assert torch.equal(found["weight_int"], before["weight_int"].double() * 8)


HUGE = 1 << 40


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update({"extra": ["plain", "int8", [HUGE], 8]}),
        lambda e: e.update({"extra": ["plain", "int8", [HUGE, HUGE, HUGE], 8]}),
        lambda e: e.update({"extra": ["scalar", "float32", [0], 8]}),
        lambda e: e.update({"extra": ["scalar", "float32", [-3], 8]}),
        lambda e: e.update({"extra": ["scalar", "float32", [2.5], 8]}),
        lambda e: e.update({"extra": ["nothing", "float32", [2], 0]}),
        lambda e: e.update({"extra": ["same", "float32", [2], 0]}),
        lambda e: e.update({"extra": ["plain", "complex64", [2], 0]}),
        lambda e: e.update({"extra": ["plain", "float32", [2], HUGE]}),
        lambda e: e.update({"extra": ["plain", "float32", [1] * 9, 0]}),
        lambda e: e.update({"extra": 3}),
        lambda e: e.update({"extra": [[], {}, [2], 0]}),
        lambda e: e.pop(next(iter(e))),
        lambda e: e.clear(),
    ],
)
def test_entries_that_no_export_writes_are_named(packed, tmp_path, change):
    def both(about, data):
        change(about["tensors"])
        return data

    rewritten(packed, tmp_path / "a.safetensors", both)
    with pytest.raises(ModelError):
        stored.load_codec(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_coded_numbers_that_numpy_has_not_are_named(packed, tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    with safe_open(str(packed), framework="pt") as file:
        metadata = file.metadata()
    save_file({"coded": torch.zeros(10).to(dtype)}, str(path), metadata)
    with pytest.raises(ModelError, match="10 numbers of"):
        stored.load_codec(path)


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"version": 2}, "newer"),
        ({"version": [1]}, "packed by version"),
        ({"version": 1}, "list"),
        ({"version": 1, "tensors": {}, "base": 3}, "base"),
        ({"version": 1, "tensors": {}, "base": ["image/none", "00"]}, "image/none"),
        ([1], "packed by version"),
    ],
)
def test_headers_of_packed_files_are_checked(packed, tmp_path, about, word):
    path = tmp_path / "a.safetensors"
    with safe_open(str(packed), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        data = file.get_tensor("coded")
    save_file(
        {"coded": data}, str(path), {"config": json.dumps({**config, "coded": about})}
    )
    with pytest.raises(ModelError, match=word):
        stored.load_codec(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"channels": 0}, "builds no codec"),
        ({"transform": {"name": "residual", "widths": [2048, 12]}}, "more than"),
    ],
)
def test_configs_that_build_nothing_or_too_much_are_named(
    packed, tmp_path, change, word
):
    path = tmp_path / "a.safetensors"
    with safe_open(str(packed), framework="pt") as file:
        config = {**json.loads(file.metadata()["config"]), **change}
        data = file.get_tensor("coded")
    save_file({"coded": data}, str(path), {"config": json.dumps(config)})
    with pytest.raises(ModelError, match=word):
        stored.load_codec(path)


def test_flipped_bits_are_named_or_load(packed, tmp_path):
    rng, path = np.random.default_rng(5), tmp_path / "a.safetensors"
    refused = 0
    for trial in range(24):

        def flip(about, data, trial=trial):
            name = list(about["tensors"])[rng.integers(len(about["tensors"]))]
            row = about["tensors"][name]
            if trial % 4 == 0:
                row[2][0] += int(rng.integers(-1, 3))
            at = rng.integers(len(data), size=3)
            data[torch.from_numpy(at)] ^= int(1 << rng.integers(8))
            return data[: -int(rng.integers(1, 9))] if trial % 7 == 0 else data

        rewritten(packed, path, flip)
        try:
            stored.load_codec(path)
        except ModelError:
            refused += 1
    assert refused > 5
