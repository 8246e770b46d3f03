# SPDX-License-Identifier: Apache-2.0
"""Large images: memory, seams, and what a region reads.

    python docs/checks/large.py PHOTO OUT [--size 8000x6000]

Enlarges the photograph (mirrored copies, some noise), encodes and decodes it in child
processes and reports their peak resident memory; then codes 1536x1024 pixels once
whole and once in tiles; then reads a region of 256x256.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from polycodec.codecs.files.api import decode, encode
from polycodec.codecs.measures import image as measures


def enlarge(photo: Path, width: int, height: int) -> Image.Image:
    """Mirror the photograph until it fills width x height; noise keeps it real."""
    tile = np.asarray(Image.open(photo).convert("RGB"))
    pair = np.concatenate([tile, tile[:, ::-1]], 1)
    block = np.concatenate([pair, pair[::-1]], 0)
    rows, columns = -(-height // block.shape[0]), -(-width // block.shape[1])
    pixels = np.tile(block, (rows, columns, 1))[:height, :width].astype(np.int16)
    noise = np.random.default_rng(1).integers(-3, 4, pixels.shape, np.int16)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def child(*command: str) -> dict[str, float]:
    """Run polycodec in a child; its seconds, those of its processor, peak MB."""
    before = os.times()
    process = subprocess.Popen([sys.executable, "-m", "polycodec", *command])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"polycodec {' '.join(command)} failed with {status}")
    after = os.times()
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return {
        "seconds": round(after.elapsed - before.elapsed, 1),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak MB": round(usage.ru_maxrss / unit, 1),
    }


def psnr(one: Path, two: Path) -> float:
    """PSNR in dB between two images of 8 bits."""
    return measures.psnr(*(np.array(Image.open(p).convert("RGB")) for p in (one, two)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="8000x6000")
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    width, height = (int(v) for v in args.size.split("x"))
    args.out.mkdir(parents=True, exist_ok=True)
    weights = ["--checkpoint", args.checkpoint] if args.checkpoint else []
    large, packed = args.out / "large.ppm", args.out / "large.plc"
    enlarge(args.photo, width, height).save(large)
    table = {
        "encode": child("encode", str(large), "-o", str(packed), "--force", *weights)
    }
    back = args.out / "back.ppm"
    table["decode"] = child("decode", str(packed), "-o", str(back), "--force", *weights)
    table["region"] = region(packed, args, width, height)
    table["seams"] = seams(args)
    table["this process MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(table, indent=1))


def region(packed: Path, args, width: int, height: int) -> dict[str, float]:
    """Decode 256x256 in the middle; bytes read, and equality with the whole."""
    box = (width // 2 - 100, height // 2 - 100, 256, 256)
    target = args.out / "region.png"
    done = decode(
        packed, target, region=box, checkpoint=args.checkpoint, force=True, device="cpu"
    )
    x, y, w, h = box
    whole = np.asarray(Image.open(args.out / "back.ppm"))[y : y + h, x : x + w]
    part = np.asarray(Image.open(target).convert("RGB"))
    return {
        "share of the file read": done.bytes / packed.stat().st_size,
        "largest difference from the whole": int(
            np.abs(part.astype(int) - whole.astype(int)).max()
        ),
    }


def seams(args) -> dict[str, float]:
    """PSNR of 1536x1024 pixels coded whole and in tiles of 256 and 512."""
    source = args.out / "middle.png"
    enlarge(args.photo, 1536, 1024).save(source)
    row = {}
    for tile in (0, 256, 512):
        packed, back = args.out / f"t{tile}.plc", args.out / f"t{tile}.png"
        options = {"checkpoint": args.checkpoint, "force": True, "device": "cpu"}
        result = encode(source, packed, quality=50, tile=tile, **options)
        decode(packed, back, **options)
        row[f"PSNR, tile {tile}"] = psnr(source, back)
        row[f"bytes, tile {tile}"] = result.bytes
    return row


if __name__ == "__main__":
    main()
