# SPDX-License-Identifier: Apache-2.0
"""Speech to listen to: the original, ours at each rate, the others.

Which ones is decided by rule: as far apart in the data set as possible, so that they
are of several speakers. Each is cut to a few seconds and stored as FLAC, which adds
nothing of its own; the scores beside it are those of the whole file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polycodec.codecs.measures.base import Measure
from polycodec.codecs.measures.speech import RATE
from polycodec.eval.datasets import Item
from polycodec.eval.kind import Run
from polycodec.eval.measure import Row, Trip, naming
from polycodec.eval.speech import wave
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
    rows: Sequence[Row], run: Run, *, count: int = 3, seconds: float = 6.0
) -> list[Sample]:
    """Code the chosen files by every subject at every setting."""
    known = {(row.file, row.codec, row.setting): row for row in rows}
    cut = slice(0, round(seconds * RATE))
    made = []
    for file in choose(run.items, count):
        samples = file.read()
        versions = [("Original", "16 kHz, 16 bit", wave.flac_address(samples[cut]))]
        for subject in run.subjects:
            for setting in subject.settings:
                with naming(subject, setting, file.name):
                    heard = run.kind.heard(Trip.of(subject, samples, setting))
                row = known[file.name, subject.name, float(setting)]
                address = wave.flac_address(heard[cut])
                versions.append((subject.label, _figures(row, run.measures), address))
        made.append(Sample(file.name, min(seconds, len(samples) / RATE), versions))
    return made


def _figures(row: Row, measures: Sequence[Measure]) -> str:
    parts = [f"{number(row.rate)} kbit/s"]
    for measure in measures[:3]:
        value = number(row.scores.get(measure.name), measure.digits)
        parts.append(f"{measure.label} {value}")
    return ", ".join(parts)
