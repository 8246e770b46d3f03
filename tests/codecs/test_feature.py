# SPDX-License-Identifier: Apache-2.0
"""Codecs of features: published sizes, files in bytes, answers in place of pictures."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny_features import TINY, pictures, tiny_features

from polycodec.codecs.files.features.encode import features_of
from polycodec.codecs.signals.features import FeatureSignal
from polycodec.codecs.stored import load_codec
from polycodec.codecs.transforms.image.conv import GDN1
from polycodec.errors import BitstreamError, InputError, ModelError, UsageError
from polycodec.registry import build
from polycodec.train.config import load_config, shipped


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def codec():
    return tiny_features()


def test_gdn1_is_its_equation():
    torch.manual_seed(0)
    layer, x = GDN1(3), torch.randn(2, 3, 4, 5)
    torch.nn.init.uniform_(layer.gamma, 0.1, 0.9)
    norm = torch.einsum("ij,bjhw->bihw", layer.gamma.square(), x.abs()) + 1
    assert torch.allclose(layer(x), x / norm, atol=1e-6)
    layer.inverse = True
    assert torch.allclose(layer(x), x * norm, atol=1e-5)


def test_the_published_sizes():
    """Matsubara et al. 2022, and their code: 0.139 M of 24x55x55 latents, 1.16 M."""
    with torch.device("meta"):
        section = load_config(shipped()["features/student"]).codec
        codec = build(f"codec/{section.name}", **section.options())
        teacher = load_config(shipped()["features/student-teacher"]).codec
        teacher = build(f"codec/{teacher.name}", **teacher.options())
    layers = [5 * 5 * 3 * 96, 96 + 96**2, 5 * 5 * 96 * 48, 48 + 48**2, 2 * 2 * 48 * 24]
    assert count(codec.transform.g_a) == sum(layers) == 138_672
    assert count(codec.transform.g_s) == 1_164_032
    assert count(codec.entropy) == 24 * 58
    assert codec.grid((224, 224)) == (55, 55) and codec.channels == 24
    # A ResNet-50 is 25,557,032, of which its first layers and stage are 225,344.
    whole = count(teacher.transform) + count(teacher.head)
    assert whole == 25_557_032 and count(teacher.transform) == 225_344
    assert count(codec.head) == count(teacher.head)


@pytest.mark.parametrize("name", ["small", "small-answers", "small-teacher"])
def test_the_parts_of_the_small_one_fit_one_another(name):
    section = load_config(shipped()[f"features/{name}"]).codec
    codec = build(f"codec/{section.name}", **section.options())
    x = torch.rand(2, 3, 32, 32)
    out = codec(x, torch.ones(2), quantize=False)
    shapes = [(2, 128, 8, 8), (2, 128, 8, 8), (2, 192, 4, 4)]
    assert [tuple(s.shape) for s in out.stages] == shapes
    assert out.logits.shape == (2, 10) and codec.labels[3] == "cat"


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_bytes_give_back_the_features_and_the_answer(codec, quality):
    x, level = pictures(), codec.level_of(quality)
    codes = codec.encode_codes(x, level)
    coded = codec.write(codes, level)
    assert codes.shape == (4, 6, 3, 3) and torch.equal(coded.codes, codes)
    assert torch.equal(codec.read(coded.data, level, (3, 3)), codes)
    for data, bits in zip(coded.data, coded.estimated_bits, strict=True):
        assert 8 * len(data) <= 1.01 * bits + 8 * 16
    data = codec.compress(x, quality)
    found = codec.classify(data)
    with torch.inference_mode():
        out = codec(x, torch.full((4,), float(level)))
    assert torch.allclose(found, out.logits.softmax(1), atol=1e-5)
    assert out.bits.tolist() == pytest.approx(coded.estimated_bits, rel=0.1, abs=16)
    alone = torch.cat([codec.classify(item) for item in data])
    assert torch.allclose(alone, found, atol=1e-5)


def test_levels_have_densities_of_their_own(codec):
    codes = codec.encode_codes(pictures(), 1)
    low, high = (sum(map(len, codec.write(codes, k).data)) for k in (1, 3))
    assert low < high  # few bits for what is likely at a coarse level only


def test_a_batch_of_several_levels_is_counted_as_its_items(codec):
    x, levels = pictures(), torch.tensor([1.0, 3.0, 2.0, 1.0])
    with torch.inference_mode():
        together = codec(x, levels).bits
        alone = [codec(x[k : k + 1], levels[k : k + 1]).bits for k in range(4)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4)


def test_pictures_of_any_size_are_brought_to_one(codec):
    x = pictures(1, 96)[:, :, :48]
    whole, middle = (codec.signal.checked(part) for part in (x, x[..., 24:72]))
    assert whole.shape == (1, 3, 16, 16)
    # The outermost columns see what lies beside the middle.
    assert torch.allclose(whole[..., 1:-1], middle[..., 1:-1], atol=1e-5)
    assert len(codec.compress([x, pictures(1, 8)])) == 2


def test_pictures_are_brought_to_a_size_once(tmp_path):
    """They were twice: what `compress` coded was a middle of the middle."""
    seen = []

    class Watched(FeatureSignal):
        def brought(self, x):
            seen.append(super().brought(x))
            return seen[-1]

    made = tiny_features()
    made.signal = Watched(size=16, resize=24)
    made.compress(pictures(1, 48), 100)
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    features_of([tmp_path / "a.png"], made)
    assert len(seen) == 2


def test_stored_weights_read_the_same_features(codec, tmp_path):
    codec.save(tmp_path / "codec.safetensors", {"name": "feature", **TINY})
    loaded = load_codec(tmp_path / "codec.safetensors", name="features/test")
    assert loaded.labels == ("cat", "dog")
    level = 2
    codes = codec.encode_codes(pictures(), level)
    data = codec.write(codes, level).data
    assert loaded.write(codes, level).data == data
    assert torch.equal(loaded.read(data, level, (3, 3)), codes)


def test_what_is_no_stream_of_it_is_refused(codec):
    [data] = codec.compress(pictures(1), 50)
    with pytest.raises(BitstreamError, match="level 9; expected 1 to 3"):
        codec.classify(b"\x09" + data[1:])
    with pytest.raises(BitstreamError):
        codec.classify(b"\x01" + data[1:])  # sealed with its level
    with pytest.raises(BitstreamError):
        codec.classify(data[:5])
    with pytest.raises(InputError):
        codec.compress(torch.full((1, 3, 16, 16), 7.0))
    with pytest.raises(UsageError, match="level is 4"):
        codec.encode_codes(pictures(1), 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transform": {"name": "residual"}}, "for images"),
        ({"head": {"classes": 3, "labels": ["a"]}}, "3 classes and 1 labels"),
        ({"head": {"widths": [8]}}, "1, 2 and 2"),
        ({"head": {"features": 8}}, "leave 'features' to the codec"),
        ({"signal": {"size": 4}}, "size is 4"),
    ],
)
def test_parts_that_do_not_fit_are_named(change, words):
    with pytest.raises(ModelError, match=words):
        build("codec/feature", **{**TINY, **change})
