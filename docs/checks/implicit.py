# SPDX-License-Identifier: Apache-2.0
"""Networks as messages, compared: bits, PSNR, seconds, frames decoded a second.

    python docs/checks/implicit.py OUT CLIP... [--seconds 600] [--frames 32]
        [--size 360x240] [--bpp 0.1 0.3] [--networks nerv nerv++ hnerv hnerv-boost]
        [--codings eight trellis-4 trellis-5 trellis-6 cem-5 ...] [--steps N]

Every network of `configs/video/small` is fitted to the first frames of every clip for
the same seconds of the processor, at every size, under every way of quantizing. A size
is the bits a pixel that its weights would take at 4 bits each:

    eight      8 bits a value, then the coder; all seconds go to the first stage
    trellis-R  the same fit; each tensor is coded in the cheaper of ways, trellis and
               lattice among them (`codecs/fitting/allocated.py`), R bits a value in all
    cem-R      consistent entropy minimization: in the last quarter of the seconds steps
               and weights learn with their rate, down to R bits a value
    packed-R   the same, and then each tensor as in `trellis-R`
    pruned     40 % of the weights are zero; 8 bits, and the last quarter learns on

Bytes are those of the chunk, PSNR that of its decoded frames, of 8-bit RGB, its mean
over frames; what packing takes comes to the seconds. A row is a file in OUT: a
comparison that was ended goes on where it was, also inside a fit. At the end the bits
of each way at equal PSNR against `eight`: the mean of the logarithm of their ratio over
the PSNR that both reach, along the lower hull of the rows of all sizes and R. What lost
is in the table like what won.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from polycodec.codecs import untrained
from polycodec.codecs.fitting.clip import sealed_with
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.measures.image import psnr
from polycodec.registry import build

CODINGS: dict[str, dict[str, Any]] = {
    "eight": {"coding": "eight", "quantizing": 0.0, "packed": False},
    "trellis": {"coding": "trellis"},
    "cem": {"coding": "cem", "packed": False},
    "packed": {"coding": "cem"},
    "pruned": {"coding": "eight", "keep": 0.6, "packed": False},
}
SHARED = "eight", "trellis"  # ways that code one fit, the first of which fits
DEPTH = 4.0  # bits a value that a size means


def frames_of(clip: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    """The first frames (n, H, W, 3) uint8, made smaller to fit into ``size`` (W, H)."""
    import av

    shown = []
    with av.open(str(clip)) as source:
        for frame in source.decode(video=0):
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
            image.thumbnail(size, Image.Resampling.LANCZOS)
            shown.append(np.asarray(image))
            if len(shown) == count:
                break
    return np.stack(shown)


def fitted(
    pixels: np.ndarray,
    network: str,
    coding: str,
    bpp: float,
    long: Plan,
    kept: Path,
) -> dict[str, Any]:
    """One row: a network fitted to a clip, coded, and decoded again."""
    section = untrained.section_of(untrained.configs()[f"video/{network}-small"])
    options = {k: v for k, v in section.items() if k != "name"}
    way, _, bits = coding.partition("-")
    depth = float(bits or DEPTH)
    options["fit"] = {**options["fit"], **CODINGS[way]}
    options |= {"bpp": [bpp, 2 * bpp], "depth": depth}
    codec = build("codec/implicit", **options)
    plan = replace(long, kept=kept, resume=True, notes=[])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    area, before = x[:, 0].numel(), spent_on(kept)
    began = time.process_time()
    if bits:
        plan.items, plan.bytes = len(x), int(depth / DEPTH * bpp * area / 8)
    encoder = codec.group_encoder(x.shape[2:], len(x), plan)
    data = encoder.chunk(0, x, 0)
    fit = spent_on(kept)
    packing = time.process_time() - began - (fit - before)
    began = time.process_time()
    decoder = codec.group_decoder(x.shape[2:], len(x), len(x), 0)
    decoded = torch.cat(list(decoder.frames(0, data, range(len(x)))))
    pace = len(x) / (time.process_time() - began)
    found = (255 * decoded).round().byte().permute(0, 2, 3, 1).numpy()
    each = [psnr(one, other) for one, other in zip(pixels, found, strict=True)]
    return {
        "network": network,
        "coding": coding,
        "asked_bpp": bpp,
        "bytes": len(data),
        "bpp": 8 * len(data) / area,
        "estimated_bpp": encoder.estimated_bits / area,
        "psnr": float(np.mean(each)),
        "values": (values := values_of(codec, data, x)),
        "bits a value": 8 * len(data) / values,
        "seconds": fit,
        "packing": packing,
        "decoded_fps": pace,
        "notes": plan.notes,
    }


def spent_on(kept: Path) -> float:
    """Seconds that a kept fit has had."""
    path = kept.with_name(f"{kept.name}0")
    if not path.is_file():
        return 0.0
    with safe_open(path, framework="pt") as file:
        return float(json.loads(file.metadata()["about"])["numbers"]["spent"])


def values_of(codec: Any, data: bytes, x: torch.Tensor) -> int:
    """Weights and embeddings in a chunk of frames x (N, 3, H, W)."""
    size = len(x), *x.shape[2:]
    context = sealed_with(0, len(x), x.shape[2:])
    codes = codec.read([data], 1, size, context=context)
    return int(codec.opened(codes)[0].values)


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull of points (x, y), by x."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points):
        while len(found) > 1:
            (a, b), (c, d) = found[-2:]
            if (d - b) * (x - a) < (y - b) * (c - a):
                break
            found.pop()
        found.append((x, y))
    return found


def savings(rows: list[dict[str, Any]]) -> str:
    """Bits at equal PSNR against 8 bits, of each clip, network and way, as Markdown."""
    lines = ["| clip | network | coding | bits at equal PSNR |", "|---|---|---|---|"]
    lines_of: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        key = row["clip"], row["network"], row["coding"].partition("-")[0]
        lines_of.setdefault(key, []).append((row["psnr"], math.log(row["bpp"])))
    for (clip, network, coding), points in lines_of.items():
        if coding == "eight" or not (full := lines_of.get((clip, network, "eight"))):
            continue
        own, usual = (np.array(hull(one)).T for one in (points, full))
        low, high = max(own[0, 0], usual[0, 0]), min(own[0, -1], usual[0, -1])
        at = np.linspace(low, high, 1001)
        ratio = np.interp(at, *own) - np.interp(at, *usual)
        cell = f"{100 * math.expm1(ratio.mean()):+.0f} %, {low:.2f} to {high:.2f} dB"
        cell = cell if low < high else "apart"
        lines.append(f"| {clip} | {network} | {coding} | {cell} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    heads = ["clip", "network", "size", "values", "coding", "bpp", "bits a value"]
    heads += ["PSNR", "fit", "packing", "decoding"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = (
            *(row["clip"], row["network"], f"{row['asked_bpp']:g}"),
            *(f"{row['values']:,}", row["coding"], f"{row['bpp']:.4f}"),
            *(f"{row['bits a value']:.2f}", f"{row['psnr']:.2f} dB"),
            *(f"{row['seconds']:.0f} s", f"{row['packing']:.0f} s"),
            f"{row['decoded_fps']:.0f} fps",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--steps", type=int, help="in place of seconds")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", default="360x240")
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.1, 0.3])
    every = ["nerv", "nerv++", "hnerv", "hnerv-boost"]
    parser.add_argument("--networks", nargs="+", default=every, choices=every)
    usual = ["eight", "trellis-4", "trellis-5", "trellis-6", "cem-5"]
    parser.add_argument("--codings", nargs="+", default=usual)
    given = parser.parse_args()
    for coding in given.codings:
        if not re.fullmatch(r"eight|pruned|(trellis|cem|packed)-\d(\.\d+)?", coding):
            parser.error(f"'{coding}' is none of eight, pruned, trellis-4, cem-5 ...")
    given.out.mkdir(parents=True, exist_ok=True)
    width, height = map(int, given.size.split("x"))
    seconds = None if given.steps else given.seconds
    long = Plan(clock=time.process_time, steps=given.steps, seconds=seconds)
    span = f"{given.steps}n" if given.steps else f"{given.seconds:g}"
    rows = []
    for clip in given.clips:
        pixels = frames_of(clip, given.frames, (width, height))
        for bpp in given.bpp:
            for network in given.networks:
                for coding in given.codings:
                    setting = f"{given.size}-{given.frames}-{span}"
                    name = f"{clip.stem}-{network}-{coding}-{bpp:g}-{setting}"
                    done = given.out / f"{name}.json"
                    if not done.is_file():
                        shared = coding.partition("-")[0] in SHARED
                        fit = "once" if shared else coding
                        kept = given.out / f"{name.replace(coding, fit)}.fit"
                        asked = network, coding, bpp, long, kept
                        row = {"clip": clip.stem, **fitted(pixels, *asked)}
                        if any("stopped" in note for note in row["notes"]):
                            raise SystemExit("stopped; the same command goes on")
                        done.write_text(json.dumps(row))
                    rows.append(json.loads(done.read_text()))
                    print(table(rows[-1:]).split("\n")[-1], flush=True)
    for kept in given.out.glob("*.fit0"):
        kept.unlink()
    print(f"{table(rows)}\n\n{savings(rows)}")


if __name__ == "__main__":
    main()
