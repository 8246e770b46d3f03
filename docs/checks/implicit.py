# SPDX-License-Identifier: Apache-2.0
"""Networks as messages, compared: bits, PSNR, seconds, frames decoded a second.

    python docs/checks/implicit.py OUT CLIP... [--seconds 600] [--frames 32]
        [--size 360x240] [--bpp 0.1 0.3] [--networks nerv nerv++ hnerv hnerv-boost]
        [--codings cem eight pruned trellis]

Every network of `configs/video/small` is fitted to the first frames of every clip for
the same seconds, at every rate, under every way of quantizing:

    cem      consistent entropy minimization: steps and weights learn with their rate
    eight    8 bits a weight, then the same coder; all seconds go to the first stage
    pruned   40 % of the weights are zero; 8 bits, and the last quarter learns on
    trellis  all seconds go to the first stage; then the best of `quantizers/weights`
             (trellis, lattice, scalar) codes each tensor, in bytes allocated by the
             measured loss of each; after the fit, and not part of its seconds

Bytes are those of the chunk, PSNR that of its decoded frames, of 8-bit RGB, its mean
over frames. A row is a file in OUT: a comparison that was ended goes on where it was,
also inside a fit. What lost is in the table like what won.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polycodec.codecs import untrained
from polycodec.codecs.fitting.fit import Fit
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.measures.image import psnr
from polycodec.codecs.packed import matrix, pack, unpack
from polycodec.registry import build
from polycodec.train.shrink.allocation import priced, to_size

CODINGS: dict[str, dict[str, Any]] = {
    "cem": {"coding": "cem"},
    "eight": {"coding": "eight", "quantizing": 0.0},
    "pruned": {"coding": "eight", "keep": 0.6},
    "trellis": {"coding": "eight", "quantizing": 0.0},
}
# Beside each tensor's bytes: which quantizer it is, and how long they are.
BESIDE = 3
NOISE = 1e-3  # of a tensor's energy, to measure what an error in it does


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
    seconds: float,
    kept: Path,
) -> dict[str, Any]:
    """One row: a network fitted to a clip, coded, and decoded again."""
    section = untrained.section_of(untrained.configs()[f"video/{network}-small"])
    options = {k: v for k, v in section.items() if k != "name"}
    options["fit"] = {**options["fit"], **CODINGS[coding]}
    # 8 bits a value, of which the coder leaves some 6.5: as many bits, fewer values.
    depth = 4.0 if coding in ("cem", "trellis") else 6.5
    options |= {"bpp": [bpp, 2 * bpp], "depth": depth}
    codec = build("codec/implicit", **options)
    codec.plan = Plan(seconds=seconds, kept=kept, resume=True)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    began, area = time.perf_counter(), x[:, 0].numel()
    if coding == "trellis":
        codec.plan = codec.plan.part(0, len(x))
        fit = codec.fit(x.movedim(0, 1)[None], codec.level_of(0))
        spent = time.perf_counter() - began
        size, quality, pace = by_trellis(fit, bpp * area / 8)
        estimated = None
    else:
        encoder = codec.group_encoder(x.shape[2:], len(x))
        data = encoder.chunk(0, x, 0)
        spent, size = time.perf_counter() - began, len(data)
        estimated = encoder.estimated_bits / area
        began = time.perf_counter()
        decoder = codec.group_decoder(x.shape[2:], len(x), len(x), 0)
        decoded = torch.cat(list(decoder.frames(0, data, range(len(x)))))
        pace = len(x) / (time.perf_counter() - began)
        found = (255 * decoded).round().byte().permute(0, 2, 3, 1).numpy()
        each = [psnr(one, other) for one, other in zip(pixels, found, strict=True)]
        quality = float(np.mean(each))
    return {
        "network": network,
        "coding": coding,
        "asked_bpp": bpp,
        "bytes": size,
        "bpp": 8 * size / area,
        "estimated_bpp": estimated,
        "psnr": quality,
        "seconds": spent,
        "decoded_fps": pace,
        "notes": codec.plan.notes,
    }


def by_trellis(fit: Fit, size: float) -> tuple[int, float, float]:
    """Bytes, mean PSNR and frames a second of a fit coded by quantizers of weights."""
    network, embeddings = fit.network, fit.embeddings()
    tensors = {name: p.detach() for name, p in network.sent().items()}
    if embeddings is not None:
        tensors["embeddings"] = embeddings.flatten(1)

    @torch.no_grad()
    def errors(given: dict[str, Tensor]) -> Tensor:
        weights = {k: v for k, v in given.items() if k != "embeddings"}
        shown = given.get("embeddings")
        found = []
        for k in range(len(fit.x)):
            one = None if shown is None else shown[k].view(1, *embeddings.shape[1:])
            asked = torch.tensor([k]), one
            x = torch.func.functional_call(network, weights, asked)
            x = x[..., : fit.x.shape[2], : fit.x.shape[3]].clamp(0, 1)
            x = (255 * x).round() / 255
            found.append((x[0] - fit.x[k]).square().mean())
        return torch.stack(found)

    clean, menu = errors(tensors).mean(), {}
    generator = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        noise = torch.randn(value.shape, generator=generator)
        noise *= (NOISE * value.square().mean()).sqrt()
        worse = errors({**tensors, name: value + noise}).mean() - clean
        harm = max(float(worse), 1e-12) / max(float(noise.square().sum()), 1e-20)
        menu[name] = priced(matrix(value), harm, math.inf)
    chosen = to_size(menu, size - BESIDE * len(tensors))
    plan = {name: one.choice for name, one in chosen.items()}
    coded, entries = pack(tensors, plan, lambda *_: None, {})
    decoded = unpack(coded, entries, lambda *_: None, 1 << 26)
    began = time.perf_counter()
    found = errors(decoded)
    pace = len(found) / (time.perf_counter() - began)
    decibels = -10 * found.clamp_min(1e-10).log10()
    return len(coded) + BESIDE * len(tensors), float(decibels.mean()), pace


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    heads = ["clip", "network", "coding", "asked", "bpp", "PSNR", "fit", "decoding"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = (
            *(row["clip"], row["network"], row["coding"], f"{row['asked_bpp']:g}"),
            *(f"{row['bpp']:.4f}", f"{row['psnr']:.2f} dB"),
            *(f"{row['seconds']:.0f} s", f"{row['decoded_fps']:.1f} fps"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", default="360x240")
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.1, 0.3])
    every = ["nerv", "nerv++", "hnerv", "hnerv-boost"]
    parser.add_argument("--networks", nargs="+", default=every, choices=every)
    codings = list(CODINGS)
    parser.add_argument("--codings", nargs="+", default=codings, choices=codings)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    width, height = map(int, given.size.split("x"))
    rows = []
    for clip in given.clips:
        pixels = frames_of(clip, given.frames, (width, height))
        for bpp in given.bpp:
            for network in given.networks:
                for coding in given.codings:
                    setting = f"{given.size}-{given.frames}-{given.seconds:g}"
                    name = f"{clip.stem}-{network}-{coding}-{bpp:g}-{setting}"
                    done = given.out / f"{name}.json"
                    if not done.is_file():
                        kept = given.out / f"{name}.fit"
                        asked = network, coding, bpp, given.seconds, kept
                        row = {"clip": clip.stem, **fitted(pixels, *asked)}
                        if any("stopped" in note for note in row["notes"]):
                            raise SystemExit("stopped; the same command goes on")
                        done.write_text(json.dumps(row))
                        kept.with_name(f"{kept.name}0").unlink(missing_ok=True)
                    rows.append(json.loads(done.read_text()))
                    print(table(rows[-1:]).split("\n")[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
