# SPDX-License-Identifier: Apache-2.0
"""Transforms of speech: causality, memory, the filter bank; beside the contracts."""

from __future__ import annotations

import math

import pytest
import torch

from polycodec.codecs.transforms.speech.pqmf import FilterBank
from polycodec.codecs.transforms.speech.waveform import Conv, Up
from polycodec.errors import ModelError
from polycodec.registry import build

D = 6


def made(name: str, options: dict) -> torch.nn.Module:
    """A transform all of whose paths carry something."""
    torch.manual_seed(0)
    part = build(f"transform/{name}", channels=D, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in part.parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.add_(0.2 * noise if value.ndim > 1 else 0.02 * noise)
    return part.eval()


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("lstm", [0, 1])
def test_a_causal_seanet_does_not_know_the_future(lstm):
    part = made("seanet", {"width": 4, "causal": True, "lstm": lstm})
    x = noise(1, 1, 20 * part.hop)
    other = x.clone()
    other[..., 10 * part.hop :] = 0
    z, changed = part.g_a(x), part.g_a(other)
    assert torch.equal(z[..., :10], changed[..., :10])
    assert not torch.equal(z[..., 10], changed[..., 10])
    cut = 10 * part.hop
    y, changed = part.g_s(z), part.g_s(torch.cat([z[..., :10], 0 * z[..., 10:]], -1))
    assert torch.equal(y[..., :cut], changed[..., :cut])


@torch.inference_mode()
def test_an_lstm_has_no_end_to_its_memory():
    part = made("seanet", {"width": 4, "lstm": 2})
    assert part.contexts()[0] is None and part.contexts()[1] is None
    x = noise(1, 1, 40 * part.hop)
    other = x.clone()
    other[..., : part.hop] += 1.0
    assert not torch.equal(part.g_a(x)[..., 30], part.g_a(other)[..., 30])


def test_a_pqmf_with_statistics_over_time_declares_no_context():
    part = made("pqmf", {"widths": (8, 16, 16), "norm": "group"})
    assert part.contexts()[0] is None and part.contexts()[1] is None


def test_the_published_size_of_seanet():
    """14.85 M parameters with 32 base channels, 128 latent ones, two-layer LSTMs."""
    part = build("transform/seanet", channels=128, width=32, lstm=2)
    assert sum(p.numel() for p in part.parameters()) == pytest.approx(14.85e6, rel=1e-3)
    # EnCodec and its kin: 16 kHz, hop 320, 50 frames a second.
    assert part.hop == 320


@torch.inference_mode()
@pytest.mark.parametrize("bands", [4, 8, 16])
def test_the_bank_reconstructs_to_59_decibels(bands):
    """59.9 dB is the figure of this design; the edges have a transient of their own."""
    bank = FilterBank(bands)
    assert bank.filters.shape[-1] == {4: 95, 8: 189, 16: 377}[bands]
    x = noise(1, 1, 16000)
    error = (bank.synthesise(bank.analyse(x)) - x)[..., 400:-400]
    kept = x[..., 400:-400].square().sum()
    assert 10 * math.log10(float(kept / error.square().sum())) > 59


@torch.inference_mode()
def test_bands_run_upwards_in_frequency():
    """A tone in band k is there, and turns into the same low tone in every band."""
    bank = FilterBank(16)
    t = torch.arange(16000.0)
    inner = []
    for band in (2, 3, 9, 12):
        tone = torch.sin(math.pi * (band + 0.3) / 16 * t).view(1, 1, -1)
        u = bank.analyse(tone)[0, :, 100:-100]
        energy = u.square().mean(dim=1)
        assert energy.argmax() == band and energy[band] > 0.9 * energy.sum()
        spectrum = torch.fft.rfft(u[band]).abs()
        inner.append(float(spectrum.argmax()) / len(spectrum))
    assert inner == pytest.approx([0.3] * 4, abs=0.01)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
def test_reach_is_what_a_layer_looks_at(stride, causal):
    """By gradient: the inputs that an output depends on, for both layers."""
    layers = [Conv(1, 1, 2 * stride + 1, stride, causal=causal)]
    layers.append(Up(1, 1, stride, causal=causal))
    for layer in layers:
        x = torch.ones(1, 1, 30 * stride, requires_grad=True)
        y = layer(x)
        o = y.shape[-1] // 2
        y[0, 0, o].backward()
        looked = x.grad[0, 0].nonzero().flatten()
        assert (int(looked.min()), int(looked.max())) == layer.reach(o, o)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("seanet", {"ratios": (2, 0)}, ["ratios", "(2, 0)"]),
        ("seanet", {"width": 0}, ["width"]),
        ("pqmf", {"bands": 12}, ["12 bands"]),
        ("pqmf", {"strides": (5, 5)}, ["even"]),
        ("pqmf", {"widths": (8, 8)}, ["2 widths", "2 strides"]),
        ("pqmf", {"norm": "batch"}, ["batch", "weight"]),
    ],
)
def test_impossible_options_are_named(name, options, words):
    with pytest.raises(ModelError) as caught:
        build(f"transform/{name}", channels=D, **options)
    for word in words:
        assert word in str(caught.value)
