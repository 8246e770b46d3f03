# SPDX-License-Identifier: Apache-2.0
"""The coders' promises: what the hash covers, where gradients go, what is returned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polycodec.cuda import crc32c
from polycodec.entropy_models.annealing import RULES, Annealer, Annealing, coded_bits
from polycodec.entropy_models.coders import (
    RangeDecoder,
    RangeEncoder,
    RateEstimator,
)
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.mixture import Mixture, scale_set
from polycodec.entropy_models.priors.scales import SCALE_BINS
from polycodec.entropy_models.priors.shifted import (
    Placed,
    Shifted,
    place,
    shifted_tables,
)
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.entropy_models.priors.tables import LARGEST, gaussian_tables
from polycodec.entropy_models.streams import HASH_BYTES
from polycodec.errors import DeterminismError

SHAPE = (2, 3, 4, 5)
TABLES, SHIFTED = gaussian_tables(), shifted_tables()


def drawn(seed: int, scale: float, shape: tuple[int, ...] = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator)


def gaussian(means: Tensor) -> Gaussian:
    return Gaussian(means, 30 + drawn(2, 3), TABLES)


def shifted(means: Tensor) -> Shifted:
    return Shifted(means, 12 + drawn(2, 3), SHIFTED)


def test_a_counter_returns_what_an_encoder_does():
    means, y = drawn(1, 3), drawn(3, 5)
    y[0, 0, 0, :2] = torch.tensor([40000, -50000])  # beyond what 16 bits code
    shape, prior = tuple(y.shape), gaussian(means)
    counter = TableCounter(Gaussian, SCALE_BINS, LARGEST)
    expected = RangeEncoder(2).code(y, prior, shape)
    assert torch.equal(counter.code(y, prior, shape), expected)
    assert counter.total == y.numel() and counter.counts[:, [0, -1]].sum() == 2


@pytest.mark.parametrize("prior", [gaussian, shifted])
def test_other_means_under_equal_indexes_are_refused(prior):
    means, y = drawn(1, 3), drawn(3, 5)
    encoder = RangeEncoder(2)
    coded = encoder.code(y, prior(means), SHAPE)
    data = encoder.finish()
    decoder = RangeDecoder(data)
    assert torch.equal(decoder.code(None, prior(means), SHAPE), coded)
    decoder.finish()

    moved = means.clone()
    moved[1, 2, 3, 4] += 1.0  # of the second item; a whole step: the same table
    decoder = RangeDecoder(data)
    assert torch.equal(prior(moved).indexes(SHAPE), prior(means).indexes(SHAPE))
    decoder.code(None, prior(moved), SHAPE)
    with pytest.raises(DeterminismError, match="stream 1"):
        decoder.finish()


def test_streams_of_version_1_hashed_indexes_only_and_are_read():
    prior, encoder = gaussian(drawn(1, 3)), RangeEncoder(2)
    coded = encoder.code(drawn(3, 5), prior, SHAPE)
    older = []
    for item, index in zip(encoder.finish(), prior.indexes(SHAPE), strict=True):
        value = crc32c(index.numpy().tobytes())
        assert item[:HASH_BYTES] != value.to_bytes(HASH_BYTES, "little")
        older.append(value.to_bytes(HASH_BYTES, "little") + item[HASH_BYTES:])
    decoder = RangeDecoder(older)
    assert torch.equal(decoder.code(None, prior, SHAPE), coded)
    decoder.finish()


def test_how_passes_are_cut_does_not_change_the_hash():
    """A serial encoder writes in one pass what a decoder reads in many."""
    shape = (1, 7, 1, 6)
    whole, table = place(drawn(1, 9, shape), 12 + drawn(2, 3, shape))
    encoder = RangeEncoder(1, serial=True)
    coded = encoder.code(
        whole + drawn(3, 2, shape), Placed(whole, table, SHIFTED), shape
    )
    decoder = RangeDecoder(encoder.finish())
    for k in range(7):
        prior = Placed(whole[:, k : k + 1], table[:, k : k + 1], SHIFTED)
        part = decoder.code(None, prior, (1, 1, 1, 6))
        assert torch.equal(part, coded[:, k : k + 1])
    decoder.finish()


@pytest.mark.parametrize("noise", [True, False])
def test_the_gradient_of_the_bits_reaches_values_means_and_scales(noise):
    torch.manual_seed(0)
    leaves = [drawn(1, 3), 30 + drawn(2, 3), drawn(3, 5)]
    means, index, y = (leaf.requires_grad_() for leaf in leaves)
    coder = RateEstimator(2, noise=noise)
    y_hat = coder.code(y, Gaussian(means, index, TABLES), SHAPE)
    coder.bits.sum().backward()
    assert all(leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves)
    # Bits depend on the difference only.
    assert torch.allclose(means.grad, -y.grad, atol=1e-5)
    (to_means,) = torch.autograd.grad(
        RateEstimator(2, noise=noise).code(y, Gaussian(means, index), SHAPE).sum(),
        [means],
    )
    assert not to_means.any()  # a latent that is kept exactly does not follow its mean
    assert y_hat.shape == SHAPE


def test_without_noise_the_estimator_returns_what_the_encoder_does():
    means, y = 40 * drawn(1, 3), 40 * drawn(3, 5)
    with torch.no_grad():
        estimated = RateEstimator(2, noise=False).code(y, gaussian(means), SHAPE)
    assert torch.equal(estimated, RangeEncoder(2).code(y, gaussian(means), SHAPE))


PUBLISHED = [Annealing(softness=None), *(Annealing(rule) for rule in RULES)]


@pytest.mark.parametrize("annealing", [*PUBLISHED, Annealing("logit", candidates=3)])
def test_an_annealer_is_random_while_warm_and_rounds_to_the_nearest_when_cold(
    annealing,
):
    means, index, y = drawn(1, 3), 30 + drawn(2, 3), drawn(3, 5)
    prior = Gaussian(means, index, TABLES)
    distance = ((y - prior.offsets) % 1 - 0.5).abs()
    sure = distance > 0.05  # at the middle between two integers even ice is undecided

    def softly(temperature, seed=0):
        generator = torch.Generator().manual_seed(seed)
        as_asked = replace(annealing, warm=temperature, cold=temperature)
        coder = Annealer(2, 0, generator, as_asked)
        return coder.code(y, prior, SHAPE)

    nearest = torch.round(y - prior.offsets) + prior.offsets
    assert torch.allclose(softly(1e-3)[sure], nearest[sure], atol=1e-3)
    assert torch.equal(softly(0.5), softly(0.5))
    assert not torch.equal(softly(0.5), softly(0.5, seed=1))
    leaves = [leaf.requires_grad_() for leaf in (means, index, y)]
    coder = Annealer(2, 0, torch.Generator().manual_seed(0), annealing)
    coder.code(y, Gaussian(means, index, TABLES), SHAPE)
    for grad in torch.autograd.grad(coder.bits.sum(), leaves):
        assert bool(grad.any())


def test_a_coder_that_is_not_thrifty_codes_the_nearest_values():
    """A search has weighed bits against error already: nothing is weighed again."""
    prior = Gaussian(drawn(1, 3), torch.full(SHAPE, 20.0), TABLES)  # σ 0.8
    y = 0.505 * torch.sign(drawn(3, 5)) + prior.offsets  # zero is nearly as near
    plain = RangeEncoder(2, thrifty=False).code(y, prior, SHAPE) - prior.offsets
    spared = RangeEncoder(2).code(y, prior, SHAPE) - prior.offsets
    assert torch.equal(plain, prior.codable(torch.round(y - prior.offsets)).float())
    assert bool((plain != 0).all())
    assert bool((spared == 0).all())
    with torch.no_grad():
        counted = RateEstimator(2, noise=False, thrifty=False).code(y, prior, SHAPE)
    assert torch.equal(counted - prior.offsets, plain)


def test_bits_between_two_integers_are_a_mean_of_their_tables_bits():
    prior = Gaussian(drawn(1, 3), torch.full(SHAPE, 20.0), TABLES)
    low, high = (
        prior.table_bits(torch.full(SHAPE, n, dtype=torch.int32)) for n in (1, 2)
    )
    v = torch.full(SHAPE, 1.25, requires_grad=True)
    bits = coded_bits(prior, v)
    assert torch.allclose(bits, (0.75 * low + 0.25 * high).float())
    (grad,) = torch.autograd.grad(bits.sum(), v)
    assert torch.allclose(grad, (high - low).float())
    # Where there are no tables: a mean of what the density says of both.
    components = torch.stack([prior.index, prior.index + 9], 1)
    mixture = Mixture(0 * components, components, 0 * components, scale_set())
    for free in (Gaussian(prior.mean, prior.index), mixture):
        low, high = (free.bits(torch.full(SHAPE, n)) for n in (1, 2))
        assert torch.allclose(coded_bits(free, v), 0.75 * low + 0.25 * high)
