# SPDX-License-Identifier: Apache-2.0
"""HNeRV-Boost fitted to a whole clip on a GPU: PSNR at a rate, frames a second.

    python docs/checks/gpu/bunny.py frames CLIP FOLDER              needs PyAV; 1280x640
    python docs/checks/gpu/bunny.py fit FOLDER [--seconds 480] [--bpp 0.05]

The first makes lossless WebP frames of the middle of a clip, which a machine without
PyAV reads; the second fits `video/hnerv-boost` to them, decodes the file and prints one
line of JSON. Published of Big Buck Bunny at about 0.05 bpp: 36.5 dB and more.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from polycodec import decode, encode
from polycodec.codecs.measures.image import psnr


def frames(clip: Path, folder: Path, width: int = 1280, height: int = 640) -> None:
    """The middle of every frame, as FOLDER/1.webp, 2.webp ..."""
    import av

    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(clip)) as source:
        for k, frame in enumerate(source.decode(video=0), 1):
            image = frame.to_image()
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
            image.save(folder / f"{k}.webp", lossless=True)


def fit(folder: Path, model: str, seconds: float, bpp: float, device: str) -> None:
    """Encode the frames by a model fitted for so long, decode, and compare."""
    shown = sorted(folder.glob("*.webp"), key=lambda path: int(path.stem))
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in shown]
    size = int(bpp * len(pixels) * pixels[0].shape[0] * pixels[0].shape[1] / 8)
    out, back = folder / "clip.plc", folder / "back"
    given = {"model": model, "time_budget": seconds, "target_size": size}
    made = encode(folder, out, as_="video", fps=24, device=device, force=True, **given)
    back.mkdir(exist_ok=True)
    begun = time.perf_counter()
    decode(out, back / "%05d.png", device=device, force=True)
    pace = len(pixels) / (time.perf_counter() - begun)
    decoded = [np.asarray(Image.open(path)) for path in sorted(back.glob("*.png"))]
    each = [psnr(one, other) for one, other in zip(pixels, decoded, strict=True)]
    row = {"bytes": made.bytes, "bpp": made.bpp, "psnr": float(np.mean(each))}
    row |= {"fps": pace, "seconds": made.seconds, "notes": made.notes}
    print(json.dumps(row))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("frames", "fit"))
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--model", default="video/hnerv-boost")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--bpp", type=float, default=0.05)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.what == "frames":
        frames(*given.paths)
    else:
        fit(*given.paths, given.model, given.seconds, given.bpp, given.device)


if __name__ == "__main__":
    main()
