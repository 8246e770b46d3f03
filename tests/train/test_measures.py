# SPDX-License-Identifier: Apache-2.0
"""What speech is measured by: known figures, means, published points, real anchors."""

from __future__ import annotations

import json
import stat
import sys

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the eval extra")

from polycodec.errors import InputError, UnknownNameError
from polycodec.eval.speech import RATE, align, curves, metrics
from polycodec.eval.speech import wave as sound
from polycodec.eval.speech.anchors import anchor

OWN = ["si_sdr", "mel"]  # measures that need no package


def voice(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding pitch in syllables: speech enough for the measures."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = np.cumsum(110 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)) / RATE
    tone = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
    wave = 0.2 * tone * syllables + 0.002 * rng.standard_normal(len(t))
    return sound.as_heard(wave.astype(np.float32))


def noisy(x: np.ndarray, level: float) -> np.ndarray:
    rng = np.random.default_rng(9)
    return (x + level * rng.standard_normal(len(x))).astype(np.float32)


# --- measures ---------------------------------------------------------------------


def test_si_sdr_of_orthogonal_noise_is_its_ratio():
    t = np.arange(RATE) / RATE
    x = np.sin(2 * np.pi * 200 * t).astype(np.float32)
    noise = 0.1 * np.sin(2 * np.pi * 300 * t).astype(np.float32)
    assert metrics.si_sdr(x, x + noise) == pytest.approx(20, abs=0.01)
    assert metrics.si_sdr(x, 0.3 * (x + noise)) == pytest.approx(20, abs=0.01)
    assert metrics.si_sdr(x, x) > 100


def test_mel_distance_is_the_ratio_of_magnitudes():
    x = voice()
    loud = 0.5 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert metrics.mel_distance(x, x) == 0
    # Ten times weaker: 1 in log10, in all bands that stay above the floor.
    assert metrics.mel_distance(loud, loud / 10) == pytest.approx(1, abs=0.02)
    assert metrics.mel_distance(x, noisy(x, 0.01)) < metrics.mel_distance(
        x, noisy(x, 0.1)
    )


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "stoi"])
def test_noise_lowers_what_the_packages_measure(name):
    metric = metrics.chosen([name])
    if not metric:
        pytest.skip(f"{name}: its package is not installed")
    x = voice(2.0)
    found = [metrics.score(x, noisy(x, v), [name])[0][name] for v in (1e-3, 0.3)]
    assert found[0] > found[1] > 0
    top = {"stoi": 1.0}.get(name, 4.65)
    same = metrics.score(x, x, [name])[0][name]
    assert found[0] < same <= top


def test_long_sounds_are_judged_in_pieces(monkeypatch):
    monkeypatch.setattr(metrics, "LONGEST", 100)
    lengths = []

    def measure(a, b):
        lengths.append((len(a), len(b)))
        return float(len(lengths))

    whole = metrics._in_pieces(measure)
    assert whole(np.zeros(250), np.zeros(250)) == 2.0
    assert lengths == [(84, 84), (83, 83), (83, 83)]


def test_silence_and_snippets_have_no_score_and_say_why():
    silence = np.zeros(2 * RATE, np.float32)
    scores, notes = metrics.score(silence, silence)
    assert scores["mel"] == 0 and scores["si_sdr"] is None
    assert all("silent" in why for why in notes.values())
    x = voice(0.1)
    scores, notes = metrics.score(x, x)
    assert scores["si_sdr"] > 100
    for name in set(scores) - set(OWN):
        assert scores[name] is None and notes[name], name


def test_visqol_without_its_lattice_mapping_is_left_out(monkeypatch):
    real = metrics.importlib.util.find_spec
    monkeypatch.setattr(
        metrics.importlib.util,
        "find_spec",
        lambda name: None if name == "ai_edge_litert" else real(name),
    )
    assert "not installed" in metrics.skipped()["ViSQOL"]
    assert "visqol" not in metrics.rules()
    with pytest.raises(UnknownNameError, match="stoi"):
        metrics.chosen(["stio"])


def test_decoded_sound_of_another_length_is_refused():
    with pytest.raises(InputError, match="expected"):
        metrics.score(voice(), voice()[1:])
    broken = voice()
    broken[5] = np.nan
    with pytest.raises(InputError, match="no numbers"):
        metrics.score(voice(), broken)


@pytest.mark.parametrize("lag", [-400, -31, 0, 7, 312])
def test_the_delay_is_found_and_taken_out(lag):
    x = voice()
    late = np.pad(x, (max(lag, 0), 0))[max(-lag, 0) :]
    late = np.pad(noisy(late, 0.01), (0, 500))
    assert align.lag_of(x, late) == lag
    back = align.shifted(late, lag, len(x))
    assert len(back) == len(x)
    assert metrics.si_sdr(x[400:-400], back[400:-400]) > 15


# --- means ------------------------------------------------------------------------


def test_the_bootstrap_interval_is_that_of_the_mean():
    values = list(np.random.default_rng(1).normal(3.0, 0.5, 400))
    found = curves.mean([*values, None])
    # Standard error 0.5 / 20, 1.96 of them on each side.
    assert found.value == pytest.approx(np.mean(values)) and found.without == 1
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.025, rel=0.15)
    assert found.low < found.value < found.high
    assert curves.mean([2.0, 2.0]) == curves.Mean(2.0, 2.0, 2.0, 0)
    assert curves.mean([None]) is None


def test_the_rate_for_a_score_is_read_between_points():
    def point(kbps, score):
        scores = {"stoi": curves.Mean(score, score, score, 0)}
        return curves.Point(kbps, kbps, kbps, None, scores, 0, 0, 1)

    curve = curves.Curve("a", "A", "anchor", "", (point(6, 0.8), point(24, 0.9)))
    assert curves.rate_for(curve, "stoi", 0.85) == ("", pytest.approx(12))
    assert curves.rate_for(curve, "stoi", 0.7) == ("<", 6)
    assert curves.rate_for(curve, "stoi", 0.95) == (">", 24)
    assert curves.rate_for(curve, "mel", 0.5) is None


def test_published_points_are_chosen_and_checked(tmp_path):
    path = tmp_path / "points.json"
    base = {"kbps": 6, "pesq_wb": 2.5, "test_set": "speech", "status": "published"}
    points = [
        {**base, "codec": "a"},
        {**base, "codec": "b", "status": "recollected"},
        {**base, "codec": "c", "kbps": None},
        {**base, "codec": "d", "test_set": "stereo music"},
        {**base, "codec": "e", "pesq_wb": None},
    ]
    path.write_text(json.dumps({"points": points}))
    assert [p.label for p in curves.published(path, ["pesq_wb"])] == ["a"]
    for text in ("[]", "nothing", '{"points": [{"kbps": 1}]}'):
        path.write_text(text)
        with pytest.raises(InputError, match="cannot read published"):
            curves.published(path, ["stoi"])


# --- anchors ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["opus", "opus-vbr"])
def test_opus_makes_real_bytes_of_about_its_rate(name):
    subject = anchor(name)
    if subject.missing():
        pytest.skip(subject.missing())
    x = voice(2.0)
    found = []
    for kbps in (6, 12, 24):
        coded = subject.compress(x, kbps)
        heard = subject.decompress(coded.data).samples
        lag = align.lag_of(x, heard)
        assert abs(lag) <= 2  # players skip the encoder's look-ahead
        heard = align.shifted(heard, lag, len(x))
        found.append((8 * coded.counted / 2000, metrics.mel_distance(x, heard)))
        # The Ogg file around the packets: headers, and a page each second.
        assert 50 < len(coded.data) - coded.counted < 1000
    rates, distances = zip(*found, strict=True)
    if name == "opus":
        assert rates == pytest.approx((6, 12, 24), rel=0.03)
    assert rates[0] < rates[1] < rates[2] and distances[0] > distances[2]


@pytest.mark.skipif(sys.platform == "win32", reason="programs are shell scripts here")
def test_codec2_runs_its_programs_and_counts_their_bytes(tmp_path, monkeypatch):
    """By stand-ins that copy: what comes back is the sound at 8 kHz."""
    subject = anchor("codec2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("c2enc", "c2dec"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\n[ "$1" = 2400 ] && cp "$2" "$3"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert subject.missing() is None
    x = voice()
    coded = subject.compress(x, 2.4)
    assert coded.counted == len(x)  # 16 bits at half the rate
    heard = subject.decompress(coded.data).samples
    assert metrics.si_sdr(x, align.shifted(heard, align.lag_of(x, heard), len(x))) > 15
    with pytest.raises(InputError, match="c2enc 3200 failed"):
        subject.compress(x, 3.2)


def test_codec2_without_its_programs_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "c2enc" in anchor("codec2").missing()
    with pytest.raises(UnknownNameError, match="opus"):
        anchor("opsu")
