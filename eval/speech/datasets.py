# SPDX-License-Identifier: Apache-2.0
"""Which utterances are measured: `speech`, a folder, or a list of files.

"speech" ──► --data folder ──► $POLYCODEC_DATA          its speech/test/
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polycodec.errors import InputError
from polycodec.eval.image.datasets import ENVIRONMENT
from polycodec.eval.speech import wave as sound

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a")


@dataclass(frozen=True)
class Utterance:
    """One sound file of a data set; its samples are read when asked for."""

    name: str
    path: pathlib.Path

    def samples(self) -> np.ndarray:
        """(T,) float32 at 16 kHz on 16-bit steps, mixed to one channel."""
        return sound.as_heard(sound.read(self.path))


def samples_digest(samples: np.ndarray) -> str:
    """Digest of samples: the identity of an utterance in stored results."""
    return hashlib.sha256(sound.steps(samples).tobytes()).hexdigest()[:16]


def is_sound(dataset: str | pathlib.Path | Sequence[str | pathlib.Path]) -> bool:
    """Whether a data set is of sound: ``speech``, a folder with it, or such files."""
    if isinstance(dataset, str) and dataset.lower() == "speech":
        return True
    if isinstance(dataset, (str, pathlib.Path)):
        place = pathlib.Path(dataset)
        return bool(_files_in(place) if place.is_dir() else _is_file([place]))
    return bool(_is_file(dataset))


def open_dataset(
    dataset: str | pathlib.Path | Sequence[str | pathlib.Path],
    *,
    data: str | pathlib.Path | None = None,
) -> tuple[str, list[Utterance]]:
    """Find the utterances of a data set: its name and its files, sorted."""
    if isinstance(dataset, str) and dataset.lower() == "speech":
        folder = _speech(data)
        return "speech", [Utterance(p.name, p) for p in _files_in(folder)]
    if isinstance(dataset, (str, pathlib.Path)):
        place = pathlib.Path(dataset)
        if place.is_dir():
            paths = _files_in(place)
            if not paths:
                raise InputError(
                    f"no sound in {place}; expected files ending in "
                    f"{', '.join(SUFFIXES)}; check the path"
                )
            found = [Utterance(p.relative_to(place).as_posix(), p) for p in paths]
            return place.resolve().name, found
        dataset = [place]
    paths = [pathlib.Path(item) for item in dataset]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing or not paths:
        raise InputError(
            f"no such data set, folder or file: {', '.join(missing) or '(none given)'};"
            " expected speech, a folder of sound files, or such files; check the path"
        )
    alike = len({p.name for p in paths}) < len(paths)
    return "files", [Utterance(str(p) if alike else p.name, p) for p in paths]


def _is_file(items: Sequence[str | pathlib.Path]) -> bool:
    return any(pathlib.Path(item).suffix.lower() in SUFFIXES for item in items)


def _files_in(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )


def _speech(data: str | pathlib.Path | None) -> pathlib.Path:
    """The folder of the test utterances."""
    place = data if data is not None else os.environ.get(ENVIRONMENT)
    if place is not None:
        for folder in (pathlib.Path(place, "speech", "test"), pathlib.Path(place)):
            if folder.is_dir() and any(folder.glob("*.flac")):
                return folder
    raise InputError(
        f"no test utterances in {place or 'any known place'}; expected FLAC files in "
        f"its speech/test/; name the folder with --data or {ENVIRONMENT}, or give a "
        "folder of your own in place of 'speech'"
    )
