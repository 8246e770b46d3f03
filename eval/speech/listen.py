# SPDX-License-Identifier: Apache-2.0
"""Utterances to listen to: the original, ours at each rate, the others.

Which ones is decided by rule: as far apart in the data set as possible, so that they
are of several speakers. Each is cut to a few seconds and stored as FLAC, which adds
nothing of its own; the scores beside it are those of the whole file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycodec.codecs.measures.speech import RATE
from polycodec.eval.image.tables import number
from polycodec.eval.speech import wave as sound
from polycodec.eval.speech.datasets import Utterance
from polycodec.eval.speech.measure import Row, round_trip
from polycodec.eval.speech.subjects import SpeechSubject


@dataclass(frozen=True)
class Sample:
    """One utterance and its versions: (name, figures, data address) of each."""

    file: str
    seconds: float
    sounds: list[tuple[str, str, str]]


def choose(files: Sequence[Utterance], count: int) -> list[Utterance]:
    """``count`` of them, evenly over the whole list."""
    count = min(count, len(files))
    return [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]


def make_samples(
    rows: Sequence[Row],
    subjects: Sequence[SpeechSubject],
    files: Sequence[Utterance],
    *,
    count: int = 3,
    seconds: float = 6.0,
) -> list[Sample]:
    """Code the chosen utterances by every subject at every setting."""
    known = {(row.file, row.codec, row.setting): row for row in rows}
    made = []
    for file in choose(files, count):
        samples = file.samples()
        cut = slice(0, round(seconds * RATE))
        sounds = [("Original", "16 kHz, 16 bit", sound.flac_address(samples[cut]))]
        for subject in subjects:
            for setting in subject.settings:
                row = known[file.name, subject.name, float(setting)]
                heard, _, _ = round_trip(subject, samples, setting, file.name)
                address = sound.flac_address(heard[cut])
                sounds.append((subject.label, _figures(row), address))
        made.append(Sample(file.name, min(seconds, len(samples) / RATE), sounds))
    return made


def _figures(row: Row) -> str:
    parts = [f"{number(row.kbps)} kbit/s"]
    for name, label, digits in (("pesq_wb", "PESQ-WB", 2), ("stoi", "STOI", 3)):
        if row.scores.get(name) is not None:
            parts.append(f"{label} {number(row.scores[name], digits)}")
    return ", ".join(parts)
