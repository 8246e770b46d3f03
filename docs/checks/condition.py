# SPDX-License-Identifier: Apache-2.0
"""What offset, hum and level cost a speech codec, with and without taking them out.

    python docs/checks/condition.py FOLDER [--level 8] [--seconds 10] [--number 40]

FOLDER: recordings at the codec's rate, shared out evenly. Codes go from the network to
the decoder without entropy coding, which changes nothing. PESQ-WB of what is decoded is
taken against the recording with what was added to it, and against the clean recording
once what was added is taken off again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch

import polycodec
from polycodec.codecs.files.speech.condition import Survey
from polycodec.codecs.measures.speech import score

ADDED = {
    "clean": (1.0, lambda t: 0 * t),
    "offset 0.1": (1.0, lambda t: 0 * t + 0.1),
    "hum 0.05": (1.0, lambda t: 0.05 * np.sin(2 * np.pi * 50 * t + 0.3)),
    "-40 dB": (0.01, lambda t: 0 * t),
}


def decoded(codec, x: np.ndarray, level: int, taken_out: bool) -> np.ndarray:
    """(T,) float32 after the codec, with or without the conditioning of files."""
    x, rate = x[:, None], codec.signal.rate
    survey = Survey(rate, 1)
    survey.push(x)
    condition, _ = survey.condition(np.ones((1, 1)))
    use = taken_out and bool(condition)
    y = np.concatenate(list(condition.removed([x], rate))) if use else x
    y = np.clip(y, -1, 1)
    codes = codec.encode_codes(torch.from_numpy(y.T.copy())[None], level)
    back = codec.decode_codes(codes, level, (len(y),))[0].numpy().T
    if use:
        back = np.concatenate(list(condition.restored([back], 0, rate)))
    return back[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--level", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--number", type=int, default=40)
    options = parser.parse_args()
    codec = polycodec.load("speech/default")
    paths = sorted(options.folder.glob("*.flac"))
    paths = paths[:: max(1, len(paths) // options.number)][: options.number]
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for path in paths:
        clean, rate = soundfile.read(path, dtype="float32")
        clean = clean[: round(options.seconds * rate)]
        t = np.arange(len(clean)) / rate
        for name, (gain, added) in ADDED.items():
            more = added(t).astype(np.float32)
            x = np.clip(gain * clean + more, -1, 1)
            for taken_out in (False, True):
                y = decoded(codec, x, options.level, taken_out)
                alone = np.clip((y - more) / gain, -1, 1).astype(np.float32)
                pair = [score(x, y, ["pesq_wb"]), score(clean, alone, ["pesq_wb"])]
                values = tuple(values["pesq_wb"] for values, _ in pair)
                found.setdefault((name, taken_out), []).append(values)
    print(f"{len(paths)} recordings, level {options.level}; PESQ-WB")
    for (name, taken_out), rows in found.items():
        a, b = np.nanmean(np.array(rows, float), axis=0)
        how = "taken out" if taken_out else "left in"
        print(f"{name:12}{how:12}of the input {a:.3f}   of the speech in it {b:.3f}")


if __name__ == "__main__":
    main()
