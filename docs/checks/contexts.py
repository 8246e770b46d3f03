# SPDX-License-Identifier: Apache-2.0
"""What decoding of a whole picture costs under the variants of `entropy.py`.

    python docs/checks/entropy.py OUT --images FOLDER --preset mlic --steps 3
    python docs/checks/contexts.py OUT kodim01.png [--only today,near]

Seconds of the processor, the least of three turns, at quality 50: they depend on what a
variant computes and hardly on how long it was trained. The synthesis is everybody's.
Prints a table; ratios are of entropy decoding alone, and of all, against the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.stored import load_codec
from polycodec.eval.text import Table, aligned

TURNS = 3
QUALITY = 50.0


def seconds(action: Callable[[], Any]) -> float:
    """Of the processor, the least of some turns."""
    found = []
    for _ in range(TURNS):
        started = time.process_time()
        action()
        found.append(time.process_time() - started)
    return min(found)


def of_entropy(codec: Codec, x: Tensor) -> float:
    """Seconds to read the latents of x (1, 3, H, W)."""
    level, grid = codec.level_of(QUALITY), codec.grid(x.shape[2:])
    data = codec.write(codec.encode_codes(x, level), level).data
    return seconds(lambda: codec.read(data, level, grid))


def of_synthesis(codec: Codec, x: Tensor) -> float:
    """Seconds from latents to the picture x (1, 3, H, W)."""
    level, size = codec.level_of(QUALITY), x.shape[2:]
    codes = codec.encode_codes(x, level)
    return seconds(lambda: codec.decode_codes(codes, level, size))


@torch.inference_mode()
def main() -> None:
    """Measure every exported variant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="of entropy.py")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--only", help="names of variants, with commas; the first is 1")
    given = parser.parse_args()
    made = [path.parent.name for path in sorted(given.out.glob(f"*/{zoo.EXPORTED}"))]
    torch.set_num_threads(1)
    with Image.open(given.picture) as image:
        x = torch.from_numpy(np.array(image.convert("RGB")))
    x = x.movedim(-1, 0)[None] / 255
    rows, synthesis = [], 0.0
    for name in given.only.split(",") if given.only else made:
        codec = load_codec(given.out / name / zoo.EXPORTED)
        if not rows:
            synthesis = of_synthesis(codec, x)
        own = of_entropy(codec, x)
        rows.append((name, own))
        print(f"{name}: {own:.2f} s", flush=True)
    print(f"synthesis: {synthesis:.2f} s")
    header = ["variant", "entropy s", "ratio", "whole ratio"]
    first = rows[0][1]
    lines = []
    for name, own in rows:
        ratios = own / first, (own + synthesis) / (first + synthesis)
        lines.append([name, *(f"{value:.2f}" for value in (own, *ratios))])
    print(*aligned(Table(header, lines)), sep="\n")


if __name__ == "__main__":
    main()
