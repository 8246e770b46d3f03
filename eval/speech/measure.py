# SPDX-License-Identifier: Apache-2.0
"""One measurement of sound: coded to real bytes, decoded, aligned, scored.

key = (samples, subject, setting, what its bytes depend on)

A row keeps the rule of every score beside it. A score of another rule or version is
not reused, and a measure that a row lacks is taken then, without taking the others
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polycodec.codecs.measures import speech as metrics
from polycodec.codecs.measures.speech import RATE
from polycodec.eval.image.measure import naming
from polycodec.eval.speech import align
from polycodec.eval.speech.subjects import SpeechSubject


@dataclass(frozen=True)
class Row:
    """What is known about one utterance, one subject and one setting."""

    key: str
    file: str
    seconds: float
    codec: str
    kind: str
    control: str
    setting: float
    bytes: int  # that make the rate
    file_bytes: int  # of everything that was written
    kbps: float
    estimated_bits: float | None
    lag: int  # samples by which the decoded sound came late
    encode_seconds: float
    decode_seconds: float
    scores: dict[str, float | None]
    rules: dict[str, str]  # by which each score was taken
    notes: dict[str, str]  # why a score is None

    def lacks(self, rules: Mapping[str, str]) -> list[str]:
        """Names in ``rules`` (name: rule) for which there is no such score."""
        return [name for name, rule in rules.items() if self.rules.get(name) != rule]


def round_trip(
    subject: SpeechSubject, samples: np.ndarray, setting: float, file: str
) -> tuple[np.ndarray, int, dict[str, float]]:
    """Code (T,) float32 and decode it: samples as heard, lag, figures of the coding."""
    with naming(subject, setting, file, "sound"):
        coded = subject.compress(samples, setting)
        decoded = subject.decompress(coded.data)
    heard, lag = decoded.samples, 0
    if subject.delayed:
        lag = align.lag_of(samples, heard)
        heard = align.shifted(heard, lag, len(samples))
    figures = {
        "bytes": coded.counted,
        "file_bytes": len(coded.data),
        "estimated_bits": coded.estimated_bits,
        "encode_seconds": coded.seconds,
        "decode_seconds": decoded.seconds,
    }
    return heard, lag, figures


def measure(
    subject: SpeechSubject,
    samples: np.ndarray,
    setting: float,
    *,
    file: str,
    key: str,
    names: Sequence[str],
    known: Row | None = None,
) -> Row:
    """Code one utterance into bytes, decode them, and take the measures ``names``.

    ``known``: an earlier row of this key, whose other scores are kept.
    """
    heard, lag, figures = round_trip(subject, samples, setting, file)
    scores, notes = metrics.score(samples, heard, names)
    rules = metrics.rules(names)
    if known is not None:
        scores, rules = {**known.scores, **scores}, {**known.rules, **rules}
        kept = {n: why for n, why in known.notes.items() if n not in names}
        notes = {**kept, **notes}
    seconds = len(samples) / RATE
    return Row(
        key=key,
        file=file,
        seconds=seconds,
        codec=subject.name,
        kind=subject.kind,
        control=subject.control,
        setting=float(setting),
        kbps=8 * figures["bytes"] / seconds / 1000,
        lag=lag,
        scores=scores,
        rules=rules,
        notes=notes,
        **figures,
    )
