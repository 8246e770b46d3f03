# SPDX-License-Identifier: Apache-2.0
"""Measures of speech: known figures, refusals, one definition for all who ask."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from signals import noisy, voice

from polycodec.codecs.measures import speech as measures
from polycodec.codecs.measures.speech import RATE
from polycodec.errors import InputError, UnknownNameError

OWN = ["si_sdr", "mel"]  # measures that need no package


def test_si_sdr_of_orthogonal_noise_is_its_ratio():
    t = np.arange(RATE) / RATE
    x = np.sin(2 * np.pi * 200 * t).astype(np.float32)
    noise = 0.1 * np.sin(2 * np.pi * 300 * t).astype(np.float32)
    assert measures.si_sdr(x, x + noise) == pytest.approx(20, abs=0.01)
    assert measures.si_sdr(x, 0.3 * (x + noise)) == pytest.approx(20, abs=0.01)
    assert measures.si_sdr(x, x) > 100


def test_mel_distance_is_the_ratio_of_magnitudes():
    x = voice()
    loud = 0.5 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert measures.mel_distance(x, x) == 0
    # Ten times weaker: 1 in log10, in all bands that stay above the floor.
    assert measures.mel_distance(loud, loud / 10) == pytest.approx(1, abs=0.02)
    assert measures.mel_distance(x, noisy(x, 0.01)) < measures.mel_distance(
        x, noisy(x, 0.1)
    )


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "stoi"])
def test_noise_lowers_what_the_packages_measure(name):
    if not measures.chosen([name]):
        pytest.skip(f"{name}: its package is not installed")
    x = voice(2.0)
    found = [measures.score(x, noisy(x, v), [name])[0][name] for v in (1e-3, 0.3)]
    assert found[0] > found[1] > 0
    top = {"stoi": 1.0}.get(name, 4.65)
    same = measures.score(x, x, [name])[0][name]
    assert found[0] < same <= top


def test_long_signals_are_judged_in_pieces():
    lengths = []

    def judge(a, b, rate):
        lengths.append((len(a), len(b)))
        return float(len(lengths))

    whole = measures._in_pieces(judge)
    assert whole(np.zeros(250), np.zeros(250), 5) == 2.0  # 20 s are 100 samples
    assert lengths == [(84, 84), (83, 83), (83, 83)]


def test_silence_and_snippets_have_no_score_and_say_why():
    silence = np.zeros(2 * RATE, np.float32)
    scores, notes = measures.score(silence, silence)
    assert scores["mel"] == 0 and scores["si_sdr"] is None
    assert all("silent" in why for why in notes.values())
    x = voice(0.1)
    scores, notes = measures.score(x, x)
    assert scores["si_sdr"] > 100
    for name in set(scores) - set(OWN):
        assert scores[name] is None and notes[name], name


def test_visqol_without_its_lattice_mapping_is_left_out(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "ai_edge_litert" else real(name),
    )
    assert "not installed" in measures.skipped()["ViSQOL"]
    assert "visqol" not in measures.rules()
    with pytest.raises(UnknownNameError, match="stoi"):
        measures.chosen(["stio"])


def test_what_listeners_taught_is_taken_where_it_is_named_and_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    every = {measure.name for measure in measures.MEASURES.every}
    taught = {"dnsmos", "dnsmos_p808", "distillmos"}
    assert {measure.name for measure in measures.chosen()} == every - taught
    assert {measure.name for measure in measures.chosen(sorted(taught))} == taught
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "speechmos" else name
    )
    assert measures.skipped() == {} and not measures.chosen(["dnsmos"])
    reason = "speechmos is not installed"
    assert measures.skipped(["dnsmos", "stoi"]) == {"DNSMOS": reason}


@pytest.mark.parametrize("name", ["dnsmos", "dnsmos_p808", "distillmos"])
def test_what_listeners_taught_hears_the_decoded_alone(name, capsys):
    if not measures.chosen([name]):
        pytest.skip(f"{name}: its package is not installed")
    x = voice(2.0)
    bad = noisy(x, 0.1)
    (good, of_bad, same) = (
        measures.score(a, b, [name])[0][name] for a, b in ((x, x), (x, bad), (bad, bad))
    )
    assert 1 <= good <= 5 and 1 <= of_bad <= 5 and good != of_bad == same
    assert capsys.readouterr().out == ""
    silence = np.zeros_like(x)
    assert measures.score(silence, bad, [name])[0] == {name: None}
    _, notes = measures.score(x[:8000], x[:8000], [name])
    assert notes == {name: "needs a second of sound"}
    _, notes = measures.score(x, 2 * bad, [name], 24000)
    assert notes == {name: "needs 16000 Hz, this is at 24000 Hz"}
    assert 1 <= measures.score(x, 20 * bad, [name])[0][name] <= 5  # clipped


def test_decoded_sound_of_another_length_is_refused():
    with pytest.raises(InputError, match="expected"):
        measures.score(voice(), voice()[1:])
    broken = voice()
    broken[5] = np.nan
    with pytest.raises(InputError, match="no numbers"):
        measures.score(voice(), broken)


def test_mel_distance_agrees_with_bands_summed_one_by_one():
    """Written out as the formula says, one frame, band and bin after the other."""

    def mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)

    def bands(x, window, count):
        padded = np.pad(x.astype(np.float64), window // 2)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        edges = [mel(8000) * k / (count + 1) for k in range(count + 2)]
        edges = [700 * (10 ** (m / 2595) - 1) for m in edges]
        for start in range(0, len(padded) - window + 1, window // 4):
            frame = padded[start : start + window] * hann
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
                total = 0.0
                for k in range(window // 2 + 1):
                    f = k * 16000 / window
                    weight = min(
                        (f - low) / (middle - low), (high - f) / (high - middle)
                    )
                    if weight > 0:
                        turn = np.exp(-2j * np.pi * k * np.arange(window) / window)
                        total += weight * abs(frame @ turn)
                yield math.log10(max(total, 1e-5))

    x = voice(0.01)
    y = noisy(x, 0.05)
    found = [
        np.mean([abs(a - b) for a, b in zip(bands(x, *s), bands(y, *s), strict=True)])
        for s in ((128, 10), (256, 20))
    ]
    for (window, count), expected in zip(((128, 10), (256, 20)), found, strict=True):
        pair = [measures._log_mel(s, window, count, RATE) for s in (x, y)]
        assert np.abs(pair[0] - pair[1]).mean() == pytest.approx(expected, rel=1e-9)


def test_training_sees_the_same_figures_as_a_report():
    x = voice(2.0)
    pairs = [(x, noisy(x, 0.01)), (x, noisy(x, 0.1)), (0 * x, x)]
    found = measures.mean_scores(pairs, RATE)
    each = [measures.score(a, np.clip(b, -1, 1), OWN)[0] for a, b in pairs]
    assert each[2]["si_sdr"] is None  # and counts for nothing
    assert found["si_sdr"] == pytest.approx((each[0]["si_sdr"] + each[1]["si_sdr"]) / 2)
    assert found["mel"] == pytest.approx(np.mean([e["mel"] for e in each]))
    assert set(found) == {m.name for m in measures.chosen(measures.VALIDATION)}


def test_other_rates_are_judged_where_the_measure_knows_them():
    x = voice(1.0)
    _, notes = measures.score(x, noisy(x, 0.01), ["mel", "pesq_wb"], 24000)
    assert measures.mel_distance(x, noisy(x, 0.01), 24000) > 0
    if measures.chosen(["pesq_wb"]):
        assert notes == {"pesq_wb": "needs 16000 Hz, this is at 24000 Hz"}
