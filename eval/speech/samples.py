# SPDX-License-Identifier: Apache-2.0
"""Speech to listen to: the original, ours at each rate, the others.

Which ones is decided by rule: as far apart in the data set as possible, so that they
are of several speakers. Each is cut to a few seconds and stored as FLAC, which adds
nothing of its own; the scores beside it are those of the whole file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycodec.codecs.measures.speech import RATE
from polycodec.eval.datasets import Item
from polycodec.eval.measure import Trip, naming
from polycodec.eval.speech import wave
from polycodec.eval.speech.measure import SpeechRow, aligned
from polycodec.eval.subjects import Subject
from polycodec.eval.text import number


@dataclass(frozen=True)
class Sample:
    """One file and its versions: (name, figures, data address) of each."""

    file: str
    seconds: float
    versions: list[tuple[str, str, str]]


def choose(files: Sequence[Item], count: int) -> list[Item]:
    """``count`` of them, evenly over the whole list."""
    count = min(count, len(files))
    return [files[(2 * i + 1) * len(files) // (2 * count)] for i in range(count)]


def make_samples(
    rows: Sequence[SpeechRow],
    subjects: Sequence[Subject],
    files: Sequence[Item],
    *,
    count: int = 3,
    seconds: float = 6.0,
) -> list[Sample]:
    """Code the chosen files by every subject at every setting."""
    known = {(row.file, row.codec, row.setting): row for row in rows}
    made = []
    for file in choose(files, count):
        samples = file.read()
        cut = slice(0, round(seconds * RATE))
        versions = [("Original", "16 kHz, 16 bit", wave.flac_address(samples[cut]))]
        for subject in subjects:
            for setting in subject.settings:
                row = known[file.name, subject.name, float(setting)]
                with naming(subject, setting, file.name):
                    heard, _ = aligned(Trip.of(subject, samples, setting))
                address = wave.flac_address(heard[cut])
                versions.append((subject.label, _figures(row), address))
        made.append(Sample(file.name, min(seconds, len(samples) / RATE), versions))
    return made


def _figures(row: SpeechRow) -> str:
    parts = [f"{number(row.kbps)} kbit/s"]
    for name, label, digits in (("pesq_wb", "PESQ-WB", 2), ("stoi", "STOI", 3)):
        if row.scores.get(name) is not None:
            parts.append(f"{label} {number(row.scores[name], digits)}")
    return ", ".join(parts)
