# SPDX-License-Identifier: Apache-2.0
"""What `--effort N` saves: bytes at equal PSNR, by real files.

    python docs/checks/effort.py IMAGES --effort 100 [--quality 50] [--crops 8]

From the middle of each of the first images a 256x256 crop is coded plainly at several
qualities, which is its curve, and once with effort. The curve says what the plain
codec would have spent for the PSNR that effort reached; the saving is against that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import polycodec

SIDE = 256
AROUND = (-12, -6, 0, 6, 12)  # qualities of the plain curve, beside the wanted one


def crops(folder: Path, count: int) -> list[tuple[str, Image.Image]]:
    """The middles of the first ``count`` images that are large enough, by name."""
    found = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
            if min(left, top) < 0:
                continue
            box = (left, top, left + SIDE, top + SIDE)
            found.append((path.name, image.convert("RGB").crop(box)))
        if len(found) == count:
            break
    return found


def coded(source: Path, codec, quality: float, effort: int) -> tuple[int, float]:
    """Bytes and PSNR of a real file."""
    target = source.with_suffix(".plc")
    result = polycodec.encode(
        source,
        target,
        quality=quality,
        effort=effort,
        psnr=True,
        force=True,
        codec=codec,
    )
    return result.bytes, result.psnr


def saving(source: Path, codec, quality: float, effort: int) -> dict[str, float]:
    """Percent of bytes saved at the PSNR that ``effort`` reaches."""
    plain = [coded(source, codec, quality + step, 0) for step in AROUND]
    sizes, psnrs = (np.array(column) for column in zip(*plain, strict=True))
    size, psnr = coded(source, codec, quality, effort)
    equal = float(np.exp(np.interp(psnr, psnrs, np.log(sizes))))
    return {
        "plain": int(sizes[len(AROUND) // 2]),
        "plain_psnr": float(psnrs[len(AROUND) // 2]),
        "effort": size,
        "effort_psnr": psnr,
        "saved_percent": 100 * (1 - size / equal),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--effort", type=int, default=100)
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--crops", type=int, default=8)
    parser.add_argument("--checkpoint")
    given = parser.parse_args()
    codec = polycodec.load(device="cpu", checkpoint=given.checkpoint)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, crop in crops(given.images, given.crops):
            source = Path(folder) / "crop.png"
            crop.save(source)
            rows[name] = saving(source, codec, given.quality, given.effort)
    mean = float(np.mean([row["saved_percent"] for row in rows.values()]))
    print(json.dumps({"rows": rows, "mean_saved_percent": mean}, indent=1))


if __name__ == "__main__":
    main()
