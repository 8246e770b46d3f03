# SPDX-License-Identifier: Apache-2.0
"""What a difference from a shipped model saves on pictures of its kind, and its price.

    polycodec train image/default data.train=KIND data.holdout=5 run.steps=500 \\
        run.init=WEIGHTS run.out=RUN 'optim.only=["transform.g_s", "entropy"]' ...
    polycodec export RUN --max-loss 0.02 --base image/default
    python docs/checks/delta.py RUN OTHER_PICTURES_OF_THE_KIND

Both models code every picture into real files. Each picture's BD-rate is that of its
two curves; what is saved at a quality is read off the base's curve at the PSNR that the
fine-tuned model reached. The difference pays when that many pictures have saved its
bytes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import polycodec
from polycodec.codecs import zoo
from polycodec.eval import bdrate
from polycodec.eval.image.datasets import IMAGES

QUALITIES = (10.0, 35.0, 60.0, 85.0)


def curve(codec, source: Path, folder: Path) -> np.ndarray:
    """Bytes and PSNR of real files at every quality, (2, Q)."""
    rows = []
    for quality in QUALITIES:
        target = folder / "a.plc"
        found = polycodec.encode(
            *(source, target), quality=quality, psnr=True, force=True, codec=codec
        )
        rows.append((found.bytes, found.psnr))
    return np.array(rows).T


def saved(base: np.ndarray, tuned: np.ndarray) -> np.ndarray:
    """Bytes saved at each point of ``tuned``, by the base's curve, (Q,).

    Beyond its ends the curve goes on as straight as it ends, log bytes over PSNR.
    """
    sizes, psnr = np.log(base[0]), base[1]
    equal = np.interp(tuned[1], psnr, sizes)
    for end, inner in ((0, 1), (-1, -2)):
        slope = (sizes[end] - sizes[inner]) / (psnr[end] - psnr[inner])
        out = tuned[1] < psnr[0] if end == 0 else tuned[1] > psnr[-1]
        equal[out] = sizes[end] + slope * (tuned[1][out] - psnr[end])
    return np.exp(equal) - tuned[0]


def main() -> None:
    """Print the pictures, their means, and how many pictures pay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--base", default="image/default")
    parser.add_argument("--count", type=int, help="of the pictures, evenly taken")
    args = parser.parse_args()
    codecs = polycodec.load(args.base), polycodec.load(args.base, checkpoint=args.run)
    price = zoo.weights_at(args.run).stat().st_size
    rates, sizes, gains = [], [], []
    with tempfile.TemporaryDirectory() as name:
        paths = list(IMAGES.files_in(args.pictures))
        for path in paths[:: max(1, len(paths) // (args.count or len(paths)))]:
            source = Path(name) / "a.png"
            with Image.open(path) as image:
                image.convert("RGB").save(source)
            base, tuned = (curve(codec, source, Path(name)) for codec in codecs)
            rates.append(bdrate.compare(*base, *tuned).rate_akima)
            sizes.append(base[0])
            gains.append(saved(base, tuned))
            print(path.name, f"BD-rate {rates[-1]:+.2f} %", flush=True)
    mean, bytes_of = np.mean(gains, 0), np.mean(sizes, 0)
    rows = {
        f"{quality:g}": {
            "bytes": round(size),
            "saved": round(gain, 1),
            "pictures that pay": round(price / gain) if gain > 0 else None,
        }
        for quality, size, gain in zip(QUALITIES, bytes_of, mean, strict=True)
    }
    error = float(np.std(rates, ddof=1) / len(rates) ** 0.5)
    found = {
        "delta bytes": price,
        "pictures": len(rates),
        "BD-rate": round(float(np.mean(rates)), 2),
        "standard error": round(error, 2),
        "by quality": rows,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
