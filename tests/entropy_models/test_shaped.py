# SPDX-License-Identifier: Apache-2.0
"""Generalised normal densities: against closed forms, and as integer tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.priors.scales import SCALE_BINS, normal_mass
from polycodec.entropy_models.priors.shaped import (
    BETAS,
    Shaped,
    shaped_mass,
    shaped_tables,
)


@pytest.fixture(scope="module")
def tables():
    return shaped_tables()


def test_shape_two_is_the_normal_density():
    far = torch.arange(12, dtype=torch.float64)
    sigma = torch.full_like(far, 1.7)
    found = shaped_mass(far, sigma, torch.full_like(far, BETAS.index(2.0)))
    assert torch.allclose(found, normal_mass(far, sigma), rtol=1e-6)


def test_shape_one_is_the_laplace_density():
    far = torch.arange(1, 12, dtype=torch.float64)
    width = 1.7 / math.sqrt(2)
    sigma = torch.full_like(far, 1.7)
    found = shaped_mass(far, sigma, torch.full_like(far, BETAS.index(1.0)))
    expected = (torch.exp(-(far - 0.5) / width) - torch.exp(-(far + 0.5) / width)) / 2
    assert torch.allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", range(len(BETAS)))
def test_every_shape_has_the_deviation_that_its_scale_says(shape):
    far = torch.arange(-4000, 4001, dtype=torch.float64)
    sigma = torch.full_like(far, 20.0)
    mass = shaped_mass(far.abs(), sigma, torch.full_like(far, shape))
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)
    assert (mass * far**2).sum().sqrt().item() == pytest.approx(20, rel=2e-3)


def test_bits_have_gradients_to_all_three_numbers():
    v = torch.tensor([0.0, 0.5, 3.0, 40.0])
    three = [torch.full((4,), x, requires_grad=True) for x in (0.1, 20.0, 1.3)]
    mean, index, shape = three
    Shaped(mean, index, None, shape=shape).bits(v - mean).sum().backward()
    for value in three:
        assert value.grad is not None and value.grad.isfinite().all()
        assert value.grad.abs().max() > 0


def test_bytes_are_what_the_tables_say_and_come_back(tables):
    generator = torch.Generator().manual_seed(5)
    size = (2, 6, 1, 900)

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(size, generator=generator)

    prior = Shaped(noise(2), 20 + noise(8), tables, shape=1.5 + noise(1))
    value = noise(4)
    coder = RangeEncoder(2, estimate=True)
    coded = coder.code(value, prior, size)
    data = coder.finish()
    bits = sum(coder.estimated_bits)
    assert bits <= 8 * sum(map(len, data)) <= 1.01 * bits + 2 * 8 * 16
    decoder = RangeDecoder(data)
    assert torch.equal(decoder.code(None, prior, size), coded)
    decoder.finish()


def test_tables_of_heavier_tails_give_far_values_fewer_bits(tables):
    assert len(tables.minimum) == len(BETAS) * SCALE_BINS
    far = torch.full((1, 1, 1, 1), 4)
    costs = []
    for shape in range(len(BETAS)):
        prior = Shaped(
            torch.zeros(1, 1, 1, 1),
            torch.full((1, 1, 1, 1), 22.0),
            tables,
            shape=torch.full((1, 1, 1, 1), float(shape)),
        )
        costs.append(prior.table_bits(far).item())
    assert np.all(np.diff(costs) > 0)
