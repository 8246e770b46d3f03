# SPDX-License-Identifier: Apache-2.0
"""Videos: memory that does not grow with length, bytes that do not depend on threads.

    python docs/checks/video.py OUT [--frames 200 2000] [--size 160x96] [--clip CLIP]
        [--checkpoint WEIGHTS]

A synthetic clip of each length is encoded to a file and decoded to Y4M in child
processes, whose peak resident memory is reported. Then a clip is coded and decoded with
1, 2 and 4 threads: files must be equal, and so must what they decode to but for
roundings, which are counted. With CLIP also its time there and back, and of one frame.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def synthetic(path: Path, frames: int, width: int, height: int) -> None:
    """A clip of 4:2:0 in Y4M: waves that move, and some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\n".encode())
        for k in range(frames):
            wave = np.sin((x + 3 * k) / 17) + np.cos((y - 2 * k) / 11 + x / 40)
            luma = 126 + 45 * wave + rng.normal(0, 3, (height, width))
            chroma = 128 + 30 * np.sin((x[::2, ::2] - k) / 23)
            planes = (luma, chroma, 255 - chroma)
            data = [np.clip(p, 16, 235).astype(np.uint8).tobytes() for p in planes]
            file.write(b"FRAME\n" + b"".join(data))


def child(*command: object, threads: int = 1) -> dict[str, float]:
    """Run polycodec in a child; its seconds and peak MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    before = os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "polycodec", *map(str, (*command, *MORE)), "--force"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"polycodec {' '.join(map(str, command))} failed: {status}")
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return {
        "seconds": round(os.times().elapsed - before.elapsed, 1),
        "processor seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak MB": round(usage.ru_maxrss / unit, 1),
    }


def threads(out: Path) -> dict[str, object]:
    """Codings and decodings by thread counts: differing files and samples."""
    synthetic(out / "t.y4m", 16, 160, 96)
    made, decoded = {}, {}
    for count in (1, 2, 4):
        child("encode", out / "t.y4m", "-o", out / "t.plc", threads=count)
        made[count] = (out / "t.plc").read_bytes()
        child("decode", out / "t.plc", "-o", out / "b.y4m", threads=count)
        decoded[count] = np.frombuffer((out / "b.y4m").read_bytes(), np.uint8)
    differences = [np.abs(decoded[1].astype(int) - decoded[n]) for n in (2, 4)]
    return {
        "files that differ": sum(made[n] != made[1] for n in (2, 4)),
        "samples that differ": sum(int((d > 0).sum()) for d in differences),
        "of": sum(d.size for d in differences),
        "at most by": max(int(d.max()) for d in differences),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", default="160x96")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--checkpoint", help="in place of image/default")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    width, height = map(int, args.size.split("x"))
    if args.checkpoint:
        MORE[:] = "--checkpoint", args.checkpoint
    print("threads", json.dumps(threads(args.out)), flush=True)
    for frames in args.frames:
        synthetic(args.out / "m.y4m", frames, width, height)
        report(f"{frames} frames of {args.size}", args.out / "m.y4m", args.out)
    if args.clip:
        report(args.clip.name, args.clip, args.out)
        one = child("decode", args.out / "m.plc", "-o", args.out / "m.mkv", *PART)
        print("frame 20 alone", json.dumps(one), flush=True)


MORE: list[object] = []
PART = ("--frames", "20:21")


def report(name: str, source: Path, out: Path) -> None:
    """There and back, and what it took."""
    there = child("encode", source, "-o", out / "m.plc", "-q", 30)
    print(name, "encode", json.dumps(there), flush=True)
    back = child("decode", out / "m.plc", "-o", out / "back.mkv")
    print(name, "decode", json.dumps(back), flush=True)


if __name__ == "__main__":
    main()
