# SPDX-License-Identifier: Apache-2.0
"""Weights that are damaged, or no weights at all, are refused by name when loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_parts import section

from polycodec.codecs import zoo
from polycodec.codecs.stored import digest_of, load_codec
from polycodec.errors import ModelError, UsageError
from polycodec.registry import build


def changed(source, target, change) -> None:
    """A copy of weights whose tensors ``change`` has seen."""
    with safe_open(str(source), framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, str(target), metadata)


def ends(tensors: dict, name: str, value: float) -> None:
    """One number of the first tensor with such a name becomes ``value``."""
    key = next(k for k in sorted(tensors) if k.endswith(name))
    tensors[key].view(-1)[0] = value


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("weight_int", 32767, "widths"),
        ("weight_int", -32768, "widths"),
        ("bias_int", 2**63 - 1, "numbers that no export"),
        ("bias_int", -(2**63), "numbers that no export"),
        ("weight_exp", -32768, "widths"),
        ("input_exp", 32767, "widths"),
        ("widths", 32767, "widths"),
        ("log_scale", float("nan"), "log_scale"),
        ("stem.weight", float("inf"), "stem.weight"),
        ("freqs", 2**31 - 1, "freqs"),
        ("freqs", -1, "freqs"),
    ],
)
def test_numbers_that_no_export_writes_are_refused(
    tiny_checkpoint, tmp_path, name, value, word
):
    path = tmp_path / "a.safetensors"
    changed(tiny_checkpoint, path, lambda tensors: ends(tensors, name, value))
    with pytest.raises(ModelError, match=word):
        load_codec(path)


def test_one_flipped_bit_is_noticed_where_there_is_a_card(tiny_checkpoint, tmp_path):
    path = tmp_path / zoo.EXPORTED
    shutil.copy(tiny_checkpoint, path)
    card = {"name": "image/a", "digest": digest_of(path).hex()}
    path.with_suffix(".json").write_text(json.dumps(card))
    assert zoo.load("image/a", checkpoint=tmp_path).kind == "image"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not those of their card"):
        zoo.load("image/a", checkpoint=tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 10000, "[1]", "{", "{}", '{"name": 3}', '"a"', "\udcff"]
)
def test_cards_that_are_no_objects_are_named(tiny_checkpoint, tmp_path, text):
    path = tmp_path / zoo.EXPORTED
    shutil.copy(tiny_checkpoint, path)
    path.with_suffix(".json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match="card"):
        zoo.load("image/a", checkpoint=tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        "[" * 10000,
        '{"name": ' * 5000,
        "[1]",
        "3",
        '{"name": 3}',
        '{"name": "latent", "tables": 3}',
        '{"name": "latent", "tables": {"y": []}}',
        '{"name": "latent", "channels": "many"}',
        '{"name": "latent", "transform": 5}',
        '{"name": "latent", "transform": {"name": {}}}',
    ],
)
def test_configs_in_weights_that_are_none_are_named(tiny_checkpoint, tmp_path, config):
    path = tmp_path / "a.safetensors"
    with safe_open(str(tiny_checkpoint), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(tensors, str(path), {"config": config})
    with pytest.raises(ModelError):
        load_codec(path)


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, bytes(64), b"PK\x03\x04"])
def test_files_that_are_no_weights_are_named(tmp_path, data):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="cannot read weights"):
        load_codec(path)


def test_a_folder_of_a_run_stands_for_its_weights(tiny_checkpoint, tmp_path):
    with pytest.raises(ModelError, match=r"cannot read weights .*codec\.safetensors"):
        load_codec(tmp_path)
    shutil.copy(tiny_checkpoint, tmp_path / "codec.safetensors")
    assert load_codec(tmp_path).digest == load_codec(tiny_checkpoint).digest


def test_numbers_beyond_half_precision_are_kept(tmp_path):
    config = {
        "signal": "image",
        "channels": 12,
        "transform": section("transform", "conv"),
        "quantizer": {"name": "residual", "levels": 1, "codes": 512},
        "entropy": {"name": "tokens-static"},
    }
    codec = build("codec/token", **config)
    codec.freeze(lambda codec: None)
    for largest in (6e4, 1e6):
        codec.quantizer.books[0].vectors[0, 0] = largest
        codec.save(tmp_path / "a.safetensors", {"name": "token", **config})
        found = load_codec(tmp_path / "a.safetensors").quantizer.books[0].vectors
        exact = torch.equal(found, codec.quantizer.books[0].vectors)
        assert exact == (largest > 65504) and float(found[0, 0]) == largest


def test_another_precision_is_named(tiny_checkpoint):
    codec = load_codec(tiny_checkpoint)
    x = torch.rand(1, 3, 40, 40)
    data = codec.compress(x)
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            for act in (
                lambda: load_codec(tiny_checkpoint),
                lambda: codec.compress(x),
                lambda: codec.decompress(data),
            ):
                with pytest.raises(UsageError, match="default type"):
                    act()
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        again = codec.decompress(data)
        other = codec.compress(x)
    assert again.dtype == torch.float32
    assert torch.allclose(again, codec.decompress(data), atol=0.05)
    assert codec.decompress(other).shape == x.shape
    for change in (codec.double, codec.half):
        change()
        with pytest.raises(UsageError, match="codec's weights"):
            codec.decompress(data)
