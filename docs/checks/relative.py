# SPDX-License-Identifier: Apache-2.0
"""Samples sent as numbers: bits against the divergence, their bias, and the time.

    python docs/checks/relative.py [--count 1000] [--streams 40] [--out table.json]

Of every KL so many random posteriors of some dimensions are coded under one prior, over
``streams`` independent sources of randomness; errors are over these. For each:

    A* bits   of numbers under a Zipf code that knows the KL, as published (Li, El Gamal
              2018: exponent 1 + 1 / (KL + 1)); the overhead is what exceeds the KL
    bits      of flat numbers: the bias of the samples' mean, in deviations of their
              posterior, and their squared distance from its mean (1: no bias)

and last whether thread counts and torch's default type change a sample (0: none does).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polycodec.entropy_models.relative.blocks import Blocks, NormalPrior
from polycodec.entropy_models.relative.coders import Posterior, choose, drawn

KLS = (1, 2, 4, 6, 8)
ROOMS = (0, 1, 2, 4)
DIMENSIONS = 4
LARGEST = 12  # bits of a block here


def prior_of(bits: int, stream: int) -> NormalPrior:
    """A prior of one block."""
    blocks = Blocks(np.arange(DIMENSIONS), np.array([0, DIMENSIONS]), bits)
    means, scales = np.linspace(-0.3, 0.3, DIMENSIONS), np.full(DIMENSIONS, 0.05)
    return NormalPrior.of(means, scales, blocks, stream=stream)


def posteriors(count: int, kl: float, seed: int) -> Posterior:
    """Random shifts and scales that cost ``kl`` bits together."""
    rng = np.random.default_rng(seed)
    shares = kl * rng.dirichlet(np.full(DIMENSIONS, 2.0), count)
    scales = np.exp(-np.log(2) * shares * rng.uniform(0, 1, shares.shape))
    square = 2 * np.log(2) * shares + 1 - scales**2 + 2 * np.log(scales)
    shift = np.sqrt(np.maximum(square, 0)) * rng.choice([-1, 1], shares.shape)
    means, deviations = prior_of(1, 0).floats
    own = means + deviations * torch.from_numpy(shift)
    return Posterior(own, deviations * torch.from_numpy(scales))


def coded(posterior: Posterior, bits: int, streams: int) -> dict[str, Any]:
    """Numbers, and samples in deviations of their posterior, stream by stream."""
    numbers, units, spent, read = [], [], 0.0, 0.0
    for stream in range(streams):
        prior = prior_of(bits, stream)
        means, scales = (v[stream::streams] for v in vars(posterior).values())
        begun = time.process_time()
        numbers.append(choose(Posterior(means, scales), prior, 0))
        spent += time.process_time() - begun
        begun = time.process_time()
        z = drawn(numbers[-1][:, None], prior)
        read += time.process_time() - begun
        units.append((z - means) / scales)
    return {"numbers": numbers, "units": units, "encode": spent, "decode": read}


def pooled(values: list[float]) -> tuple[float, float]:
    """The mean over streams, and its standard error."""
    array = np.array(values)
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def zipf(numbers: torch.Tensor, kl: float) -> torch.Tensor:
    """Bits of numbers under the Zipf code for that divergence."""
    power = 1 + 1 / (kl + 1)
    total = float(torch.special.zeta(torch.tensor(power).double(), 1.0))
    return power * torch.log2(numbers + 1.0) + math.log2(total)


def measure(count: int, streams: int) -> list[dict[str, Any]]:
    """A row for each divergence and each size of blocks."""
    rows = []
    for kl in KLS:
        posterior = posteriors(count, kl, kl)
        exact = float(posterior.bits(prior_of(1, 0)).sum(1).mean())
        for bits in sorted({min(kl + room, LARGEST) for room in ROOMS} | {LARGEST}):
            found = coded(posterior, bits, streams)
            mean, error = pooled([float(u.mean()) for u in found["units"]])
            squares = [float(u.square().mean()) for u in found["units"]]
            second, spread = pooled(squares)
            used, _ = pooled([float(zipf(n, kl).mean()) for n in found["numbers"]])
            row = {"kl": exact, "bits": bits, "zipf_bits": used, "mean": mean}
            row |= {"mean_error": error, "variance": second, "variance_error": spread}
            row |= {k: 1e3 * found[k] / streams for k in ("encode", "decode")}
            rows.append(row)
    return rows


def differences() -> int:
    """Samples that other thread counts and default types change."""
    posterior, threads = posteriors(100, 6, 0), torch.get_num_threads()
    wanted, changed = None, 0
    for count in (1, 2, 4):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            torch.set_num_threads(count)
            torch.set_default_dtype(dtype)
            z = torch.cat([u for u in coded(posterior, 8, 4)["units"]])
            wanted = z if wanted is None else wanted
            changed += int((z != wanted).sum())
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    return changed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = measure(args.count, args.streams)
    each = -(-args.count // args.streams)
    print(f"{args.count} posteriors of {DIMENSIONS} dimensions, {args.streams} streams")
    print(
        f"  KL  bits   A* bits  mean ± error    variance ± error  ms: {each} / decode"
    )
    for row in rows:
        print(
            f"{row['kl']:4.1f}  {row['bits']:4}  {row['zipf_bits']:8.2f}"
            f"  {row['mean']:+.3f} ± {row['mean_error']:.3f}"
            f"  {row['variance']:.3f} ± {row['variance_error']:.3f}"
            f"  {row['encode']:8.1f}  {row['decode']:.2f}"
        )
    changed = differences()
    print(f"samples changed by thread count or default type: {changed}")
    if args.out:
        about = {"machine": platform.processor(), "torch": torch.__version__}
        text = json.dumps({**about, "rows": rows, "changed": changed}, indent=1)
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
