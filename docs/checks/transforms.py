# SPDX-License-Identifier: Apache-2.0
"""Transforms compared from the same start, for equal seconds of training.

    python docs/checks/transforms.py OUT --images FOLDER --seconds 900 \\
        --variant today= --variant conv="codec.transform.name=conv"
    python docs/checks/transforms.py OUT --images FOLDER --preset transforms

Every variant, a name and overrides of image/default, is trained on the same crops for
as many steps as fit into the seconds on this machine, which a short run before tells
by the processor's time, whatever else it does (OMP_NUM_THREADS=1: of one core); then
it is exported and held-out crops are coded to real bytes. One rate is trained
unless --knots says more. Of one rate λ, bits at equal distortion follow from the
tangent that training itself trades along,

    bpp + λ 255² (MSE - MSE of the first variant)

which says the truth for variants that are near one another; of more rates it is the
BD-rate. Prints a table, and writes it to OUT/transforms.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from entropy import (
    CONFIG,
    QUALITIES,
    add_variants,
    held_out,
    measured,
    trained,
    variants,
)

from polycodec.codecs import zoo
from polycodec.eval import bdrate
from polycodec.eval.text import Table, aligned
from polycodec.train.config import load_config
from polycodec.train.loop import Trainer

PROBE = 20  # steps that tell the seconds of one


def steps_for(seconds: float, overrides: list[str]) -> int:
    """Steps of this variant that fit into so many seconds, at least PROBE."""
    with tempfile.TemporaryDirectory() as folder:
        probe = [f"run.out={folder}/probe", f"run.steps={PROBE}"]
        trainer = Trainer(load_config(CONFIG, [*overrides, *probe]))
        trainer._step()  # sets up kernels; not counted
        started = time.process_time()
        for trainer.step in range(1, PROBE):
            trainer._step()
        each = (time.process_time() - started) / (PROBE - 1)
    return max(PROBE, round(seconds / each))


def saved(
    rows: list[dict[str, float]], first: list[dict[str, float]], lmbda: float
) -> float:
    """Bits in % against the first variant at equal distortion."""
    if len(rows) == 1:
        bpp = rows[0]["bpp"] + lmbda * 255**2 * (rows[0]["mse"] - first[0]["mse"])
        return 100 * (bpp / first[0]["bpp"] - 1)
    curves = ([row[k] for row in r] for r in (first, rows) for k in ("bpp", "psnr"))
    return bdrate.compare(*curves).rate_akima


def main() -> None:
    """Train every variant, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="training images")
    add_variants(parser)
    parser.add_argument("--seconds", type=float, default=900, help="of each")
    parser.add_argument("--knots", type=int, default=1, help="rates; 1 or more")
    parser.add_argument("--lmbda", type=float, default=0.0067, help="of the one rate")
    parser.add_argument("--test", type=int, default=16, help="held-out crops")
    parser.add_argument("--cache", type=Path, help="decoded images; OUT/cache")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    qualities = (50.0,) if given.knots == 1 else QUALITIES
    shared = [
        f"data.train={given.images}",
        f"data.cache={given.cache or given.out / 'cache'}",
        f"codec.knots={given.knots}",
        "optim.warmup=10",
        "eval.every=1000000",
        "eval.images=4",
        f"eval.qualities={list(qualities)}",
    ]
    if given.knots == 1:
        shared.append(f"codec.lmbda={given.lmbda}")
    found: dict[str, dict[str, Any]] = {}
    lines = []
    for name, overrides in variants(given, "codec.transform").items():
        changed = [*shared, *overrides]
        run = given.out / name
        steps = PROBE
        if not (run / zoo.EXPORTED).exists():
            steps = steps_for(given.seconds, changed)
        config = load_config(CONFIG, [*changed, f"run.out={run}", f"run.steps={steps}"])
        codec = trained(config)
        crops = held_out(config, given.test)
        rows = [{"quality": q, **measured(codec, crops, q)} for q in qualities]
        card = json.loads((run / zoo.EXPORTED).with_suffix(".json").read_text())
        about = {key: card[key] for key in ("parameters", "steps", "seconds")}
        found[name] = {**about, "rows": rows}
        first = next(iter(found.values()))["rows"]
        found[name]["bits_percent"] = saved(rows, first, given.lmbda)
        cells = [f"{found[name]['bits_percent']:+.2f}", *map(str, about.values())]
        loss = rows[0]["bpp"] + given.lmbda * 255**2 * rows[0]["mse"]
        cells += [f"{loss:.4f}"] * (given.knots == 1)
        cells.append(f"{rows[-1]['decode_ms']:.1f}")
        cells += [f"{row['bpp']:.4f} / {row['psnr']:.3f}" for row in rows]
        lines.append([name, *cells])
    header = ["variant", "bits %", "parameters", "steps", "seconds"]
    header += ["loss"] * (given.knots == 1) + ["decode ms"]
    header += [f"bpp / dB at {quality:g}" for quality in qualities]
    (given.out / "transforms.json").write_text(json.dumps(found, indent=1) + "\n")
    print(*aligned(Table(header, lines)), sep="\n")


if __name__ == "__main__":
    main()
