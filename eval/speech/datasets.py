# SPDX-License-Identifier: Apache-2.0
"""The speech of an evaluation: files that can be decoded, and the set `speech`.

"speech" ──► --data folder ──► $POLYCODEC_DATA          its speech/test/
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from dataclasses import dataclass

import numpy as np

from polycodec.codecs.files.kinds import KINDS
from polycodec.errors import InputError
from polycodec.eval.datasets import ENVIRONMENT, Datasets, Item, Place
from polycodec.eval.speech import wave

SUFFIXES = KINDS["speech"].suffixes


@dataclass(frozen=True)
class SpeechFile(Item):
    """One file of speech; its samples are read when asked for."""

    def read(self) -> np.ndarray:
        """(T,) float32 at 16 kHz on 16-bit steps, mixed to one channel."""
        return wave.as_heard(wave.read(self.path))

    @staticmethod
    def digest(signal: np.ndarray) -> str:
        """Return the digest of 16-bit samples."""
        return hashlib.sha256(wave.steps(signal).tobytes()).hexdigest()[:16]


def _test_files(data: Place | None) -> list[pathlib.Path]:
    """The files of `speech`."""
    place = data if data is not None else os.environ.get(ENVIRONMENT)
    if place is not None:
        for folder in (pathlib.Path(place, "speech", "test"), pathlib.Path(place)):
            if folder.is_dir() and any(folder.glob("*.flac")):
                return SPEECH.files_in(folder)
    raise InputError(
        f"no test files of speech in {place or 'any known place'}; expected FLAC files "
        f"in its speech/test/; name the folder with --data or {ENVIRONMENT}, or give a "
        "folder of your own in place of 'speech'"
    )


SPEECH = Datasets("speech", _test_files, SpeechFile, SUFFIXES, "speech file")
