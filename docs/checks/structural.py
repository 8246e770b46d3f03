# SPDX-License-Identifier: Apache-2.0
"""Structural codebooks: codes and seconds against frames N and neighbours k.

    python docs/checks/structural.py SPEECH --out DIR [--model speech/default]

    latents    what the model's encoder makes of random crops of SPEECH, as training
               collects them: silent frames left out
    log-mel    80 bands of such crops, a frame every 10 ms

For every N of --frames and k of --neighbours: codes found, nodes and edges of the
graph, its one- and two-level structural entropy in bits, processor seconds of the
build, and the error of the codes: |x - vector of its code|² as a share of
the frames' variance. Crops of a second are a few frames apart at most, so the rule that
frames close in time are never linked acts as in training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.quantizers.structural.build import BuildOptions, build_codebook
from polycodec.train.speech.data import SpeechCache, SpeechSource
from polycodec.train.speech.spectra import magnitude, mel_filters, spectrum
from polycodec.train.speech.task import collect

BANDS, WINDOW, OVERLAP = 80, 640, 4  # of 16 kHz: 40 ms, every 10 ms
FLOOR = 1e-4


def log_mel(rate: int) -> Callable[[Tensor], Tensor]:
    """The function (B, 1, T) -> (B, 80, frames)."""
    filters = mel_filters(BANDS, WINDOW, rate)

    def analyse(x: Tensor) -> Tensor:
        frames = magnitude(spectrum(x[:, 0], WINDOW, OVERLAP), 1e-8) @ filters
        kept = frames[:, : x.shape[-1] // (WINDOW // OVERLAP)]
        return torch.log10(kept.clamp_min(FLOOR)).transpose(1, 2)

    return analyse


def built(z: np.ndarray, frames: int, neighbours: int) -> dict[str, float]:
    """Build from the first ``frames`` rows; what was found and what it took."""
    z = z[:frames].astype(np.float64)
    begin, wall = time.process_time(), time.perf_counter()
    options = BuildOptions(neighbours=neighbours, frames=frames)
    found = build_codebook(z, options)
    end = time.process_time()
    rows = z[found.rows]
    error = np.mean((rows - found.vectors[found.labels]) ** 2)
    names = ("codes", "nodes", "edges", "found", "merged", "dissolved", "h1", "h2")
    return {
        "frames": frames,
        "k": neighbours,
        **{name: float(found.report[name]) for name in names},
        "processor s": end - begin,
        "wall s": time.perf_counter() - wall,
        "error": float(error / np.mean(rows.var(axis=0))),
    }


def markdown(table: dict[str, list[dict]]) -> str:
    """A line for each build."""
    lines = ["| frames of | N | k | codes | H1 | H2 | seconds | error |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for kind, rows in table.items():
        for r in rows:
            lines.append(
                f"| {kind} | {r['frames']:,} | {r['k']} | {r['codes']:.0f} | "
                f"{r['h1']:.2f} | {r['h2']:.2f} | {r['processor s']:.1f} | "
                f"{r['error']:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech/default")
    parser.add_argument("--checkpoint")
    parser.add_argument("--frames", type=int, nargs="+", default=[8000, 20000])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--of", nargs="+", default=["latents", "log-mel"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    codec = zoo.load(args.model, "cpu", checkpoint=args.checkpoint)
    recordings = SpeechCache(args.speech, args.out, codec.signal.rate)
    options = {"length": codec.signal.rate, "batch": 16, "seed": 0, "holdout": 20}
    source = SpeechSource(recordings, **options)
    inputs = {"latents": codec.transform.g_a, "log-mel": log_mel(codec.signal.rate)}
    table: dict[str, list[dict]] = {}
    for kind in args.of:
        z = collect(inputs[kind], source, max(args.frames), 0).numpy()
        table[kind] = []
        for frames in args.frames:
            for k in args.neighbours:
                table[kind].append(built(z, frames, k))
                print(kind, table[kind][-1], file=sys.stderr, flush=True)
    (args.out / "structural.json").write_text(json.dumps(table, indent=1) + "\n")
    print(markdown(table))


if __name__ == "__main__":
    main()
