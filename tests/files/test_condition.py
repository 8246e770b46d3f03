# SPDX-License-Identifier: Apache-2.0
"""Offset, hum, rumble and level: taken out and put back; channels that cancel."""

from __future__ import annotations

import numpy as np
import pytest

from polycodec.codecs.files.speech.condition import Condition, HighPass, Survey
from polycodec.errors import BitstreamError

RATE = 16000
T = np.arange(6 * RATE) / RATE


def voice(seed: int = 0) -> np.ndarray:
    """Noise between 200 and 3000 Hz in syllables, rms about 0.05 (samples,)."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=len(T)))
    hertz = np.fft.rfftfreq(len(T), 1 / RATE)
    spectrum[(hertz < 200) | (hertz > 3000)] = 0
    x = np.fft.irfft(spectrum)
    return 0.07 * x / x.std() * (1 + np.sin(2 * np.pi * 3 * T)) / 2


def surveyed(x: np.ndarray, rate: int = RATE) -> tuple[Condition, list[str]]:
    x = x.reshape(len(x), -1).astype(np.float32)
    survey = Survey(rate, x.shape[1])
    for piece in np.array_split(x, 23):
        survey.push(piece)
    return survey.condition(np.eye(x.shape[1]))


def test_a_good_voice_is_left_alone():
    condition, notes = surveyed(voice())
    assert not condition and not notes


@pytest.mark.parametrize(
    "added",
    [
        0.1,
        -0.4,
        0.05 * np.sin(2 * np.pi * 50 * T),
        0.05 * np.sin(2 * np.pi * 59.97 * T + 2),
        0.1 + sum(0.04 / k * np.sin(2 * np.pi * 50 * k * T + k) for k in (1, 2, 3, 5)),
    ],
    ids=["offset", "negative", "50 Hz", "60 Hz", "offset and harmonics"],
)
def test_what_is_added_is_taken_out_and_put_back(added):
    x = (voice() + added)[:, None].astype(np.float32)
    condition, _ = surveyed(x)
    assert condition and len(condition.pack()) < 64
    condition = Condition.unpack(condition.pack(), 1)  # as a file holds it
    pieces = [p for p in np.array_split(x, 7)]
    clean = np.concatenate(list(condition.removed(pieces, RATE)))[:, 0]
    left = np.sqrt(np.mean((clean - voice())[RATE:-RATE] ** 2))
    assert left < 0.03 * voice().std()
    back = np.concatenate(list(condition.restored([clean[:, None]], 0, RATE)))
    assert np.abs(back - x)[RATE:-RATE].max() < 0.01
    part = np.concatenate(
        list(condition.restored([clean[30000:40000, None]], 30000, RATE))
    )
    assert np.array_equal(part, back[30000:40000])


@pytest.mark.parametrize("decibels", [-40, -25, 17])
def test_levels_come_near_the_usual(decibels):
    x = np.clip(voice() * 10 ** (decibels / 20), -1, 1)
    condition, _ = surveyed(x)
    y = np.concatenate(list(condition.removed([x[:, None]], RATE)))
    level = 20 * np.log10(y.std())
    assert -33 < level < -24, level
    back = np.concatenate(list(condition.restored([y], 0, RATE)))
    assert np.abs(back[:, 0] - x).max() < 1e-4 * np.abs(x).max() + 1e-7


def test_hum_that_drifts_and_rumble_are_left_out_with_a_note():
    drifting = 0.05 * np.sin(2 * np.pi * (50 * T + 0.7 * np.sin(T)))
    condition, notes = surveyed(voice() + drifting + 0.05 * np.sin(2 * np.pi * 7 * T))
    assert condition.high_pass and "73 Hz" in notes[0]
    x = (voice() + drifting)[:, None]
    y = np.concatenate(list(condition.removed(np.array_split(x, 40), RATE)))
    assert len(y) == len(x)
    left = (y[:, 0] / condition.gain - voice())[RATE:-RATE]
    assert left.std() < 0.05 * voice().std()


def test_a_high_pass_keeps_what_is_above():
    for hertz, gain in ((20, 0), (60, 0), (90, 1), (1000, 1)):
        x = np.sin(2 * np.pi * hertz * T)[:, None].astype(np.float32)
        filtered = HighPass(RATE)
        parts = [filtered.push(p) for p in np.array_split(x, 31)]
        y = np.concatenate([*parts, filtered.flush()])
        assert len(y) == len(x)
        assert np.abs(y - gain * x)[2 * RATE : -2 * RATE].max() < 1e-3


def test_each_channel_has_its_own():
    x = np.stack([voice() + 0.1, voice(1) + 0.05 * np.sin(2 * np.pi * 50 * T)], 1)
    condition, _ = surveyed(x)
    assert condition.offsets[0] == pytest.approx(0.1, abs=1e-3)
    assert condition.offsets[1] == 0 and len(condition.tones[1]) == 1
    assert Condition.unpack(condition.pack(), 2).tones[1][0].amplitude > 0.04


def mixed(x: np.ndarray) -> tuple[list[float], str]:
    survey = Survey(RATE, x.shape[1])
    survey.push(x.astype(np.float32))
    weights, notes = survey.mixing()
    return weights.tolist(), " ".join(notes)


@pytest.mark.parametrize("offset", [0, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.95])
def test_channels_that_cancel_one_another(offset, share):
    x = np.stack([voice(), -share * voice()], 1) + offset
    weights, notes = mixed(x)
    assert sorted(weights) == [0, 1] and "cancel" in notes


def test_channels_that_cancel_for_a_while():
    x = np.stack([voice(), voice()], 1)
    x[3 * RATE :, 1] *= -1
    weights, notes = mixed(x)
    assert sorted(weights) == [0, 1] and "50 %" in notes


def test_a_voice_in_one_channel_is_not_made_quieter():
    x = np.stack([voice(), 0 * voice(), 1e-4 * voice(2)], 1)
    weights, notes = mixed(x)
    assert weights == [1, 0, 0] and "channel 1 of 3" in notes


def test_two_people_in_two_channels_are_mixed():
    x = np.stack([voice(), voice(1)], 1)
    x[: 3 * RATE, 0], x[3 * RATE :, 1] = 0, 0
    weights, notes = mixed(x)
    assert weights == [0.5, 0.5] and "mixed into one" in notes


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", bytes(4), bytes(9), bytes(4) + b"\1", bytes(4) + b"\x09" + bytes(72)],
)
def test_records_that_are_damaged_are_named(data):
    with pytest.raises(BitstreamError, match="condition"):
        Condition.unpack(data, 1)
