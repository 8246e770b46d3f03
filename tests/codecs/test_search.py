# SPDX-License-Identifier: Apache-2.0
"""Search at encoding: what is kept, what is said of it, and coded exactly."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import polycodec
from polycodec.codecs.families import search
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.annealing import RULES, Annealing
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.layer import approximately
from polycodec.progress import Tick

LEVEL = 1.0


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return load_codec(tiny_checkpoint)


@pytest.fixture
def x():
    torch.manual_seed(3)
    return torch.rand(1, 3, 70, 45)


def start(codec, x):
    return codec.encode_codes(x, LEVEL)


def test_what_is_handed_over_costs_what_it_says_in_real_bytes(codec, x):
    y, told = start(codec, x), []
    found = codec.refine(x, y, LEVEL, 30, told.append)
    assert found.after.total < found.before.total
    coded = codec.write(found.codes, LEVEL, side=found.side, thrifty=found.thrifty)
    again = codec.read(coded.data, LEVEL, y.shape[2:])
    assert torch.equal(again, coded.codes)
    x_hat = codec.decode_codes(again, LEVEL, x.shape[2:])
    error = float((x_hat - x).square().mean())
    assert found.after.bytes == len(coded.data[0])
    assert found.after.error == pytest.approx(error, rel=1e-5)
    lmbda = float(codec.lmbda_of(torch.tensor(LEVEL)))
    cost = 8 * len(coded.data[0]) / (70 * 45) + lmbda * 255**2 * error
    assert found.after.total == pytest.approx(cost, rel=1e-5)
    assert [t.step for t in told] == sorted({t.step for t in told})
    costs = [t.best.total for t in told]
    assert costs == sorted(costs, reverse=True)
    assert told[-1].step == found.steps <= 30


def test_thrift_would_undo_part_of_a_search(codec, x, monkeypatch):
    monkeypatch.setattr(search, "RATE", 0.2)
    warm = Annealing(warm=0.5, cold=0.5)  # leaves latents where thrift meddles
    found = search.refined(codec, x, start(codec, x), LEVEL, 30, annealing=warm)
    plain, thrifty = (
        codec.write(found.codes, LEVEL, side=found.side, thrifty=flag).codes
        for flag in (False, True)
    )
    assert not found.thrifty
    assert not torch.equal(plain, thrifty)


def test_a_search_that_made_things_worse_hands_back_what_it_was_given(
    codec, x, monkeypatch
):
    monkeypatch.setattr(search, "RATE", 100.0)  # all that it tries is far off
    y = start(codec, x)
    found = codec.refine(x, y, LEVEL, 5)
    assert torch.equal(found.codes, y)
    assert (found.side, found.thrifty) == (None, True)
    assert found.after == found.before


@pytest.mark.parametrize("candidates", [2, 3])
@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_of_rounding_finds_something(codec, x, rule, candidates):
    annealing = Annealing(rule, candidates=candidates)
    found = search.refined(codec, x, start(codec, x), LEVEL, 20, annealing=annealing)
    assert found.after.total < found.before.total


def test_a_search_that_finds_nothing_more_ends_early(codec, x, monkeypatch):
    monkeypatch.setattr(search, "GAIN", 10.0)
    assert codec.refine(x, start(codec, x), LEVEL, 100).steps == 60


def test_a_search_is_the_same_twice_and_leaves_the_codec_as_it_was(codec, x):
    y = start(codec, x)
    before = {k: v.clone() for k, v in codec.state_dict().items()}
    first, second = (codec.refine(x, y, LEVEL, 6) for _ in range(2))
    assert torch.equal(first.codes, second.codes)
    for key, value in codec.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in codec.parameters())


def test_only_the_thread_that_searches_computes_approximately():
    torch.manual_seed(0)
    layer, x = ExactConv2d(4, 4, 3), torch.rand(1, 4, 6, 6)
    layer.observing = True
    layer(x)
    layer.observing = False
    layer.freeze()
    exact, seen = layer(x), []
    with approximately():
        near = layer(x)
        thread = threading.Thread(target=lambda: seen.append(layer(x)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], exact)
    assert torch.equal(layer(x), exact)
    assert not torch.equal(near, exact)
    assert torch.allclose(near, exact, atol=1e-2)


class Listening(Tick):
    def __init__(self):
        self.parts, self.said = [], []

    def __call__(self, part, parts):
        self.parts.append(part / parts)

    def say(self, text):
        self.said.append(text)


def test_a_picture_of_tiles_tells_progress_and_what_was_gained(codec, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (100, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tick = Listening()
    options = {"codec": codec, "tile": 64, "psnr": True}
    source, target = tmp_path / "a.png", tmp_path / "a.plc"
    result = polycodec.encode(source, target, effort=10, progress=tick, **options)
    said = json.loads(json.dumps(result.as_dict()))["searched"]
    assert 4 * 5 < said["steps"] <= 4 * 10
    assert said["saved_percent"] > 0
    assert said["psnr_after"] == pytest.approx(result.psnr, abs=2)  # tiles see others
    assert said["bytes_after"] < result.bytes < said["bytes_after"] + 200
    assert tick.parts == sorted(tick.parts)
    assert tick.parts[-1] == 1
    assert len(tick.said) == said["steps"]
    assert tick.said[0].startswith("step 1 of 10: ")
    assert "effort saved" in result.line()
    plain = polycodec.encode(source, target, force=True, **options)
    assert plain.searched is None
    assert "searched" not in plain.as_dict()


@pytest.mark.parametrize(
    "known", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"]
)
def test_bfloat16_where_the_processor_has_instructions_for_it(monkeypatch, known):
    for name in search.BFLOAT16:
        monkeypatch.setattr(torch.cpu, name, lambda n=name: n == known, raising=False)
    assert search._halved("cpu")
    monkeypatch.setattr(torch.cpu, known, lambda: False, raising=False)
    assert not search._halved("cpu")
