# SPDX-License-Identifier: Apache-2.0
"""Integer tables against the exact entropy of what they stand for.

Expected values are computed here from erfc and from the density itself, never from
the code under test.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from polycodec.entropy_models.models.factorized import FactorizedModel
from polycodec.entropy_models.priors.factorized import FactorizedPrior
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.tables import gaussian_tables, tables_of_pmfs

SCALES = [0.11 * (64 / 0.11) ** (k / 63) for k in range(64)]


def normal_pmf(sigma: float, reach: int) -> np.ndarray:
    """P(round(v) = n) for n = -reach … reach of v ~ N(0, sigma²)."""

    def mass(n: int) -> float:
        low, high = (abs(n) - 0.5) / sigma, (abs(n) + 0.5) / sigma
        if n == 0:
            return math.erf(0.5 / sigma / math.sqrt(2))
        return 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))

    return np.array([mass(n) for n in range(-reach, reach + 1)])


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_tables()


@pytest.mark.parametrize("k", range(64))
def test_a_gaussian_bin_costs_its_entropy(gaussian, k):
    """Within 0.5 % + 0.002 bit a symbol; wide bins pay for escapes, up to 5.2 %.

    255 symbols hold 99.99 % at σ = 32 and 95 % at σ = 64; the rest costs 16 raw bits.
    """
    reach = max(4, math.ceil(9 * SCALES[k]))
    pmf = normal_pmf(SCALES[k], reach)
    assert pmf.sum() == pytest.approx(1, abs=1e-9)
    symbols, index = np.arange(-reach, reach + 1), np.full(2 * reach + 1, k)
    coded = gaussian.clamp(symbols, index)
    cost = gaussian.ideal[gaussian.rows(coded, index)]
    positive = pmf[pmf > 0]
    entropy = float(-(positive * np.log2(positive)).sum())
    spent = float((pmf * cost).sum())
    share = 0.005 if SCALES[k] < 30 else 0.053
    # One symbol that always comes costs nothing: less than the entropy, by clamping.
    assert spent <= entropy * (1 + share) + 0.002
    assert spent >= entropy - 0.004


def test_what_a_table_clamps_is_rare(gaussian):
    """A table without an escape changes symbols: at most one in 2^13 of them."""
    silent = np.flatnonzero(~gaussian.has_escape)
    assert silent.size and silent.max() < 8
    for k in silent:
        pmf, reach = normal_pmf(SCALES[k], 4), 4
        kept = slice(gaussian.minimum[k] + reach, gaussian.maximum[k] + reach + 1)
        assert 1 - pmf[kept].sum() < 2.0**-13


def test_gaussian_tables_are_symmetric(gaussian):
    for k in range(64):
        rows = slice(gaussian.first[k] + 1, gaussian.first[k + 1])
        freqs = gaussian.freqs[rows].astype(int)
        assert gaussian.minimum[k] == -gaussian.maximum[k]
        assert np.abs(freqs - freqs[::-1]).max() <= 1


def test_training_counts_what_the_tables_cost(gaussian):
    """The bits of the loss are those of the exact density, at every bin centre."""
    for k in (0, 10, 30, 50, 63):
        values = np.arange(-3, 4)
        prior = Gaussian(torch.tensor(0.0), torch.tensor(float(k)))
        found = prior.bits(torch.tensor(values))
        exact = -np.log2(np.maximum(normal_pmf(SCALES[k], 3), 1e-9))
        # float32 cannot see a tail below 2^-24 beside 1.
        seen = exact < 20
        assert np.allclose(found.numpy()[seen], exact[seen], rtol=2e-3, atol=1e-5)


def trained_prior(channels: int = 3) -> FactorizedPrior:
    """Densities fitted to Laplacians of three widths, one of them off centre."""
    torch.manual_seed(0)
    prior = FactorizedPrior(channels)
    optimizer = torch.optim.Adam(prior.parameters(), 0.03)
    width = torch.tensor([0.3, 2.0, 9.0]).view(1, -1, 1, 1)
    shift = torch.tensor([0.0, 3.0, -20.0]).view(1, -1, 1, 1)
    laplace = torch.distributions.Laplace(0.0, 1.0)
    for _ in range(150):
        v = laplace.sample((1, channels, 1, 512)) * width + shift
        loss = prior.bits(v + torch.rand_like(v) - 0.5).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return prior


def test_factorized_tables_cost_what_the_density_says():
    prior = trained_prior()
    tables = prior.freeze_tables()
    v = torch.arange(-255, 256).float()
    bits = prior.bits(v.view(1, 1, 1, -1).expand(1, 3, 1, -1))[0, :, 0].detach()
    pmf = torch.exp2(-bits.double()).numpy()
    assert np.abs(pmf.sum(axis=1) - 1).max() < 0.01
    for c in range(3):
        index = np.full(511, c)
        cost = tables.ideal[tables.rows(v.numpy().astype(int), index)]
        entropy = float(-(pmf[c] * np.log2(pmf[c])).sum())
        spent = float((pmf[c] * cost).sum())
        assert entropy - 0.002 <= spent <= entropy * 1.01 + 0.005


def test_factorized_tables_follow_the_density():
    tables = trained_prior().freeze_tables()
    assert tables.has_escape.all() and tables.precision == 14
    middle = [
        tables.symbols[a + 1 : b][np.argmax(tables.freqs[a + 1 : b])]
        for a, b in zip(tables.first[:-1], tables.first[1:], strict=True)
    ]
    assert abs(middle[0]) <= 1 and abs(middle[1] - 3) <= 1 and abs(middle[2] + 20) <= 3


@pytest.mark.parametrize("times", [1, 4])
@torch.no_grad()
def test_a_density_starts_wide_enough_for_its_channel(times):
    """Also where it is trained, and starts anew: a run that goes on from another."""
    torch.manual_seed(0)
    model = FactorizedModel(3)
    for _ in range(times - 1):
        model.initialise(torch.full((3,), 0.01))
        for p in model.parameters():
            p += torch.rand_like(p)
    model.initialise(torch.tensor([0.125, 1.0, 10.0]))
    v = torch.arange(-255.0, 256.0)
    bits = model.prior_y.bits(v.view(1, 1, 1, -1).expand(1, 3, 1, -1))[0, :, 0]
    pmf = torch.exp2(-bits)
    mean = (pmf * v).sum(1) / pmf.sum(1)
    found = ((pmf * (v - mean[:, None]) ** 2).sum(1) / pmf.sum(1)).sqrt()
    # The integers' own width, 12^-½, adds to the narrowest.
    assert found.tolist() == pytest.approx([0.58, 4.0, 40.0], rel=0.15)


def test_a_density_outside_the_range_still_has_a_table():
    """A channel that wandered beyond ±255 codes by escapes; it used to crash."""
    edge = np.concatenate([[1.0], np.zeros(510)])
    pmf = np.stack([np.full(511, 2e-9), edge])
    tables = tables_of_pmfs(pmf, -255)
    assert tables.has_escape.all()
    symbols, index = np.array([300, -255]), np.array([0, 1])
    assert (tables.clamp(symbols, index) == symbols).all()
    assert tables.bits([300], [0]) < 17 and tables.bits([-255], [1]) < 0.01
