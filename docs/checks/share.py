# SPDX-License-Identifier: Apache-2.0
"""The range coder's share of whole photographs, in each of its back ends.

    python docs/checks/share.py DIR [--quality 50] [--threads 1]

Every picture of DIR is compressed and decompressed with image/default, by the NumPy
reference, by plain C++ and by the best instructions of this processor, taking turns.
The coder's part is the time inside its own calls. The bytes must be equal.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from polycodec.codecs import zoo
from polycodec.cuda.host import library as native
from polycodec.eval.bench.codec import Clock

PICTURES = (".png", ".webp", ".jpg", ".jpeg")


def back_ends() -> dict[str, dict[str, str]]:
    """Environments that choose a back end, by name."""
    found = {"numpy": {"POLYCODEC_CODER": "numpy"}}
    if native.library() is not None:
        best = native.SIMD[native.library().best_simd]
        for level in dict.fromkeys(("scalar", best)):
            found[level] = {"POLYCODEC_CODER": "native", "POLYCODEC_SIMD": level}
    return found


def round_trip(
    clock: Clock, compress: Callable, decompress: Callable, x: torch.Tensor
) -> tuple[dict[str, float], list[bytes]]:
    """Seconds of both ways and of the coder in them, and the bytes."""
    data, packing, coder = clock.time(functools.partial(compress, x))
    row = {"compress": packing, "coder, compress": coder}
    _, unpacking, coder = clock.time(functools.partial(decompress, data))
    return {**row, "decompress": unpacking, "coder, decompress": coder}, data


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = Clock(torch.device("cpu"))
    paths = sorted(p for p in args.folder.iterdir() if p.suffix.lower() in PICTURES)
    totals: dict[str, dict[str, float]] = {}
    different = 0
    with torch.inference_mode(), clock.watch.on_coder():
        codec = zoo.load("image/default")
        compress = functools.partial(codec.compress, quality=args.quality)
        for turn, path in enumerate(paths[:1] + paths):  # the first one warms up
            pixels = np.array(Image.open(path).convert("RGB"))
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
            coded = set()
            for name, environment in back_ends().items():
                os.environ.update(environment)
                row, data = round_trip(clock, compress, codec.decompress, x)
                coded.add(data[0])
                if turn:
                    total = totals.setdefault(name, dict.fromkeys(row, 0.0))
                    totals[name] = {k: v + total[k] for k, v in row.items()}
            different += len(coded) > 1
    for row in totals.values():
        for way in ("compress", "decompress"):
            row[f"share, {way}"] = row[f"coder, {way}"] / row[way]
    report = {"pictures": len(paths), "quality": args.quality, "different": different}
    print(json.dumps({**report, "seconds": totals}, indent=1))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
