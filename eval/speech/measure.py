# SPDX-License-Identifier: Apache-2.0
"""One measurement of speech: decoded, aligned, scored.

    lag = argmax over |k| <= 400 of  Σ_t x[t] x̂[t + k]

Encoders of the classical kind start with look-ahead samples that players skip more or
less exactly; the measures must not punish that, so an integer lag within ±25 ms is
taken out. A row keeps the rule of every score beside it. A score of another rule or
version is not reused, and a measure that a row lacks is taken without the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from polycodec.codecs.measures import speech as measures
from polycodec.codecs.measures.speech import RATE
from polycodec.eval.measure import Row, Trip
from polycodec.eval.speech.subjects import SpeechSubject

FURTHEST = 400  # samples


@dataclass(frozen=True, kw_only=True)
class SpeechRow(Row):
    """What is known about one speech file, one subject and one setting."""

    file: str
    seconds: float
    file_bytes: int  # of everything that was written
    kbps: float
    estimated_bits: float | None
    lag: int  # samples by which the decoded speech came late
    scores: dict[str, float | None]
    rules: dict[str, str]  # by which each score was taken
    notes: dict[str, str]  # why a score is None

    @classmethod
    def of(
        cls,
        trip: Trip,
        file: str,
        key: str,
        names: Sequence[str],
        known: SpeechRow | None,
    ) -> SpeechRow:
        """Score (T,) float32 and what was decoded; keep other scores of ``known``."""
        signal, coded = trip.signal, trip.coded
        heard, lag = aligned(trip)
        scores, notes = measures.score(signal, heard, names)
        rules = measures.rules(names)
        if known is not None:
            scores, rules = {**known.scores, **scores}, {**known.rules, **rules}
            kept = {n: why for n, why in known.notes.items() if n not in names}
            notes = {**kept, **notes}
        seconds = len(signal) / RATE
        return cls(
            key=key,
            file=file,
            seconds=seconds,
            file_bytes=len(coded.data),
            kbps=8 * coded.size / seconds / 1000,
            estimated_bits=coded.estimated_bits,
            lag=lag,
            scores=scores,
            rules=rules,
            notes=notes,
            **trip.figures(),
        )

    def named(self, file: str) -> SpeechRow:
        """Return the same row of a file by another name."""
        return replace(self, file=file)

    def lacks(self, rules: Mapping[str, str]) -> list[str]:
        """Return names in ``rules`` (name: rule) of which there is no such score."""
        return [name for name, rule in rules.items() if self.rules.get(name) != rule]


def aligned(trip: Trip) -> tuple[np.ndarray, int]:
    """Return decoded samples as long as the signal, and the lag taken out."""
    decoded = trip.decoded.signal
    if not cast(SpeechSubject, trip.subject).delayed:
        return decoded, 0
    lag = lag_of(trip.signal, decoded)
    return shifted(decoded, lag, len(trip.signal)), lag


def lag_of(original: np.ndarray, decoded: np.ndarray) -> int:
    """Return by how many samples ``decoded`` comes late (negative: early)."""
    size = 1 << (len(original) + len(decoded) + FURTHEST).bit_length()
    spectrum = np.conj(np.fft.rfft(original, size)) * np.fft.rfft(decoded, size)
    product = np.fft.irfft(spectrum, size)
    lags = np.concatenate([product[-FURTHEST:], product[: FURTHEST + 1]])
    return int(lags.argmax()) - FURTHEST


def shifted(decoded: np.ndarray, lag: int, length: int) -> np.ndarray:
    """Move ``decoded`` by ``lag`` and cut or fill it with zeros to ``length``."""
    early = decoded[max(lag, 0) :]
    early = np.pad(early, (max(-lag, 0), 0))[:length]
    return np.pad(early, (0, length - len(early)))
