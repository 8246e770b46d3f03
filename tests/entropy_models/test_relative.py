# SPDX-License-Identifier: Apache-2.0
"""Relative entropy coding: bits, bias of samples, and the same samples everywhere."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from polycodec.cuda import crc32c
from polycodec.entropy_models.relative import generator
from polycodec.entropy_models.relative.blocks import Blocks, NormalPrior
from polycodec.entropy_models.relative.coders import (
    Posterior,
    SampleDecoder,
    SampleEncoder,
    SampleEstimator,
    choose,
    drawn,
)
from polycodec.entropy_models.streams import sealed
from polycodec.errors import BitstreamError, InputError, ModelError


def test_the_generator_is_philox():
    """Random123's vectors for philox4x32, 10 rounds."""
    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    vectors = {
        ((0,) * 4, (0, 0)): "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ((ones,) * 4, (ones, ones)): "408f276d 41c83b0e a20bc7c6 6d5451fd",
        (pi, (0xA4093822, 0x299F31D0)): "d16cfe09 94fdcceb 5001e420 24126ea1",
    }
    for (counter, key), wanted in vectors.items():
        found = generator.words(tuple(torch.tensor([c]) for c in counter), key)
        assert " ".join(f"{int(word):08x}" for word in found) == wanted


def test_the_table_is_the_inverse_of_the_normal_distribution():
    table = generator.normal_table()
    levels = range(0, 65536, 97)
    exact = [4096 * NormalDist().inv_cdf((k + 0.5) / 65536) for k in levels]
    assert np.abs(table[::97] - exact).max() < 0.5001
    assert np.array_equal(table, -table[::-1])
    # Files of samples depend on every number: computed when the table was new.
    assert crc32c(table.astype("<i4").tobytes()) == TABLE


TABLE = 0x08507AEE


def gaussians(
    count: int, kl: float, seed: int = 0, dims: int = 1
) -> tuple[Posterior, NormalPrior]:
    """A prior, and posteriors of random means and scales that cost ``kl`` bits each."""
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.uniform(-np.log(2) * kl / dims, 0, (count, dims)))
    nats = kl * np.log(2) / dims
    square = np.maximum(2 * nats + 1 - scales**2 + 2 * np.log(scales), 0)
    shift = np.sqrt(square) * rng.choice([-1, 1], (count, dims))
    blocks = Blocks(np.arange(dims), np.array([0, dims]), 12)
    prior = NormalPrior.of(np.full(dims, 0.3), np.full(dims, 0.05), blocks)
    means, deviations = torch.from_numpy(shift), torch.from_numpy(scales)
    p_means, p_scales = prior.floats
    return Posterior(p_means + p_scales * means, p_scales * deviations), prior


def sampled(posterior: Posterior, prior: NormalPrior, bits: int, streams: int):
    """Samples in their posteriors' units, and numbers; randomness is not shared."""
    dims = len(prior.means)
    units, numbers = [], []
    for stream in range(streams):
        blocks = Blocks(np.arange(dims), np.array([0, dims]), bits)
        own = NormalPrior(prior.means, prior.scales, blocks, stream=stream)
        some = Posterior(
            posterior.means[stream::streams], posterior.scales[stream::streams]
        )
        numbers.append(choose(some, own, 0))
        z = drawn(numbers[-1][:, None], own)
        units.append((z - some.means) / some.scales)
    return torch.cat(units), torch.cat(numbers)


@pytest.mark.parametrize("kl, dims, bits", [(1.0, 1, 7), (5.0, 4, 10)])
def test_samples_are_the_posteriors(kl, dims, bits):
    posterior, prior = gaussians(800, kl, dims=dims)
    assert posterior.bits(prior).sum(1).mean() == pytest.approx(kl, rel=0.02)
    unit, numbers = sampled(posterior, prior, bits, 80)
    # Of 80 streams of their own: four deviations of the mean and the variance.
    assert abs(unit.mean()) < 4 / (80 * dims) ** 0.5 / 2
    assert abs(unit.var() - 1) < 4 * (2 / (80 * dims)) ** 0.5 / 2
    # A* favours small numbers: log2 of them is the KL and little more.
    assert 0.6 * kl < torch.log2(numbers + 1.0).mean() < kl + 1


def test_too_few_candidates_are_drawn_towards_the_prior():
    posterior, prior = gaussians(300, 6.0)
    unit, _ = sampled(posterior, prior, 3, 30)
    assert unit.var() > 2


def test_equal_distributions_give_number_0(weights):
    _, prior, _ = weights
    same = Posterior(*(v.expand(2, 60) for v in prior.floats))
    for k in range(len(prior.blocks)):
        assert choose(same, prior, k).tolist() == [0, 0]


def _one():
    return np.arange(1), np.array([0, 1])


@pytest.fixture(scope="module")
def weights():
    """Posteriors of three signals over 60 weights, a prior in blocks of 10 bits."""
    rng = np.random.default_rng(3)
    means, scales = rng.normal(0, 0.1, 60), rng.uniform(0.05, 0.2, 60)
    own = torch.from_numpy(means + scales * rng.normal(0, 1, (3, 60)))
    posterior = Posterior(
        own, torch.from_numpy(scales * rng.uniform(0.2, 0.9, (3, 60)))
    )
    blocks = Blocks(np.arange(60), np.array([0, 60]), 10)
    cost = posterior.bits(NormalPrior.of(means, scales, blocks)).mean(0)
    blocks = Blocks.fit(cost, 10, room=1.0)
    return posterior, NormalPrior.of(means, scales, blocks, stream=7), cost


def test_blocks_are_filled_and_not_over(weights):
    _, prior, cost = weights
    blocks = prior.blocks
    sums = [float(cost[blocks.dimensions(k)].sum()) for k in range(len(blocks))]
    sizes = np.diff(blocks.limits)
    assert all(s <= 9 or n == 1 for s, n in zip(sums, sizes, strict=True))
    following = [float(cost[blocks.dimensions(k)[0]]) for k in range(1, len(blocks))]
    assert all(s + c > 9 for s, c in zip(sums[:-1], following, strict=True))
    assert not np.array_equal(blocks.order, np.arange(60))


def test_a_decoder_has_the_samples_of_the_encoder(weights):
    posterior, prior, _ = weights
    encoder = SampleEncoder(3)
    z = encoder.code(posterior, prior, (3, 60))
    again = encoder.code(posterior, prior, (3, 60))
    assert torch.equal(z, again) and not torch.equal(z[0], z[1])
    data = [sealed(item, b"context") for item in encoder.finish()]
    assert {len(item) for item in data} == {4 + 2 * -(-len(prior.blocks) * 10 // 8)}
    decoder = SampleDecoder(data, context=b"context")
    assert torch.equal(decoder.code(None, prior, (3, 60)), z)
    assert torch.equal(decoder.code(None, prior, (3, 60)), z)
    decoder.finish()


def test_damage_and_another_prior_are_named(weights):
    posterior, prior, _ = weights
    encoder = SampleEncoder(3)
    encoder.code(posterior, prior, (3, 60))
    data = [sealed(item, b"") for item in encoder.finish()]

    def decode(items, prior=prior, context=b""):
        decoder = SampleDecoder(items, context=context)
        decoder.code(None, prior, (3, 60))
        decoder.finish()

    decode(data)
    for at in range(0, len(data[0]), 3):
        bad = bytearray(data[0])
        bad[at] ^= 1 << at % 8
        with pytest.raises(BitstreamError):
            decode([bytes(bad), *data[1:]])
    for wrong in (data[0][:-1], data[0] + b"\0", b"abc"):
        with pytest.raises(BitstreamError):
            decode([wrong])
    other = NormalPrior(prior.means + 1, prior.scales, prior.blocks, stream=7)
    for given in ({"prior": other}, {"context": b"x"}):
        with pytest.raises(BitstreamError, match="another prior"):
            decode(data, **given)


def test_threads_and_the_default_type_change_no_sample(weights):
    posterior, prior, _ = weights
    numbers = [choose(posterior, prior, k) for k in range(len(prior.blocks))]
    z, threads = drawn(torch.stack(numbers, 1), prior), torch.get_num_threads()
    try:
        for count, dtype in ((1, torch.float64), (3, torch.float16)):
            torch.set_num_threads(count)
            torch.set_default_dtype(dtype)
            again = [choose(posterior, prior, k) for k in range(len(prior.blocks))]
            assert torch.equal(torch.stack(again), torch.stack(numbers))
            assert torch.equal(drawn(torch.stack(again, 1), prior), z)
            assert z.dtype == torch.float32
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
    one = drawn(torch.stack(numbers, 1)[1:2], prior)  # any one alone
    assert torch.equal(one[0], z[1])


def test_the_estimator_counts_what_the_divergence_is(weights):
    posterior, prior, _ = weights
    means = posterior.means.clone().requires_grad_()
    estimator = SampleEstimator(3)
    own = Posterior(means, posterior.scales)
    sample = estimator.code(own, prior, (3, 60))
    p = torch.distributions.Normal(*prior.floats)
    q = torch.distributions.Normal(posterior.means, posterior.scales)
    wanted = torch.distributions.kl_divergence(q, p).sum(1) / np.log(2)
    assert torch.allclose(estimator.bits, wanted)
    (sample.sum() + estimator.bits.sum()).backward()
    assert means.grad.abs().min() > 0


def test_what_is_refused(weights):
    posterior, prior, _ = weights
    with pytest.raises(InputError, match="expected \\(batch"):
        SampleEncoder(3).code(posterior, prior, (3, 59))
    zero = Posterior(posterior.means, posterior.scales * 0)
    with pytest.raises(InputError, match="not above 0"):
        SampleEncoder(3).code(zero, prior, (3, 60))
    with pytest.raises(ModelError, match="permutation"):
        Blocks(np.array([0, 0]), np.array([0, 2]), 8)
    with pytest.raises(ModelError, match="limits"):
        Blocks(np.array([1, 0]), np.array([0, 1]), 8)
    with pytest.raises(ModelError, match="scale"):
        NormalPrior(np.zeros(1, int), np.zeros(1, int), Blocks(*_one(), 8))
    with pytest.raises(InputError, match="grid"):
        NormalPrior.of(np.zeros(1), np.array([1e9]), Blocks(*_one(), 8))
