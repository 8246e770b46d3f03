# SPDX-License-Identifier: Apache-2.0
"""The same window of one frame by every codec at about the same rate.

By rule: the middle frame of the first clip, its window with the most detail; our codec
at its middle setting, of the others the setting whose rate is nearest. A smaller window
around it, in the frames next to it, plays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polycodec.eval.image.samples import busiest_window
from polycodec.eval.kind import Run
from polycodec.eval.measure import Row, Trip, naming
from polycodec.eval.video import clip

PLAYED, SMALL = 32, 192  # frames at most, and sides, of what plays


@dataclass(frozen=True)
class Windows:
    """One frame's window: of the original, and (label, row, pixels) of each codec.

    ``playing``: frames of the smaller window, the original's and each codec's abreast.
    """

    file: str
    frame: int
    original: np.ndarray
    shown: list[tuple[str, Row, np.ndarray]]
    playing: list[np.ndarray]


def make_windows(rows: list[Row], run: Run, *, side: int = 288) -> Windows:
    """Code the first clip by every subject once more, and cut the window."""
    item = run.items[0]
    signal = run.kind.taken(item, run.options)
    middle = len(signal) // 2
    original = clip.rgb(signal[middle])
    x, y, w, h = busiest_window(original, side)
    window = np.s_[y : y + h, x : x + w]
    begin = max(0, min(middle - PLAYED // 2, len(signal) - PLAYED))
    small = _middle(y, h), _middle(x, w)

    def moving(decoded: np.ndarray) -> np.ndarray:
        frames = decoded[begin : begin + PLAYED]
        return np.stack([clip.rgb(frame)[small] for frame in frames])

    abreast = [moving(signal)]
    known = {(r.file, r.codec, r.setting): r for r in rows}
    shown: list[tuple[str, Row, np.ndarray]] = []
    for subject in run.subjects:
        own = [known[item.name, subject.name, float(s)] for s in subject.settings]
        wanted = shown[0][1].rate if shown else own[len(own) // 2].rate
        distances = [abs(row.rate - wanted) for row in own]
        row = own[distances.index(min(distances))]
        with naming(subject, row.setting, item.name):
            decoded = Trip.of(subject, signal, row.setting).decoded.signal
        shown.append((subject.label, row, clip.rgb(decoded[middle])[window]))
        abreast.append(moving(decoded))
    playing = list(np.concatenate(abreast, axis=2))
    return Windows(item.name, middle, original[window], shown, playing)


def _middle(begin: int, length: int) -> slice:
    """The middle of a side, at most `SMALL` long."""
    cut = max(0, length - SMALL) // 2
    return slice(begin + cut, begin + length - cut)
