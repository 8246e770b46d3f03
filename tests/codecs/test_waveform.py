# SPDX-License-Identifier: Apache-2.0
"""Transforms of speech: exact lengths, true contexts, causality, the filter bank."""

from __future__ import annotations

import math

import pytest
import torch

from polycodec.codecs.transforms.speech.pqmf import FilterBank
from polycodec.codecs.transforms.speech.waveform import Conv, Up
from polycodec.errors import ModelError
from polycodec.registry import build, find, names

D = 6
# Small enough for a test; a transform that is not listed is built as it comes.
TINY = {
    "spectral": {"widths": (16, 16), "depths": (1, 2)},
    "seanet": {"width": 4},
    "pqmf": {"widths": (8, 16, 16)},
}
# Speech transforms have a hop, image transforms a stride.
SPEECH = [n.split("/")[1] for n in names("transform/*") if find(n).kind == "speech"]
CASES = [(name, TINY.get(name, {})) for name in SPEECH]
CASES += [("seanet", {"width": 4, "causal": False})]
CASES += [("spectral", {**TINY["spectral"], "causal": True})]
CASES += [("seanet", {"width": 4, "ratios": (3, 5, 7), "causal": True})]


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


@pytest.fixture(params=CASES, ids=[f"{n}-{len(o)}" for n, o in CASES])
def transform(request):
    return made(*request.param)


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_lengths_are_exact(transform, frames):
    z = transform.g_a(noise(2, 1, frames * transform.hop))
    assert z.shape == (2, D, frames)
    assert transform.g_s(z).shape == (2, 1, frames * transform.hop)


def furthest(before: torch.Tensor, after: torch.Tensor, at: int) -> tuple[int, int]:
    """How many frames before and after ``at`` differ, in (1, C, F)."""
    changed = (before != after).any(dim=1)[0].nonzero().flatten()
    return at - int(changed.min()), int(changed.max()) - at


@torch.inference_mode()
def test_the_declared_contexts_are_true(transform):
    """Changing frame k changes only frames that have k in their context."""
    hop, (left, right) = transform.hop, transform.contexts()[0]
    k, frames = right + 2, left + right + 5
    x = noise(1, 1, frames * hop)
    other = x.clone()
    other[..., k * hop : (k + 1) * hop] += noise(1, 1, hop, seed=3)
    behind, ahead = furthest(transform.g_a(x), transform.g_a(other), k)
    assert behind <= right and ahead <= left
    # A context that is much too large would pass, and make every block slow.
    assert behind >= right - 1 and ahead >= left - 1

    left, right = transform.contexts()[1]
    k, frames = right + 2, left + right + 5
    z = noise(1, D, frames)
    other = z.clone()
    other[..., k] += 1.0
    before, after = (transform.g_s(v).view(1, frames, hop).mT for v in (z, other))
    behind, ahead = furthest(before, after, k)
    assert behind <= right and ahead <= left
    assert behind >= right - 1 and ahead >= left - 1


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
    part = made("pqmf", {**TINY["pqmf"], "norm": "group"})
    assert part.contexts()[0] is None and part.contexts()[1] is None


def test_every_parameter_learns(transform):
    transform.train()
    x = noise(2, 1, 12 * transform.hop)
    loss = (transform.g_s(transform.g_a(x)) - x).square().mean()
    loss.backward()
    for name, value in transform.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


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
