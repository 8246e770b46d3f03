# SPDX-License-Identifier: Apache-2.0
"""Latents of speech out of recordings and .plc files, and back into sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import polycodec
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build

soundfile = pytest.importorskip("soundfile")

CONFIGS = {  # numbers a second, and as a share of a mel spectrogram's
    "speech/latentspeech": (750, 0.046875),
    "speech/latentspeech-small": (800, 0.05),
}


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """2.3 s of two channels at 22,050 Hz; its chunks have a second."""
    monkeypatch.setattr(api_speech, "CHUNK_SECONDS", 1)
    t = np.arange(round(2.3 * 22050))[:, None] / 22050
    x = 0.5 * np.sin(2 * np.pi * np.array([3, 4]) * t)
    soundfile.write(tmp_path / "talk.wav", x, 22050, subtype="PCM_24")
    return tmp_path / "talk.wav"


def test_latents_come_back_as_sound(talk, tmp_path, sound_codec):
    given = {"channels": "keep", "codec": sound_codec}
    found = polycodec.latents(talk, tmp_path / "t.npz", **given)
    assert found.latents.shape == (2, 1, 920) and found.latents.dtype == np.float32
    polycodec.latents(tmp_path / "t.npz", tmp_path / "a.wav", codec=sound_codec)
    back, _ = soundfile.read(tmp_path / "a.wav")
    wanted, _ = soundfile.read(talk)
    assert np.abs(back - wanted)[800:-800].max() < 0.01
    # They are those that codes are made of: the finest codes differ by their rounding.
    plc = tmp_path / "talk.plc"
    polycodec.encode(talk, plc, codec=sound_codec, quality=100, channels="keep")
    coded = polycodec.latents(plc, codec=sound_codec)
    apart = np.abs(coded.latents - found.latents).max()
    assert 0 < apart < 2**-14
    polycodec.latents(coded, tmp_path / "b.wav", codec=sound_codec)
    polycodec.decode(plc, tmp_path / "c.wav", codec=sound_codec)
    heard = [soundfile.read(tmp_path / name)[0] for name in ("b.wav", "c.wav")]
    assert np.array_equal(*heard)


def test_the_command_says_their_share_of_a_mel_spectrogram(talk, cli, sound_weights):
    code, out, _ = cli("tokens", talk, "--continuous")
    assert code == 0
    assert "1 x 1 x 920 latents  400 numbers a second, 2.5 % of a mel" in out
    code, out, _ = cli("tokens", talk.with_suffix(".npz"), "-o", "back.wav")
    assert code == 0 and soundfile.info(talk.with_name("back.wav")).frames == 50715


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_have_the_published_numbers(name):
    pytest.importorskip("pydantic")
    from polycodec.train.config import load_config

    config = load_config(name)
    with torch.device("meta"):
        codec = build(f"codec/{config.codec.name}", **config.codec.options())
    rate = codec.signal.rate / codec.stride * codec.transform.channels
    assert (rate, rate / (80 * 200)) == CONFIGS[name]


def test_what_cannot_be_is_refused(talk, tmp_path, sound_codec, photo):
    found = polycodec.latents(talk, codec=sound_codec)
    with pytest.raises(UsageError, match="latents are none"):
        polycodec.latents(found, tmp_path / "a.plc", codec=sound_codec)
    with pytest.raises(UsageError, match="are those of speech"):
        polycodec.latents(photo)
    with pytest.raises(InputError, match="it holds latents"):
        polycodec.tokens(found)
    path = tmp_path / "bad.npz"
    for field, value, message in (
        ("latents", np.full((1, 1, 920), np.nan, np.float32), "latents"),
        ("latents", np.zeros((1, 1, 4), np.float32), "frames"),
        ("latents", np.zeros((1, 1, 920), np.int32), "latents"),
        ("hop", 0, "hop"),
    ):
        fields = {**vars(found), "version": 1, field: value}
        np.savez(path, **fields)
        with pytest.raises(InputError, match=message):
            polycodec.latents(path, tmp_path / "b.wav", codec=sound_codec)
    found.latents = np.zeros((1, 3, 920), np.float32)
    with pytest.raises(ModelError, match="has 1 every 40"):
        polycodec.latents(found, tmp_path / "c.wav", codec=sound_codec)
    assert not (tmp_path / "b.wav").exists() and not (tmp_path / "c.wav").exists()
