# SPDX-License-Identifier: Apache-2.0
"""The resampler: as good as a library's, and the same however the signal was cut."""

from __future__ import annotations

import numpy as np
import pytest

from polycodec.codecs.files.speech.resample import Resampler
from polycodec.errors import InputError

# Common ones, both ways, and two with no common divisor.
PAIRS = [
    (44100, 16000),
    (16000, 44100),
    (48000, 16000),
    (8000, 16000),
    (22050, 16000),
    (16000, 11025),
    (16001, 8000),
]


def resampled(x: np.ndarray, a: int, b: int, cuts: list[int]) -> np.ndarray:
    resampler = Resampler(a, b)
    parts = [resampler.push(piece) for piece in np.split(x, np.cumsum(cuts))]
    total = -(-len(x) * b // a)
    y = np.concatenate([*parts, resampler.flush(total)])
    assert len(y) == total and y.dtype == np.float32
    return y


def tone(rate: int, frequency: float, seconds: float = 0.5) -> np.ndarray:
    t = np.arange(int(rate * seconds)) / rate
    return np.sin(2 * np.pi * frequency * t).astype(np.float32)[:, None]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_tones_pass_and_what_the_new_rate_cannot_hold_does_not(a, b):
    nyquist = min(a, b) / 2
    for part in (0.03, 0.9):
        y = resampled(tone(a, part * nyquist), a, b, [])
        # Nothing is delayed: sample n of the output is the tone at n / b seconds.
        want = tone(b, part * nyquist)[: len(y)]
        error = np.abs(y[: len(want)] - want)[len(y) // 4 : -len(y) // 4]
        assert error.max() < 1e-4  # -80 dB
    if b < a:
        y = resampled(tone(a, 1.05 * nyquist), a, b, []) if a > 1.1 * b else [0]
        assert np.abs(y[len(y) // 4 : -len(y) // 4]).max(initial=0) < 1e-4


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_cuts_and_starts_change_no_bit(a, b):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.2, (int(0.6 * a), 2)).astype(np.float32)
    whole = resampled(x, a, b, [])
    cuts = list(rng.integers(0, 3000, 9))
    assert np.array_equal(resampled(x, a, b, cuts), whole)
    for start in (1, len(whole) - 5):
        resampler = Resampler(a, b, start=start)
        y = [resampler.push(x[resampler.first_input :]), resampler.flush(len(whole))]
        assert np.array_equal(np.concatenate(y), whole[start:])


def test_short_and_constant_signals():
    assert len(resampled(np.ones((3, 1), np.float32), 44100, 16000, [])) == 2
    flat = resampled(np.ones((9000, 1), np.float32), 44100, 16000, [])
    assert np.abs(flat[300:-300] - 1).max() < 1e-6  # full scale stays full scale
    x = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(resampled(x, 16000, 16000, [7, 20]), x)


@pytest.mark.parametrize("rate", [0, -1, 1 << 30])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(InputError, match=f"{rate} Hz"):
        Resampler(rate, 16000)


def test_the_cost_of_odd_rates_is_bounded():
    odd = Resampler((1 << 20) - 1, 16000)
    assert odd._matrix is None and len(odd._table) < 1 << 18
