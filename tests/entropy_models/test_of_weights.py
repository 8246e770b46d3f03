# SPDX-License-Identifier: Apache-2.0
"""Weights as a message: what the estimate says is what the coder writes."""

from __future__ import annotations

import pytest
import torch

from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder, RateEstimator
from polycodec.entropy_models.models.weights import WeightsModel


def tensors() -> list[torch.Tensor]:
    """Codes as networks have them: wide, narrow, off centre, pruned, tiny, constant."""
    g = torch.Generator().manual_seed(1)
    drawn = [
        20 * torch.randn(3000, generator=g),
        0.6 * torch.randn(5000, generator=g),
        3 * torch.randn(700, generator=g) + 9.3,
        40 * torch.randn(4000, generator=g) * (torch.rand(4000, generator=g) < 0.3),
        torch.full((64,), 5.0),
        torch.zeros(900),
        torch.tensor([117.0]),
        90 * torch.randn(12, generator=g),
    ]
    return [t.round() for t in drawn]


def coded(model, parts, **given):
    y = torch.cat(parts)[None, None]
    size = (1, *map(len, parts))
    encoder = RangeEncoder(1, estimate=True)
    y_hat = model.code(encoder, y, size, **given)
    return y, size, y_hat, encoder.finish()[0]


@pytest.mark.parametrize("spikes", [True, False], ids=["cheaper of two", "one normal"])
def test_the_estimate_is_the_bytes(spikes):
    model, parts = WeightsModel(), tensors()
    given = {} if spikes else {"z": torch.zeros(1, 1, len(parts))}
    y, size, y_hat, data = coded(model, parts, **given)
    assert torch.equal(y_hat, y)
    assert torch.equal(model.code(RangeDecoder([data]), None, size), y)
    counts = RateEstimator(1, noise=False)
    model.code(counts, y, size, **given)
    estimate = float(counts.bits)
    assert abs(8 * len(data) - estimate) <= 0.01 * estimate + 32 * len(parts)


def test_each_tensor_alone_is_estimated_too():
    model = WeightsModel()
    for part in tensors():
        y, size, _, data = coded(model, [part])
        counts = RateEstimator(1, noise=False)
        model.code(counts, y, size)
        # Beside the estimate: the hash of what was derived, 4 bytes, once a stream.
        away = 8 * (len(data) - 4) - float(counts.bits)
        assert abs(away) <= 0.01 * float(counts.bits) + 32, len(part)


def test_a_pruned_tensor_takes_the_spike_and_saves_by_it():
    model, part = WeightsModel(), tensors()[3]
    assert model.spikes(part[None], (len(part),))[0, 0] >= 10
    with_spike = coded(model, [part])[3]
    without = coded(model, [part], z=torch.zeros(1, 1, 1))[3]
    assert len(with_spike) < 0.8 * len(without)
    assert model.spikes(tensors()[0][None], (3000,))[0, 0] == 0


def test_training_makes_codes_cheaper():
    """The gradient of the estimate pulls codes together."""
    model = WeightsModel()
    codes = (20 * torch.randn(1, 1, 2000)).requires_grad_()
    optimizer = torch.optim.Adam([codes], lr=0.5)
    spent = []
    for _ in range(30):
        counts = RateEstimator(1)
        model.code(counts, codes, (1, 1500, 500), z=torch.zeros(1, 1, 2))
        optimizer.zero_grad()
        counts.bits.sum().backward()
        optimizer.step()
        spent.append(float(counts.bits.detach()))
    assert spent[-1] < 0.9 * spent[0]


def test_a_normal_tensor_costs_its_entropy():
    """Written: within 1 % of the entropy of a normal variable in steps of σ / 20."""
    part = (20 * torch.randn(20000, generator=torch.Generator().manual_seed(3))).round()
    data = coded(WeightsModel(), [part])[3]
    entropy = 0.5 * torch.log2(torch.tensor(2 * torch.pi * torch.e * 400)).item()
    assert 8 * len(data) == pytest.approx(20000 * entropy, rel=0.01)
