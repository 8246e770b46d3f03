# SPDX-License-Identifier: Apache-2.0
"""Speech as evaluations see it: several measures over kbit/s."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from polycodec.codecs.measures.speech import MEASURES, RATE
from polycodec.eval.curves import Curve, published, published_point
from polycodec.eval.kind import Kind, Run
from polycodec.eval.measure import Trip
from polycodec.eval.speech import wave
from polycodec.eval.speech.anchors import ANCHORS, DEFAULT_ANCHORS
from polycodec.eval.speech.datasets import SPEECH
from polycodec.eval.speech.result import SpeechEvaluation
from polycodec.eval.speech.subjects import SpeechCodec

# The status of published points that were not seen printed by anybody here.
UNSEEN = "recollected"


class SpeechKind(Kind):
    """Speech at 16 kHz, beside Opus and Codec2."""

    name = "speech"
    datasets = SPEECH
    codec, own = "speech/default", SpeechCodec
    anchors, default_anchors = ANCHORS, DEFAULT_ANCHORS
    measures, result = MEASURES, SpeechEvaluation
    control = "target_kbps"
    options = ("target_kbps",)
    rate, pace = ("kbit/s", 2), "RTF"
    logarithmic = intervals = True
    method = (
        "At 16 kHz, one channel, whole files, 16-bit samples. Rates: bits of all "
        "files over their seconds. RTF: seconds of coding for a second of speech, on "
        "this machine. The delay of a classical codec is searched within 25 ms and "
        "taken out. Points that others published are on speech of their own: they say "
        "where a system stands, not who wins."
    )

    def amount(self, signal: np.ndarray) -> float:
        """Return the seconds of (T,) samples."""
        return len(signal) / RATE

    def rate_of(self, size: float, amount: float) -> float:
        """Return kbit/s."""
        return 8 * size / amount / 1000

    def share(self, amount: float) -> float:
        """Return seconds: rates and times are of all speech together."""
        return amount

    def heard(self, trip: Trip) -> np.ndarray:
        """Return decoded samples as long as the signal, a classical delay taken out."""
        decoded = trip.decoded.signal
        if not trip.subject.delayed:
            return decoded
        lag = wave.lag_of(trip.signal, decoded)
        return wave.shifted(decoded, lag, len(trip.signal))

    def published(self, run: Run) -> list[Curve]:
        """Read points of other people."""
        path, names = run.options.published, list(run.rules)
        if path is None:
            return []
        read = functools.partial(read_points, names=names)
        expected = "a list 'points' of objects with codec and kbps"
        return published(path, read, expected)


def read_points(content: Any, names: Sequence[str]) -> list[Curve]:
    """Return a curve of one point for each of ``{"points": [{codec, kbps, ...}]}``.

    Points without a rate or without any of the measures ``names`` and those that nobody
    here has seen printed are left out, as are measures of music.
    """
    found = []
    for at, entry in enumerate(content["points"]):
        scores = {name: entry[name] for name in names if entry.get(name) is not None}
        label, rate, place = entry["codec"], entry["kbps"], entry.get("test_set", "")
        status = entry.get("status", "")
        if not rate or not scores or status == UNSEEN or "music" in place:
            continue
        found.append(
            Curve(
                name=f"published-{at}",
                label=str(label),
                kind="published",
                points=(published_point(float(rate), scores),),
                note=f"{status} on {place}",
            )
        )
    return found


KIND = SpeechKind()
