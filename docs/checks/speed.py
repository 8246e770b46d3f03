# SPDX-License-Identifier: Apache-2.0
"""Seconds to compress and decompress one photograph, beside CompressAI if installed.

    python docs/checks/speed.py PHOTO [--threads 2] [--rounds 5]

All in one process and one run, the codecs taking turns, the best of the rounds:
`mbt2018-mean` (quality 4) and `cheng2020-anchor` with random weights, whose time does
not depend on training except through the number of bytes. `coder` is the time inside
the range coder's own calls and its share of the whole. `polycodec bench codec --input
PHOTO` measures the same in rounds that go on until nothing gets better.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polycodec.codecs import zoo
from polycodec.eval.bench.clock import Stopwatch
from polycodec.eval.bench.subjects import peers


def subjects(checkpoint: str | None) -> dict[str, tuple[Callable, Callable]]:
    """(compress, decompress) by name."""
    codec = zoo.load(checkpoint=checkpoint)
    found = {"image/default": (lambda x: codec.compress(x, 50), codec.decompress)}
    others = {p.name: (p.compress, p.decompress) for p in peers(torch.device("cpu"))}
    return found | others


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pixels = np.array(Image.open(args.photo).convert("RGB"))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    watch = Stopwatch()
    best: dict[str, dict[str, float]] = {}
    with torch.inference_mode(), watch.on_coder():
        codecs = subjects(args.checkpoint)
        for turn in range(args.rounds + 1):
            for name, (compress, decompress) in codecs.items():
                if turn > 2 and "cheng" in name:
                    continue  # seconds a call: two rounds are enough
                row, _ = measure(compress, decompress, x, watch)
                if turn:  # the first round warms up
                    old = best.setdefault(name, row)
                    best[name] = {k: min(v, old[k]) for k, v in row.items()}
    for row in best.values():
        row["coder share, decompress"] = row["coder, decompress"] / row["decompress"]
        row["coder share, compress"] = row["coder, compress"] / row["compress"]
    print(json.dumps({"torch": torch.__version__, **best}, indent=1))


def measure(
    compress: Callable, decompress: Callable, x, watch: Stopwatch
) -> tuple[dict[str, float], Any]:
    """Seconds of one round trip, and what was compressed."""
    watch.seconds, started = 0.0, time.perf_counter()
    data = compress(x)
    row = {"compress": time.perf_counter() - started, "coder, compress": watch.seconds}
    watch.seconds, started = 0.0, time.perf_counter()
    decompress(data)
    row["decompress"] = time.perf_counter() - started
    row["coder, decompress"] = watch.seconds
    return row, data


if __name__ == "__main__":
    main()
