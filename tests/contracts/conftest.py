# SPDX-License-Identifier: Apache-2.0
"""What the examples of documents find: photographs and a recording."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest


@pytest.fixture
def album(photo, tmp_path) -> pathlib.Path:
    """A folder with photo.png, photos/ in two levels, talk.wav and talk.flac."""
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "photos" / "2019").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "photos" / "2019" / "a.png")
    shutil.copy(photo, tmp_path / "photos" / "b.png")
    time = np.arange(16000) / 16000
    talk = 0.3 * np.sin(880 * np.pi * time) * np.sin(7 * np.pi * time)
    for name in ("talk.wav", "talk.flac"):
        soundfile.write(tmp_path / name, talk, 16000)
    return tmp_path
