# SPDX-License-Identifier: Apache-2.0
"""What tests of files share: sounds there and back, fits that are interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from polycodec.codecs.files import api
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.fitting import fit as fitting


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of a second: files of several chunks stay small."""
    monkeypatch.setattr(api_speech, "CHUNK_SECONDS", 1)


@pytest.fixture
def coded(tmp_path, sound_codec):
    """A function: encode and decode; returns (samples, how encoding went, decoding)."""

    def run(x: np.ndarray, rate: int, subtype: str = "PCM_16", **options):
        soundfile.write(tmp_path / "in.wav", x, rate, subtype=subtype)
        name = tmp_path / "a.plc"
        encoded = api.encode(
            tmp_path / "in.wav", name, codec=sound_codec, force=True, **options
        )
        decoded = api.decode(name, tmp_path / "b.wav", codec=sound_codec, force=True)
        y, found = soundfile.read(tmp_path / "b.wav", always_2d=True)
        assert found == rate and len(y) == len(x)
        return y, encoded, decoded

    return run


@pytest.fixture
def interrupted(monkeypatch) -> Callable[[int], list[int]]:
    """Let fits hear Ctrl-C after so many steps of all; returns the steps they take."""
    advance = fitting.Fit._advance

    def after(count: int) -> list[int]:
        seen: list[int] = []

        def step(fit):
            advance(fit)
            seen.append(fit.step)
            if len(seen) == count:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(fitting.Fit, "_advance", step)
        return seen

    return after
