# SPDX-License-Identifier: Apache-2.0
"""Mistakes of a part from outside are told by its name: no bug of the house."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polycodec import registry
from polycodec.cli.failure import explain
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.transforms.base import ImageTransform
from polycodec.codecs.transforms.image.conv import ConvTransform
from polycodec.entropy_models.coders import RateEstimator
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build
from polycodec.train.image.pieces import check_tiles


class Patches(ImageTransform):
    """8 x 8 pixels a latent, and what may be wrong with it."""

    def __init__(self, channels: int, *, made: int = 0, stride: int = 8) -> None:
        super().__init__(channels, stride)
        self.down = nn.Conv2d(3, channels + made, 8, stride=8)
        self.up = nn.ConvTranspose2d(channels, 3, 8, stride=8)

    def reach(self):
        return 0, 0

    def g_a(self, x, level):
        return self.down(x)

    def g_s(self, z_hat, level):
        return self.up(z_hat)


class Short(Patches):
    def g_s(self, z_hat, level):
        return self.up(z_hat)[:, :, :-1]


class Lost(Patches):
    def g_a(self, x, level):
        return self.down(x) / 0 * 0


class OfSmell(Patches):
    kind = "smell"


class Quantizers(Quantizer):
    def quantized(self, z, active):
        raise NotImplementedError

    encode = decode = quantized


class Bare(Quantizers):
    def __init__(self, channels: int) -> None:
        self.channels, self.sizes = channels, (4,)


class Unsized(Quantizers):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels


class Early(Quantizers):
    def __init__(self, channels: int) -> None:
        self.books = nn.Linear(channels, channels)


class Wide(Patches):
    def __init__(self, channels: int) -> None:
        super().__init__(channels + 1)


@pytest.fixture(autouse=True)
def parts_of_this_file(monkeypatch):
    for part in (Patches, Short, Lost, OfSmell, Wide):
        monkeypatch.setitem(registry._ENTRIES, f"transform/{part.__name__}", part)
    for part in (Bare, Unsized, Early):
        monkeypatch.setitem(registry._ENTRIES, f"quantizer/{part.__name__}", part)


def made(transform: str = "Patches", **options):
    codec = build(
        "codec/latent",
        channels=6,
        knots=2,
        transform={"name": transform, **options},
        entropy={"name": "factorized"},
    )
    codec.entropy.update()
    codec.name = "image/mine"
    return codec.eval()


@pytest.mark.parametrize(
    ("transform", "options", "said"),
    [
        (
            "Patches",
            {"made": 2},
            r"Patches made \(1, 8, 4, 4\).*expected \(1, 6, 4, 4\)",
        ),
        ("Patches", {"stride": 16}, r"Patches made \(1, 6, 4, 4\).*\(1, 6, 2, 2\).*16"),
        ("Short", {}, r"Short made \(1, 3, 31, 32\) of .*expected \(1, 3, 32, 32\)"),
        ("Lost", {}, "the transform of 'image/mine' gave NaN"),
    ],
)
def test_what_networks_make_is_what_a_transform_states(transform, options, said):
    codec = made(transform, **options)
    with pytest.raises(ModelError, match=said):
        codec.decompress(codec.compress(torch.rand(1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"transform": {"name": "OfSmell"}}, "kind 'smell'; expected one of image, sp"),
        ({"transform": {"name": "Wide"}}, "transform/Wide has 9 channels.* it 8"),
        ({"quantizer": {"name": "Bare"}}, r"Bare is not init.*super\(\).__init__"),
        ({"quantizer": {"name": "Unsized"}}, "quantizer/Unsized states no 'sizes'"),
        ({"quantizer": {"name": "Early"}}, "cannot build 'quantizer/Early'"),
    ],
)
def test_what_a_part_does_not_set_up_is_named(part, said):
    options = {"transform": {"name": "Patches"}, **part}
    with pytest.raises(ModelError, match=said):
        build("codec/token", signal="image", channels=8, **options)


PRIOR = """
from polycodec.entropy_models.base import EntropyModel, TablePrior
from polycodec.registry import register

class HalfPrior(TablePrior):
    pass

@register("entropy/half")
class Half(EntropyModel):
    def code(self, coder, y, size, *, rate=None, z=None):
        return coder.code(y, HalfPrior(), y.shape)

    def update(self):
        pass
"""


def test_a_failure_within_a_part_from_outside_is_the_parts(tmp_path):
    file = tmp_path / "parts.py"
    file.write_text(PRIOR)
    registry.import_parts([str(file)])
    try:
        with pytest.raises(TypeError) as caught:
            y = torch.zeros(1, 1, 2, 2)
            build("entropy/half").code(RateEstimator(1), y, (1, 2, 2))
        code, message = explain(caught.value)
    finally:
        del registry._ENTRIES["entropy/half"]
    assert code == 5 and f"the part in {file}, line 11," in message
    assert "HalfPrior" in message and "a bug" not in message


def test_a_reach_that_is_too_short_is_refused_with_what_was_measured():
    class Near(ConvTransform):
        def reach(self):
            return 2, super().reach()[1]

    class Shut(ConvTransform):
        def reach(self):
            return super().reach()[0], 0

    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    stated = ConvTransform(6, width=4, knots=2).reach()
    for part in (ConvTransform, Near, Shut):
        codec = made()
        torch.manual_seed(0)
        codec.transform = part(6, width=4, knots=2).eval()
        if part is ConvTransform:
            assert "those of the whole image" in check_tiles(codec, x)
            continue
        own = codec.transform.reach()
        looks = (
            rf"states a reach of {own[0]} pix.* {own[1]} lat.* looks (\d+) and (\d+)"
        )
        with pytest.raises(ModelError, match=looks) as caught:
            check_tiles(codec, x)
        words = str(caught.value).split(" looks ")[1].split()
        assert stated[0] - 15 <= int(words[0]) <= stated[0]
        assert int(words[2]) == stated[1]


def test_codes_and_qualities_that_are_no_numbers_are_refused():
    codec = made()
    codes = torch.full((1, 6, 4, 4), float("nan"))
    for act in (codec.decode_codes, codec.write):
        with pytest.raises(InputError, match="codes hold NaN"):
            act(codes, 1.0)
    for quality in ("5", float("nan"), None, 101):
        with pytest.raises(UsageError, match=r"quality is .*; expected 0 to 100"):
            codec.compress(torch.rand(1, 3, 32, 32), quality)
