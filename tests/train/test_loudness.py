# SPDX-License-Identifier: Apache-2.0
"""The loudness of an error: what hearing does to it, and that one can train with it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from polycodec.train.speech.loudness import Disturbance, bark, threshold

RATE = 16000


def tone(hertz: float, level: float = 0.1) -> torch.Tensor:
    """One second (1, T) of a sine."""
    t = torch.arange(RATE) / RATE
    return (level * math.sqrt(2) * torch.sin(2 * math.pi * hertz * t))[None]


@pytest.fixture(scope="module")
def term() -> Disturbance:
    return Disturbance(RATE)


def test_equal_signals_do_not_disturb_and_more_noise_disturbs_more(term):
    torch.manual_seed(0)
    x, noise = tone(500), torch.randn(1, RATE)
    values = [float(term(x + s * noise, x)) for s in (0, 1e-4, 1e-3, 1e-2, 1e-1)]
    assert values[0] < 1e-3
    assert all(a < b for a, b in itertools.pairwise(values))


def test_an_error_beside_something_loud_is_masked(term):
    """A tone 20 dB below another disturbs in a band of its own, not in the other's."""
    x = tone(1000)
    near = float(term(x + tone(1020, 0.01), x))
    far = float(term(x + tone(3000, 0.01), x))
    assert 4 * near < far


def test_what_is_added_disturbs_more_than_what_is_left_out(term):
    x = tone(400) + tone(2500, 0.03)
    without = tone(400)
    assert float(term(x, without)) > 1.5 * float(term(without, x))


def test_the_volume_of_both_does_not_matter(term):
    torch.manual_seed(1)
    x = tone(700)
    y = x + 0.01 * torch.randn(1, RATE)
    assert float(term(y / 8, x / 8)) == pytest.approx(float(term(y, x)), rel=1e-4)


def test_gradients_are_finite_even_for_silence_and_point_towards_the_signal(term):
    torch.manual_seed(2)
    x = torch.cat([tone(300), torch.zeros(1, RATE)])
    y = (x + 0.01 * torch.randn(2, RATE)).requires_grad_()
    loss = term(y, x)
    (gradient,) = torch.autograd.grad(loss, y)
    assert bool(gradient.isfinite().all())
    step = 1e-3 * gradient / gradient.norm()
    assert (
        float(term(y.detach() - step, x))
        < loss.item()
        < float(term(y.detach() + step, x))
    )
    zero = torch.zeros(1, RATE, requires_grad=True)
    (gradient,) = torch.autograd.grad(term(zero, torch.zeros(1, RATE)), zero)
    assert bool(gradient.isfinite().all())


def test_bark_and_threshold_are_those_of_the_books():
    """Zwicker: 8.5 Bark at 1 kHz, 21 at 8 kHz. The ear is keenest at 3 to 4 kHz."""
    frequencies = torch.tensor([100.0, 1000.0, 3500.0, 8000.0], dtype=torch.float64)
    assert bark(frequencies)[1] == pytest.approx(8.5, abs=0.1)
    assert bark(frequencies)[3] == pytest.approx(21.3, abs=0.3)
    quiet = threshold(frequencies)
    assert quiet.argmin() == 2 and quiet[0] > 20 and quiet[2] < 0
