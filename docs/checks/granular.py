# SPDX-License-Identifier: Apache-2.0
"""Control-GIC on photographs: rates of one model, targets, detail where it is wished.

    python docs/checks/granular.py WEIGHTS PICTURE... -o DIR [--target 0.2] [--beside]

For each picture: bytes, bits a pixel, PSNR, MS-SSIM and a substitute for LPIPS (which
it is not: train/image/perceptual.py) at eight qualities, which must rise, over a factor
of 4; how far --target-bpp is missed, at most 3 %; PSNR inside and outside of a centred
rectangle of a ninth of the area, with and without --roi, at equal bytes (within 3 %);
crops of the middle, beside JPEG and image/default at equal bytes with --beside. Writes
results.json and crops-NAME.png; fails where something that must hold does not.

A 768x512 picture takes about 30 codings: minutes on one core with the small model.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import polycodec
from polycodec.codecs.base import Codec
from polycodec.codecs.measures import image as measures
from polycodec.codecs.stored import load_codec
from polycodec.train.image.perceptual import perceptual

QUALITIES = (5, 18, 31, 44, 57, 70, 83, 96)
CROP = 192


def coded(codec: Codec, path: Path, **options: Any) -> tuple[int, np.ndarray]:
    """Bytes of the file, and the decoded pixels."""
    file, back = io.BytesIO(), io.BytesIO()
    polycodec.encode(path, file, codec=codec, **options)
    file.seek(0)
    polycodec.decode(file, back, codec=codec)
    return len(file.getvalue()), pixels_of(back)


def pixels_of(source: Any) -> np.ndarray:
    """(H, W, 3) uint8 of a picture."""
    if hasattr(source, "seek"):
        source.seek(0)
    return np.asarray(Image.open(source).convert("RGB"))


def scores(x: np.ndarray, x_hat: np.ndarray) -> dict[str, float]:
    """PSNR, MS-SSIM, and the perceptual substitute."""
    a, b = (torch.from_numpy(v.copy()).movedim(2, 0)[None] / 255 for v in (x, x_hat))
    return {
        "psnr": measures.psnr(x, x_hat),
        "ms_ssim": measures.ms_ssim(x, x_hat)[0],
        "perceptual_substitute": float(perceptual(a, b)),
    }


def rates(codec: Codec, path: Path, x: np.ndarray) -> list[dict[str, float]]:
    """A row for each quality."""
    rows = []
    for quality in QUALITIES:
        size, x_hat = coded(codec, path, quality=quality)
        bpp = 8 * size / x[..., 0].size
        rows.append({"quality": quality, "bpp": bpp, **scores(x, x_hat)})
        print(path.name, *(f"{k} {v:.4f}" for k, v in rows[-1].items()), flush=True)
    return rows


def wished(codec: Codec, path: Path, x: np.ndarray, folder: Path) -> dict[str, float]:
    """PSNR inside and outside of a rectangle, with --roi less without, equal bytes."""
    h, w = x.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    mask[h // 3 : 2 * h // 3, w // 3 : 2 * w // 3] = 255
    roi = folder / f"roi-{path.stem}.png"
    Image.fromarray(mask).save(roi)

    def measured(**options: Any) -> tuple[int, dict[str, float]]:
        size, x_hat = coded(codec, path, **options)
        error = (x_hat.astype(float) - x) ** 2
        parts = {"inside": error[mask > 0], "outside": error[mask == 0]}
        return size, {k: 10 * np.log10(255**2 / v.mean()) for k, v in parts.items()}

    after, drawn = measured(quality=44, roi=roi)
    before, plain = measured(target_size=after)
    gains = {k: float(drawn[k] - plain[k]) for k in plain}
    return {"bytes_ratio": after / before, **gains}


def jpeg(x: np.ndarray, most: int) -> np.ndarray:
    """The largest JPEG of at most so many bytes, or the smallest there is."""
    best = None
    for quality in range(1, 96):
        out = io.BytesIO()
        Image.fromarray(x).save(out, "JPEG", quality=quality, optimize=True)
        if best is not None and len(out.getvalue()) > most:
            break
        best = out
    assert best is not None
    return pixels_of(best)


def crops(codec: Codec, path: Path, x: np.ndarray, folder: Path, bpp: float) -> None:
    """Original, this codec, JPEG and image/default at equal bytes, side by side."""
    size, ours = coded(codec, path, target_bpp=bpp)
    default = polycodec.load("image/default")
    _, theirs = coded(default, path, target_size=size)
    top, left = (n // 2 - CROP // 2 for n in x.shape[:2])
    parts = [
        one[top : top + CROP, left : left + CROP]
        for one in (x, ours, jpeg(x, size), theirs)
    ]
    Image.fromarray(np.concatenate(parts, 1)).save(folder / f"crops-{path.stem}.png")


def main() -> None:
    """Measure all pictures; exit with 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-o", dest="folder", type=Path, required=True)
    parser.add_argument("--target", type=float, default=0.2, help="bits a pixel")
    parser.add_argument("--beside", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    codec = load_codec(given.weights, name="image/granular")
    results, wrong = {}, []
    for path in given.pictures:
        x = pixels_of(path)
        rows = rates(codec, path, x)
        bpp = [row["bpp"] for row in rows]
        size, _ = coded(codec, path, target_bpp=given.target)
        missed = 1 - 8 * size / x[..., 0].size / given.target
        drawn = wished(codec, path, x, given.folder)
        if given.beside:
            crops(codec, path, x, given.folder, given.target)
        holds = {
            "rates rise": bpp == sorted(set(bpp)),
            "a factor of 4": bpp[-1] >= 4 * bpp[0],
            "targets within 3 %": 0 <= missed <= 0.03,
            "equal bytes": abs(drawn["bytes_ratio"] - 1) <= 0.03,
            "detail inside": drawn["inside"] > 0 > drawn["outside"],
        }
        wrong += [f"{path.name}: {name}" for name, held in holds.items() if not held]
        results[path.name] = {"rates": rows, "missed": missed, "roi": drawn} | holds
        print(path.name, f"missed {100 * missed:.2f} %", drawn, holds, flush=True)
    (given.folder / "results.json").write_text(json.dumps(results, indent=1))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
