# SPDX-License-Identifier: Apache-2.0
"""Mixtures in an entropy model: one procedure, trained in floats, coded in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from emulation import Emulator, library
from tiny_parts import shaken

from polycodec.cuda import shares
from polycodec.entropy_models import streams
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder, RateEstimator
from polycodec.entropy_models.models.context import ContextModel
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.mixture import Mixture, scale_set, weights_of
from polycodec.entropy_models.priors.scales import LOG_STEP
from polycodec.errors import DeterminismError, UsageError

SHAPE = (2, 5, 6, 7)


def mixture(components: int = 3, seed: int = 1, scales=True, least=1) -> Mixture:
    rng = torch.Generator().manual_seed(seed)
    shape = (SHAPE[0], components, *SHAPE[1:])
    centres = 6 * torch.randn(shape, generator=rng)
    index = 20 + 10 * torch.randn(shape, generator=rng)
    logits = torch.randn(shape, generator=rng)
    return Mixture(centres, index, logits, scale_set() if scales else None, least=least)


def values(seed: int = 2) -> torch.Tensor:
    return 8 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("least", [0, 1])
def test_values_come_back_and_the_estimate_is_near(least):
    prior, y = mixture(least=least), values()
    y[0, 0, 0, 0], y[1, 2, 3, 4] = 1e6, -900.3  # clamped, and an escape
    encoder = RangeEncoder(2, estimate=True)
    coded = encoder.code(y, prior, SHAPE)
    data = encoder.finish()
    assert coded[0, 0, 0, 0] == 2**15 - 1 and coded[1, 2, 3, 4] <= -899
    decoder = RangeDecoder(data)
    assert torch.equal(decoder.code(None, mixture(least=least), SHAPE), coded)
    decoder.finish()
    assert (coded == torch.round(y)).float().mean() > 0.8
    estimator = RateEstimator(2, noise=False)
    assert torch.equal(estimator.code(y, prior, SHAPE).detach(), coded)
    sigma = 0.11 * torch.exp(prior.index.clamp(0, 63)[:, 0] * LOG_STEP)
    y = prior.centres[:, 0] + sigma * values() / 8  # likely ones
    encoder, estimator = RangeEncoder(2), RateEstimator(2, noise=False)
    encoder.code(y, prior, SHAPE), estimator.code(y, prior, SHAPE)
    sizes = torch.tensor([8.0 * len(item) for item in encoder.finish()])
    assert ((sizes - 32 - estimator.bits).abs() < 0.01 * sizes + 20).all()


def test_one_component_is_a_gaussian_with_its_mean():
    prior, y = mixture(1), values()
    gaussian = Gaussian(prior.centres[:, 0], prior.index[:, 0])
    expected = gaussian.bits(torch.round(y) - prior.centres[:, 0])
    torch.testing.assert_close(prior.bits(torch.round(y)), expected)


def test_gradients_reach_all_parameters():
    prior = mixture(scales=False)
    parts = (prior.centres, prior.index, prior.logits)
    for part in parts:
        part.requires_grad_()
    y = values().requires_grad_()
    estimator = RateEstimator(2)
    estimator.code(y, prior, SHAPE)
    estimator.bits.sum().backward()
    for part in (*parts, y):
        assert torch.isfinite(part.grad).all() and part.grad.abs().max() > 0


def test_weights_are_those_of_the_coder():
    rng = np.random.default_rng(3)
    logits = rng.integers(-2000, 2000, (4, 3, 50))
    found = weights_of(torch.from_numpy(logits)).numpy()
    np.testing.assert_array_equal(
        found, np.moveaxis(shares(np.moveaxis(logits, 1, -1), 256), -1, 1)
    )


def test_weights_may_vanish_and_are_near_what_they_are_of():
    logits = np.random.default_rng(4).integers(-900, 900, (4, 3, 500))
    found = weights_of(torch.from_numpy(logits), least=0).numpy()
    exact = np.exp2(logits / 32) / np.exp2(logits / 32).sum(axis=1, keepdims=True)
    assert (found.sum(axis=1) == 256).all()
    assert np.abs(found - 256 * exact).max() < 1.01
    assert (found[exact < 1e-5] == 0).all() and (exact < 1e-5).sum() > 1000


def test_what_is_sure_costs_nothing_where_weights_may_vanish():
    # One component knows; two wide ones have a chance of one in 100,000.
    index = torch.tensor([0.0, 30.0, 30.0]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 64, 64)
    logits = torch.tensor([0.0, -16.6, -16.6]).view(1, 3, 1, 1, 1).expand_as(index)
    sizes = []
    for least in (0, 1):
        prior = Mixture(0 * index, index, logits, scale_set(), least=least)
        encoder = RangeEncoder(1)
        encoder.code(torch.zeros(1, 1, 64, 64), prior, (1, 1, 64, 64))
        sizes.append(len(encoder.finish()[0]))
        prior.distributions()[0].check()
    assert sizes[0] < sizes[1] - 4


def test_other_parameters_are_told():
    encoder = RangeEncoder(2)
    encoder.code(values(), mixture(), SHAPE)
    decoder = RangeDecoder(encoder.finish())
    other = mixture()
    other.logits[1, 0, 0, 0, 0] += 1
    decoder.code(None, other, SHAPE)
    with pytest.raises(DeterminismError, match="stream 1"):
        decoder.finish()


def test_the_emulated_device_writes_and_reads_the_same_streams():
    try:
        library()
    except UsageError as error:
        pytest.skip(str(error))
    prior, symbols = mixture(), torch.round(values()).int()
    host, device = streams.HostWriter(2), streams.DeviceWriter(2, Emulator())
    for writer in (host, device):
        writer.put_prior(symbols, prior)
    data = host.finish()
    assert device.finish() == data
    reader = streams.DeviceReader(data, Emulator(), None, b"")
    assert torch.equal(reader.get_prior(prior, SHAPE), symbols)
    reader.finish()


def test_a_trained_gaussian_model_becomes_nearly_the_same_mixtures():
    torch.manual_seed(5)
    sizes = {"hyper": 8, "features": 16, "slices": (4, 8), "kernels": (3, 3)}
    gaussian = ContextModel(12, **sizes, hidden=16)
    y = torch.randn(1, 12, 24, 24) * torch.logspace(-1, 1, 12).view(-1, 1, 1)
    gaussian.initialise(y.std(dim=(0, 2, 3)))
    mixture = ContextModel(12, **sizes, hidden=16, prior={"name": "mixture"})
    known = gaussian.state_dict()
    assert mixture.nets[0].out.weight.shape != known["nets.0.out.weight"].shape
    left, _ = mixture.load_state_dict(mixture.adopted(known))
    assert not left

    def bits(model):
        coder = RateEstimator(1, noise=False)
        with torch.no_grad():
            model.code(coder, y, (1, 24, 24))
        return float(coder.bits.sum())

    fresh = ContextModel(12, **sizes, hidden=16, prior={"name": "mixture"})
    assert bits(mixture) < 1.02 * bits(gaussian) < 0.9 * bits(fresh)
    means = mixture.nets[0].out.bias[:12].view(3, 4)
    assert (means.diff(dim=0) > 0).all()  # those that start alike would stay alike


def test_references_that_are_added_to_a_trained_model_start_unheard():
    torch.manual_seed(6)
    sizes = {"hyper": 8, "features": 16, "slices": (4, 8), "kernels": (3, 3)}
    trained = shaken(ContextModel(12, **sizes, hidden=16))
    local = {"name": "local", "width": 8}
    more = shaken(ContextModel(12, **sizes, hidden=16, references=[local]))
    known = dict(trained.named_parameters())
    more.load_state_dict(more.adopted(known), strict=False)
    y = 3 * torch.randn(1, 12, 8, 8)
    bits = []
    for model in (trained, more):
        coder = RateEstimator(1, noise=False)
        model.code(coder, y, (1, 8, 8))
        bits.append(float(coder.bits.detach().sum()))
    assert bits[0] == pytest.approx(bits[1], rel=1e-6)
    coder.bits.sum().backward()
    assert all(net.mix.weight.grad[:, 32:].any() for net in more.nets)  # they learn
