# SPDX-License-Identifier: Apache-2.0
"""Priors: the integers, what they cost, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prior_streams import (
    GOLDEN,
    LEVELS,
    draw,
    encode,
    property_test,
    random_mixture,
    random_prior,
)

from polycodec.cuda import Categorical, Mixture, ScaleSet, crc32c, shares
from polycodec.cuda.priors.categorical import POWERS
from polycodec.cuda.priors.integer_cdf import PRECISION, WHOLE, estimate
from polycodec.cuda.priors.mixture import MEAN_LIMIT, phi_table
from polycodec.errors import InputError, ModelError


def test_constants_are_what_the_formulas_say_and_never_change():
    x = np.arange(-576, 577) / 128
    exact = np.array([32767.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    assert abs(phi_table() - exact).max() <= 0.5 + 1e-6
    assert (np.diff(phi_table().astype(int)) >= 0).all()
    assert crc32c(phi_table().astype("<u2").tobytes()) == GOLDEN["phi"]
    assert POWERS.tolist() == [round(2 ** (18 - f / 32)) for f in range(32)]


def test_scales_are_rounded_as_documented():
    sigma = np.array([0.11, 1.0, 64.0, 500.0])
    scales = ScaleSet.from_scales(sigma)
    np.testing.assert_array_equal(scales.reciprocal, np.rint(2**21 / sigma))
    far = scales.reach / 64 / sigma
    assert (far > 3).all() and (far < 6).all()
    again = ScaleSet.from_arrays(scales.to_arrays())
    assert again.fingerprint() == scales.fingerprint()
    other = ScaleSet(scales.reciprocal, scales.reach + 1)
    assert other.fingerprint() != scales.fingerprint()
    for bad in ([], [0.0], [np.nan], [1e-9], [[1.0]], [1e9]):
        with pytest.raises(ModelError):
            ScaleSet.from_scales(bad)
    for arrays in ({}, {"reciprocal": [0], "reach": [0]}, {"reciprocal": [1] * 300}):
        with pytest.raises(ModelError):
            ScaleSet.from_arrays({"reach": [5] * 300, **arrays} if arrays else {})


@property_test
@given(seed=st.integers(0, 2**32 - 1))
def test_every_slot_has_a_frequency_and_all_together_are_everything(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, 5)
    slots = prior.expand(0, 5)
    assert (slots.freqs >= 1).all()
    sums = np.add.reduceat(slots.freqs, slots.first[:-1])
    assert (sums == WHOLE).all()
    # An encoder computes two edges and must find those of the whole row.
    symbols = draw(rng, prior)
    found = prior.intervals(symbols)
    number = np.where(found.escaped, 0, symbols - slots.base)
    row = slots.first[:-1] + number
    np.testing.assert_array_equal(found.starts, slots.starts[row])
    np.testing.assert_array_equal(found.freqs, slots.freqs[row])


def test_windows_hold_what_every_component_reaches():
    rng = np.random.default_rng(7)
    for _ in range(20):
        mixture = random_mixture(rng, 50)
        first, bits = mixture.window()
        last = first + (1 << bits) - 2
        reach = mixture.scales.reach[mixture.indexes] / 64
        low = np.where(mixture.weights > 0, mixture.means / 64 - reach, np.inf)
        high = np.where(mixture.weights > 0, mixture.means / 64 + reach, -np.inf)
        fits = bits < 12
        assert (first <= low.min(axis=0) + 0.5)[fits].all()
        assert (last >= high.max(axis=0) - 0.5)[fits].all()


def test_shares_are_in_proportion():
    logits = np.array([[0, -32, -64], [5, 5, 5], [0, -30_000, -30_000]])
    np.testing.assert_array_equal(
        shares(logits, 256), [[145, 73, 38], [85, 85, 86], [254, 1, 1]]
    )


def test_estimates_are_near_the_logarithm():
    freqs = np.arange(1, WHOLE + 1)
    exact = 256 * (PRECISION - np.log2(freqs))
    assert abs(estimate(freqs) - exact).max() < 4.5
    assert estimate(np.array([WHOLE])) == 0


def mixture_load(rng, n: int, components: int, scale: float):
    """A mixture with scales around ``scale``; symbols drawn from it in floats."""
    bins = np.exp(np.linspace(np.log(0.11), np.log(64), 64))
    near = np.log(scale) + rng.normal(0, 0.5, (components, n))
    indexes = abs(np.log(bins)[:, None, None] - near).argmin(axis=0)
    means = rng.normal(0, scale, (components, n)) + rng.normal(0, 9, n)
    weights = shares(np.rint(rng.normal(0, 32, (n, components))).astype(int), 256).T
    means = np.rint(64 * means).astype(int)
    own = (rng.random(n) * 256 >= np.cumsum(weights, axis=0)).sum(axis=0)
    at = (own, np.arange(n))
    values = np.rint(rng.normal(means[at] / 64, bins[indexes[at]])).astype(int)
    from_mean, spread = abs(values - means / 64), bins[indexes] * math.sqrt(2)
    erfc = np.vectorize(math.erfc)
    tails = erfc((from_mean - 0.5) / spread) - erfc((from_mean + 0.5) / spread)
    ideal = -np.log2((weights / 512 * tails).sum(axis=0)).sum()
    mixture = Mixture(ScaleSet.from_scales(bins), means, indexes, weights)
    return values, mixture, ideal


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("scale", [0.36, 1.93, 7.7])
def test_mixtures_cost_little_over_the_ideal(components, scale):
    rng = np.random.default_rng(components)
    values, mixture, ideal = mixture_load(rng, 8000, components, scale)
    assert mixture.bits(values) <= 1.0015 * ideal
    data = encode([(values, mixture)], LEVELS[-1], lanes=0)
    assert len(data) <= mixture.bits(values) / 8 + 4


@pytest.mark.parametrize("size", [16, 256])
def test_categorical_costs_little_over_the_ideal(size):
    rng = np.random.default_rng(size)
    p = rng.gamma(0.3, size=(3000, size)) + 1e-9
    p /= p.sum(axis=1, keepdims=True)
    logits = np.maximum(np.rint(32 * np.log2(p)), -32768).astype(int)
    values = (p.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)
    ideal = -np.log2(p[np.arange(3000), values]).sum()
    prior = Categorical(logits)
    assert prior.bits(values) <= ideal * 1.001 + 3000 * 1.6 * size / WHOLE


def test_parameters_that_make_no_distribution_are_refused():
    scales = ScaleSet.from_scales([1.0, 2.0])
    means, indexes = np.zeros((2, 3), int), np.ones((2, 3), int)
    half = np.full((2, 3), 128)
    Mixture(scales, means, indexes, half)
    for parts in [
        (means, indexes, None),
        (means, indexes, half + 1),
        (means, indexes, half * [[3], [-1]]),
        (means, indexes + 1, half),
        (means, indexes - 2, half),
        (means + MEAN_LIMIT + 1, indexes, half),
        (means + 0.5, indexes, half),
        (means[:, :2], indexes, half),
        (means[0], indexes[0], half[0]),
        (np.zeros((5, 3), int), np.zeros((5, 3), int), np.full((5, 3), 51)),
    ]:
        with pytest.raises(InputError):
            Mixture(scales, *parts)
    for logits in (np.zeros((3, 0), int), np.zeros((1, 4097), int), np.zeros(3, int)):
        with pytest.raises(InputError):
            Categorical(logits)
    for logits in (np.zeros((3, 2)), np.full((1, 2), 32768)):
        with pytest.raises(InputError):
            Categorical(logits)
