# SPDX-License-Identifier: Apache-2.0
"""The contract of codecs that are composed: every transform, every entropy model.

Each is built from a config, trained for two steps, frozen and used. A newly registered
part takes part without a line here.
"""

from __future__ import annotations

import functools
import json

import pytest
import torch
from composed import ENTROPY, TRANSFORMS, check_moved, picture, two_steps

from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.coders import RateEstimator
from polycodec.errors import ModelError
from polycodec.registry import build
from polycodec.train.config import parse_config

# What holds of a transform holds beside any entropy model, and the other way round: all
# pairs of them are met in `test_matrix.py`.
PAIRS = [(t, "context") for t in TRANSFORMS]
PAIRS += [("residual", e) for e in ENTROPY if e != "context"]


@functools.lru_cache(maxsize=2)
def trained(config: str):
    """The frozen codec of a JSON config, and what its two training steps did."""
    rest = {"data": {"train": "-"}, "run": {"out": "-", "steps": 2}}
    section = parse_config({"codec": json.loads(config), **rest}).codec
    torch.manual_seed(0)
    codec = build(f"codec/{section.name}", **section.options())
    codec.initialise(picture(64, 64, 4))
    x = picture(64, 64, 2)
    losses, moved, finite = two_steps(codec, x)

    def calibrate(codec):
        for quality in (0, 50, 100):
            codec(x, torch.full((2,), codec.level_of(quality)))

    codec.freeze(calibrate)
    return codec, section, losses, moved, finite


@pytest.fixture(params=PAIRS, ids=["-".join(p) for p in PAIRS], scope="module")
def case(request, tiny_codec):
    """One pair, trained and frozen."""
    return trained(json.dumps(tiny_codec(*request.param)))


def test_the_five_and_two_are_registered():
    expected = {"factorized", "hyperprior", "checkerboard", "channel", "context"}
    assert expected <= set(ENTROPY)
    assert {"residual", "conv"} <= set(TRANSFORMS)


def test_two_steps_are_finite_and_move_every_part(case):
    losses, moved, finite = case[2:]
    assert finite and all(0 < loss < 1e6 for loss in losses)
    check_moved(moved)


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (16, 33), (64, 64)])
def test_bytes_give_back_the_latents_and_the_picture(case, size):
    codec = case[0]
    x, level = picture(*size), codec.level_of(70)
    coded = codec.write(codec.encode_codes(x, level), level)
    y_hat = codec.read(coded.data, level, codec.grid(size))
    assert torch.equal(y_hat, coded.codes)
    x_hat = codec.decompress(codec.compress(x, 70))
    assert x_hat.shape == x.shape
    with torch.inference_mode():
        forward = codec(codec.padded(x), torch.tensor([level]))
    cropped = forward.x_hat[..., : size[0], : size[1]].clamp(0, 1)
    assert torch.allclose(x_hat, cropped, atol=1e-6)
    # Training's densities and the integer tables made of them: about the same.
    assert forward.bits.tolist() == pytest.approx(coded.estimated_bits, rel=0.1, abs=16)


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_real_bytes_are_the_estimate(case, quality):
    codec = case[0]
    x = picture(96, 112)
    level = codec.level_of(quality)
    coded = codec.write(codec.encode_codes(x, level), level)
    assert 8 * len(coded.data[0]) <= 1.01 * coded.estimated_bits[0] + 8 * 64


def test_a_batch_codes_as_its_images_do(case):
    codec = case[0]
    x = picture(33, 47, 3)
    together = codec.compress(x, 60)
    y_hat = codec.decompress(together)
    for i, item in enumerate(together):
        assert torch.allclose(codec.decompress([item])[0], y_hat[i], atol=1e-4)


def test_saved_weights_decode_the_same_latents(case, tmp_path):
    codec, section = case[:2]
    digest = codec.save(tmp_path / "codec.safetensors", section.model_dump())
    loaded = load_codec(tmp_path / "codec.safetensors", name="tiny")
    assert loaded.ready and loaded.digest.hex() == digest[:8]
    level = codec.level_of(90)
    codes = codec.encode_codes(picture(37, 53), level)
    coded = codec.write(codes, level)
    assert loaded.write(codes, level).data == coded.data
    y_hat = loaded.read(coded.data, level, codec.grid((37, 53)))
    assert torch.equal(y_hat, coded.codes)


class Tape(Coder):
    """A coder that remembers every call, and can dictate the first value."""

    def __init__(self, first: torch.Tensor | None = None) -> None:
        self.values, self.priors, self.first = [], [], first
        self.estimator = RateEstimator(1, noise=False)

    def code(self, value, prior, shape):
        out = self.estimator.code(value, prior, shape)
        if not self.values and self.first is not None:
            out = self.first
        self.values.append(value)
        index = prior.indexes(shape).clone()
        self.priors.append((torch.as_tensor(prior.offsets).clone(), index, out))
        return out


@torch.inference_mode()
def test_parameters_do_not_depend_on_what_is_not_yet_coded(case):
    codec, section = case[:2]
    size = (1, 5, 6)
    shape = (1, section.options()["channels"], *size[1:])
    count = torch.arange(float(torch.Size(shape).numel())).view(shape)
    order = Tape()
    codec.entropy.code(order, count, size)
    side = sum(v.numel() for v in order.values) > count.numel()
    calls = [v.flatten().long() for v in order.values[side:]]
    assert torch.equal(torch.cat(calls).sort().values, count.flatten().long())

    y = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    base = Tape()
    codec.entropy.code(base, y, size)
    z_hat = base.priors[0][2] if side else None
    for k, positions in enumerate(calls):
        if not positions.numel():
            continue
        changed = y.clone()
        changed.view(-1)[positions] += 9.0
        other = Tape(z_hat)
        codec.entropy.code(other, changed, size)
        for j in range(side + k + 1):
            for ours, theirs in zip(
                base.priors[j][:2], other.priors[j][:2], strict=True
            ):
                assert torch.equal(ours, theirs), (k, j)


def test_contexts_do_look_at_what_is_coded(tiny_codec):
    """The test above could pass for a model that ignores its context."""
    codec = trained(json.dumps(tiny_codec("residual", "context")))[0]
    y = 4 * torch.randn(1, 12, 5, 6, generator=torch.Generator().manual_seed(3))
    changed = y.clone()
    changed[:, :2] += 9.0
    with torch.inference_mode():
        base = Tape()
        codec.entropy.code(base, y, (1, 5, 6))
        other = Tape(base.priors[0][2])
        codec.entropy.code(other, changed, (1, 5, 6))
    assert not torch.equal(base.priors[-1][0], other.priors[-1][0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"entropy": {"name": "factorized", "channels": 16}},
            ["factorized", "12", "16"],
        ),
        ({"entropy": {"name": "context", "slices": [4, 4]}}, ["8", "12"]),
        ({"entropy": {"name": "context", "slices": [6, 6], "kernels": [3]}}, ["(3,)"]),
        ({"entropy": {"name": "channel", "groups": 13}}, ["13", "12"]),
        ({"transform": {"name": "conv", "knots": 5}}, ["conv", "5", "3"]),
        ({"transform": {"name": "conv", "widht": 5}}, ["transform/conv", "width"]),
        ({"transform": {"name": "convv"}}, ["conv"]),
        ({"knots": 0}, ["0", "at least 2"]),
        ({"knots": 1}, ["0.0008", "one number"]),
        ({"lmbda": [0.2, 0.1]}, ["0.2", "low < high"]),
    ],
)
def test_parts_that_do_not_fit_are_named(tiny_codec, change, words):
    options = {**tiny_codec(), **change}
    name = options.pop("name")
    with pytest.raises(ModelError) as caught:
        build(f"codec/{name}", **options)
    for word in words:
        assert word in str(caught.value)


def test_effort_never_loses_by_the_codecs_own_measure(case):
    """Refined latents cost no more, in bits + λ·distortion, than the plain ones."""
    codec = case[0]
    x, level = picture(64, 64), codec.level_of(50)

    @torch.inference_mode()
    def loss(y, side=None, thrifty=True):
        out = codec.write(y, level, side=side, thrifty=thrifty)
        x_hat = codec.signal.decode(codec, out.codes, level).clamp(0, 1)
        mse = (x_hat - x).square().mean()
        rate = out.estimated_bits[0] / 64**2
        return rate + float(codec.lmbda_of(torch.tensor(level)) * 255**2 * mse)

    y = codec.encode_codes(x, level)
    found = codec.refine(x, y, level, steps=8)
    after = loss(found.codes, found.side, found.thrifty)
    assert after < loss(y)


@pytest.mark.parametrize(
    ("codec", "part"),
    [
        ("latent", {"entropy": {"name": "autoregressive"}}),
        ("token", {"transform": {"name": "conv"}}),
        ("latent-speech", {"transform": {"name": "residual"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_parts_of_another_kind_of_signal_are_refused(codec, part):
    with pytest.raises(ModelError, match=r"a part for (speech|images)"):
        build(f"codec/{codec}", **part)
