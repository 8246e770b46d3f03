# SPDX-License-Identifier: Apache-2.0
"""What a speech run is made of: delays, means, published points, real anchors."""

from __future__ import annotations

import json
import stat
import sys

import numpy as np
import pytest
from signals import noisy, voice

pytest.importorskip("av", reason="needs the eval extra")

from polycodec.codecs.measures.speech import mel_distance, si_sdr
from polycodec.errors import InputError, UnknownNameError
from polycodec.eval import curves
from polycodec.eval.speech import wave
from polycodec.eval.speech.kind import KIND, read_points
from polycodec.eval.speech.result import rate_for

# --- delays ----


@pytest.mark.parametrize("lag", [-400, -31, 0, 7, 312])
def test_the_delay_is_found_and_taken_out(lag):
    x = voice()
    late = np.pad(x, (max(lag, 0), 0))[max(-lag, 0) :]
    late = np.pad(noisy(late, 0.01), (0, 500))
    assert wave.lag_of(x, late) == lag
    back = wave.shifted(late, lag, len(x))
    assert len(back) == len(x)
    assert si_sdr(x[400:-400], back[400:-400]) > 15


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
        return curves.published_point(kbps, {"stoi": score})

    points = (point(6, 0.8), point(24, 0.9))
    curve = curves.Curve(name="a", label="A", kind="anchor", points=points)
    assert rate_for(curve, "stoi", 0.85) == "12.0"
    assert rate_for(curve, "stoi", 0.7) == "< 6.0"
    assert rate_for(curve, "stoi", 0.95) == "> 24.0"
    assert rate_for(curve, "mel", 0.5) == "–"


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

    def read(text):
        path.write_text(text)
        return curves.published(path, lambda data: read_points(data, ["pesq_wb"]), "x")

    assert [p.label for p in read(json.dumps({"points": points}))] == ["a"]
    for text in ("[]", "nothing", '{"points": [{"kbps": 1}]}'):
        with pytest.raises(InputError, match="cannot read published"):
            read(text)


# --- anchors ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["opus", "opus-vbr"])
def test_opus_makes_real_bytes_of_about_its_rate(name):
    subject = KIND.anchor(name)
    if subject.missing():
        pytest.skip(subject.missing())
    x = voice(2.0)
    found = []
    for kbps in (6, 12, 24):
        coded = subject.compress(x, kbps)
        heard = subject.decompress(coded.data).signal
        lag = wave.lag_of(x, heard)
        assert abs(lag) <= 2  # players skip the encoder's look-ahead
        heard = wave.shifted(heard, lag, len(x))
        found.append((8 * coded.size / 2000, mel_distance(x, heard)))
        # The Ogg file around the packets: headers, and a page each second.
        assert 50 < len(coded.data) - coded.size < 1000
    rates, distances = zip(*found, strict=True)
    if name == "opus":
        assert rates == pytest.approx((6, 12, 24), rel=0.03)
    assert rates[0] < rates[1] < rates[2] and distances[0] > distances[2]


@pytest.mark.skipif(sys.platform == "win32", reason="programs are shell scripts here")
def test_codec2_runs_its_programs_and_counts_their_bytes(tmp_path, monkeypatch):
    """By stand-ins that copy: what comes back is the sound at 8 kHz."""
    subject = KIND.anchor("codec2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("c2enc", "c2dec"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\n[ "$1" = 2400 ] && cp "$2" "$3"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert subject.missing() is None
    x = voice()
    coded = subject.compress(x, 2.4)
    assert coded.size == len(x)  # 16 bits at half the rate
    heard = subject.decompress(coded.data).signal
    assert si_sdr(x, wave.shifted(heard, wave.lag_of(x, heard), len(x))) > 15
    with pytest.raises(InputError, match="c2enc 3200 failed"):
        subject.compress(x, 3.2)


def test_codec2_without_its_programs_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "c2enc" in KIND.anchor("codec2").missing()
    with pytest.raises(UnknownNameError, match="opus"):
        KIND.anchor("opsu")
