# SPDX-License-Identifier: Apache-2.0
"""Networks that are signals: sizes as published, positions the same bits everywhere."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import pytest
import torch

from polycodec.codecs.transforms.network import on_meta, width_within
from polycodec.codecs.transforms.positions import encoded_times
from polycodec.codecs.transforms.video.hnerv import published_width
from polycodec.registry import find, names

HD, BUNNY, UVG = (132, 720, 1280), (132, 640, 1280), (600, 1080, 1920)
SMALL = (16, 144, 256)


def weights(name: str, size, width: int, **options) -> int:
    network = on_meta(find(f"network/{name}"), size, 3, width, **options)
    return sum(p.numel() for p in network.sent().values())


@pytest.mark.parametrize(
    ("width", "count"), [(26, 3_201_905), (58, 6_282_001), (112, 12_524_563)]
)
def test_nerv_has_the_published_sizes(width, count):
    assert weights("nerv", HD, width) == count


@pytest.mark.parametrize(
    ("width", "paper", "released", "nerv"),
    [
        (8, 1_702_851, 1_902_725, 1_362_811),
        (26, 3_175_647, 3_379_541, 2_882_497),
        (58, 6_161_951, 6_382_533, 5_944_161),
        (112, 12_269_459, 12_546_111, 12_155_619),
    ],
)
def test_nerv_plus_plus_has_the_counted_sizes(width, paper, released, nerv):
    assert weights("nerv", HD, width, block="scrb", least=80) == paper
    assert weights("nerv", HD, width, block="gcnn", least=80) == released
    assert weights("nerv", HD, width, block="nerv", least=80) == nerv


@pytest.mark.parametrize(
    ("millions", "width", "count"),
    [
        (0.35, 32, 312_830),
        (0.75, 48, 719_256),
        (1.5, 68, 1_488_276),
        (3, 97, 3_012_686),
    ],
)
def test_hnerv_has_the_published_widths_and_sizes(millions, width, count):
    strides = (5, 4, 4, 2, 2)
    assert published_width(1e6 * millions, BUNNY, strides=strides) == width
    assert weights("hnerv", BUNNY, width, strides=strides) == count


@pytest.mark.parametrize(
    ("size", "strides", "millions", "width", "count", "embeddings"),
    [
        (UVG, (5, 3, 2, 2, 2), 2.8, 95, 1_669_888, 1_382_400),
        (UVG, (5, 3, 2, 2, 2), 4.6, 143, 3_631_593, 1_382_400),
        (UVG, (5, 3, 2, 2, 2), 9.1, 222, 8_645_153, 1_382_400),
        (UVG, (5, 3, 2, 2, 2), 13.6, 280, 13_658_998, 1_382_400),
        (HD, (5, 2, 2, 2, 2), 0.64, 50, 454_793, 304_128),
        (HD, (5, 2, 2, 2, 2), 1.275, 86, 1_203_818, 304_128),
        (HD, (5, 2, 2, 2, 2), 2.65, 134, 2_776_525, 304_128),
    ],
)
def test_boost_has_the_published_widths_and_sizes(
    size, strides, millions, width, count, embeddings
):
    assert published_width(1e6 * millions, size, strides=strides) == width
    assert weights("hnerv-boost", size, width, strides=strides) == count
    network = on_meta(find("network/hnerv-boost"), size, 3, width, strides=strides)
    assert network.values == count + embeddings


def test_small_ones_have_the_counted_sizes():
    small = {"strides": (4, 2, 2), "levels": 20, "least": 8}
    own = {"block": "scrb", "stem": 32, "expansion": 4}
    assert weights("nerv", SMALL, 4, **small, **own) == 64_923
    boost = {**small, "depths": (1, 1, 1), "embedding": 2, "features": 32}
    assert weights("hnerv-boost", SMALL, 16, times=8, **boost) == 27_714
    assert weights("hnerv-boost", SMALL, 24, times=16, **boost) == 67_125


def test_encodings_are_sines_of_exact_phases():
    table = encoded_times(7, 1.25, 80, first=1)
    assert table.shape == (7, 160) and table.dtype == torch.float32
    for k, level in ((0, 0), (3, 79), (6, 40)):
        phase = Fraction(k + 1, 7) * Fraction(5, 4) ** level % 2
        assert table[k, 2 * level] == pytest.approx(math.sin(math.pi * phase), abs=1e-6)
        cosine = table[k, 2 * level + 1]
        assert cosine == pytest.approx(math.cos(math.pi * phase), abs=1e-6)
    apart = encoded_times(7, 1.25, 80, first=1, paired=False)
    assert torch.equal(apart[:, :80], table[:, 0::2])
    assert torch.equal(apart[:, 80:], table[:, 1::2])


def test_encodings_are_these_bits():
    """Of this code; every machine that runs the test has to agree."""
    table = encoded_times(132, 1.25, 80, first=1, paired=False).numpy()
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()[:16]
    assert digest == "5bfe074a9cc6f6bb"


TINY = {
    "nerv": {"stem": 8, "strides": (2, 2), "least": 4, "levels": 4},
    "hnerv": {"strides": (2, 2), "features": 8, "embedding": 3, "least": 4},
    "hnerv-boost": {
        **{"strides": (2, 2), "depths": (1, 2), "features": 8, "embedding": 3},
        **{"times": 4, "levels": 4, "least": 4},
    },
    "coordinates": {"depth": 2},
}
VARIANTS = [(n, {}) for n in TINY]
VARIANTS += [("nerv", {"block": "scrb"}), ("nerv", {"block": "gcnn"})]


def test_every_network_is_tried_here():
    assert {n.split("/")[1] for n in names("network/*")} == set(TINY)


@pytest.mark.parametrize(("name", "more"), VARIANTS)
def test_every_weight_learns_and_frames_stand_alone(name, more):
    learned = set()
    for seed in range(4):  # of a few narrow layers, one may be dead at the start
        torch.manual_seed(seed)
        network = find(f"network/{name}")((3, 9, 14), 3, 6, **TINY[name], **more)
        x = torch.rand(3, 3, 9, 14)
        embedding = network.embed(x)
        out = network(torch.arange(3), embedding)
        (out[..., :9, :14] - x).square().mean().backward()
        for key, value in network.named_parameters():
            if value.grad is not None and value.grad.abs().max() > 0:
                learned.add(key)
    assert learned == {key for key, _ in network.named_parameters()}
    if network.embedding_size is not None:
        assert embedding.shape == (3, *network.embedding_size)
    assert out.shape[:2] == (3, 3) and out.shape[2] >= 9 and out.shape[3] >= 14
    one = None if embedding is None else embedding[2:]
    assert torch.allclose(network(torch.tensor([2]), one)[0], out[2], atol=1e-5)
    assert not any(key.startswith("encoder") for key in network.sent())
    assert network.values == sum(network.lengths())


def test_the_width_is_the_largest_within_a_budget():
    def build(width):
        return find("network/nerv")(SMALL, 3, width, **TINY["nerv"])

    width = width_within(build, 30_000)
    assert on_meta(build, width).values <= 30_000 < on_meta(build, width + 1).values
