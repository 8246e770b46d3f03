# SPDX-License-Identifier: Apache-2.0
"""Families know no signal, signals no family: pairs that no config ships.

Tokens of images go through files and tiles; latents of one fixed rate have no gains; a
transform that looks everywhere has no tiles.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from polycodec import decode, encode, registry
from polycodec.codecs.stored import load_codec
from polycodec.codecs.transforms.base import ImageTransform
from polycodec.codecs.transforms.image.conv import ConvTransform
from polycodec.entropy_models.base import EntropyModel
from polycodec.entropy_models.models.factorized import FactorizedModel
from polycodec.entropy_models.priors.mixture import Mixture, scale_set
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build

TOKENS = {
    "name": "token",
    "signal": "image",
    "channels": 8,
    "transform": {"name": "conv", "width": 8},
    "quantizer": {"name": "residual", "levels": 3, "codes": 16},
    "entropy": {"name": "tokens-static"},
}
ONE_RATE = {
    "name": "latent",
    "channels": 12,
    "knots": 1,
    "lmbda": 0.01,
    "transform": {"name": "conv", "width": 8},
    "entropy": {"name": "hyperprior", "hyper": 8, "features": 8, "hidden": 8},
}


def made(config: dict):
    """A codec of random weights, frozen."""
    torch.manual_seed(0)
    codec = build(f"codec/{config['name']}", **without_name(config))
    codec.freeze(lambda c: c(torch.rand(2, 3, 64, 64), torch.zeros(2)))
    codec.name, codec.digest = "image/test", b"test"
    return codec


def without_name(config: dict) -> dict:
    return {k: v for k, v in config.items() if k != "name"}


@pytest.fixture(autouse=True)
def parts_of_this_file(monkeypatch):
    """Registered for these tests only: others go through the whole registry."""
    named = {
        "transform/test-everywhere": Everywhere,
        "transform/test-no-class": no_class,
        "transform/test-entropy": FactorizedModel,
        "entropy/test-mixture": MixtureModel,
    }
    for name, part in named.items():
        monkeypatch.setitem(registry._ENTRIES, name, part)


@pytest.fixture
def png(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize("config", [TOKENS, ONE_RATE], ids=["tokens", "one rate"])
def test_files_and_regions_of_codecs_that_nobody_ships(config, png, tmp_path):
    codec = made(config)
    x = torch.rand(2, 3, 37, 53)
    data = codec.compress(x, 80)
    assert codec.decompress(data).shape == x.shape
    alone, both = codec.decompress(data[:1]), codec.decompress(data)
    assert torch.allclose(alone[0], both[0], atol=1e-5)
    encode(png, tmp_path / "a.plc", codec=codec, tile=64, quality=100)
    decode(tmp_path / "a.plc", tmp_path / "whole.png", codec=codec)
    part = tmp_path / "part.png"
    decode(tmp_path / "a.plc", part, codec=codec, region=(50, 60, 40, 30))
    whole = np.array(Image.open(tmp_path / "whole.png"))
    assert whole.shape == (150, 140, 3)
    difference = np.array(Image.open(part)).astype(int) - whole[60:90, 50:90]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("config", [TOKENS, ONE_RATE], ids=["tokens", "one rate"])
def test_they_are_saved_and_loaded(config, tmp_path):
    codec = made(config)
    digest = codec.save(tmp_path / "a.safetensors", config)
    loaded = load_codec(tmp_path / "a.safetensors", name="image/test")
    assert codec.save(tmp_path / "b.safetensors", config) == digest
    codes = loaded.encode_codes(torch.rand(1, 3, 40, 40), loaded.level_of(100))
    data = loaded.write(codes, loaded.level_of(100)).data
    again = load_codec(tmp_path / "a.safetensors")
    assert again.write(codes, again.level_of(100)).data == data


def test_one_rate_has_no_gains_and_any_quality_is_it():
    codec = made(ONE_RATE)
    assert not [n for n, _ in codec.named_parameters() if "gain" in n or "scale" in n]
    x = torch.rand(1, 3, 32, 32)
    low, high = (codec.compress(x, q)[0] for q in (0, 100))
    assert low[14:] == high[14:]  # behind the size, the quality and the hash


def test_search_at_encoding_is_refused_where_there_is_none(png, tmp_path):
    with pytest.raises(UsageError, match="codec/token has no search"):
        encode(png, tmp_path / "a.plc", codec=made(TOKENS), effort=2)


def test_samples_of_another_shape_are_named():
    with pytest.raises(InputError, match=r"\(2, 1, 100\); expected \(batch, 3"):
        made(TOKENS).compress(torch.zeros(2, 1, 100))


class Everywhere(ConvTransform):
    """A transform that says that it looks everywhere."""

    def reach(self) -> None:
        return None


def test_without_reach_there_are_no_tiles(png, tmp_path):
    transform = {"name": "test-everywhere", "width": 8}
    codec = made({**ONE_RATE, "transform": transform})
    result = encode(png, tmp_path / "a.plc", codec=codec)
    assert decode(tmp_path / "a.plc", tmp_path / "a.png", codec=codec).width == 140
    assert result.bytes < 100_000
    with pytest.raises(UsageError, match="there are no tiles"):
        encode(png, tmp_path / "b.plc", codec=codec, tile=64)


def test_a_transform_without_reach_is_no_transform():
    class Incomplete(ImageTransform):
        pass

    with pytest.raises(TypeError, match="reach"):
        Incomplete(8, 16)


class MixtureModel(EntropyModel):
    """Every latent under the same mixture of two, whose scales are stored."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.means = torch.nn.Parameter(torch.tensor([-1.0, 1.5]))

    def code(self, coder, y, size, *, rate=None, z=None):
        shape = (size[0], self.channels, *size[1:])
        wide = (size[0], 2, self.channels, *size[1:])
        centres = self.means.view(1, 2, 1, 1, 1).expand(wide)
        prior = Mixture(
            centres, torch.full(wide, 30.0), torch.zeros(wide), self.tables.get("s")
        )
        return coder.code(y, prior, shape)

    def update(self):
        self.tables = {"s": scale_set()}


def test_stored_scales_of_mixtures_are_loaded(tmp_path):
    config = {**ONE_RATE, "entropy": {"name": "test-mixture"}}
    codec = made(config)
    codec.save(tmp_path / "m.safetensors", config)
    loaded = load_codec(tmp_path / "m.safetensors")
    codes = 3 * torch.randn(1, 12, 4, 4)
    coded = codec.write(codes, 0)
    assert torch.equal(loaded.read(coded.data, 0, (4, 4)), coded.codes)


def no_class(channels: int) -> torch.nn.Module:
    """A part that forgot its base."""
    part = torch.nn.Identity()
    part.channels = channels
    return part


def test_a_part_of_no_base_is_named():
    with pytest.raises(ModelError, match="test-no-class is a Identity; expected a Tra"):
        build("codec/latent", transform={"name": "test-no-class"})
    with pytest.raises(ModelError, match="a FactorizedModel; expected a Transform"):
        build("codec/latent", transform={"name": "test-entropy"})
