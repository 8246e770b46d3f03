# SPDX-License-Identifier: Apache-2.0
"""Codebooks compared: one backbone, equal steps, real bytes of unseen speakers.

    python docs/checks/codebooks.py RUNS --train DIR --test DATA [--steps 500]

The backbone, a transform alone, learns first. Each variant starts from its averaged
weights, builds its codebooks from the same latents with as many codes, and all train
on for the same steps and batches; nothing is tuned for one of them. Exported, they
code the test utterances to files (`polycodec eval`), with static tables for all, which
take a second to fit; codes in use and perplexity are counted over the same utterances.

Every part is skipped where its result is there, so the script can be stopped and
started again. RUNS/codebooks.json holds the table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from polycodec.codecs import zoo
from polycodec.codecs.stored import load_codec
from polycodec.eval.run import evaluate
from polycodec.eval.speech.datasets import SPEECH
from polycodec.train.config import parse_config
from polycodec.train.export import export
from polycodec.train.loop import Trainer

LEVELS, CODES = 8, 256

VARIANTS: dict[str, dict[str, Any]] = {
    "structural-se": {"name": "structural", "assign": "se", "levels": LEVELS - 1},
    "structural-nearest": {
        "name": "structural",
        "assign": "nearest",
        "levels": LEVELS - 1,
    },
    "ema": {"name": "residual"},
    "factorized": {"name": "factorized"},
}


def config(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """The config of the backbone or of a variant, as a tree."""
    runs = arguments.runs
    steps = arguments.backbone if name == "backbone" else arguments.steps
    tree: dict[str, Any] = {
        "codec": {"name": "token", "channels": 64},
        "data": {
            "train": str(arguments.train),
            "cache": str(arguments.cache or runs / "cache"),
            "seconds": 1.0,
            "batch": 16,
            "holdout": 20,
        },
        "loss": {"spectrum": 40.0},
        "optim": {"name": "muon", "lr": 1e-3, "decay": 1.0, "clip": 5.0},
        "run": {"out": str(runs / name), "steps": steps, "seed": 9},
        "eval": {"every": steps},
    }
    if name == "backbone":
        tree["optim"]["decay"] = 0.0
        tree["stages"] = {"unquantized": steps}
        tree["codec"]["quantizer"] = VARIANTS["structural-se"]  # idle
    else:
        tree["optim"]["warmup"] = 20
        tree["codec"]["entropy"] = {"name": "tokens-static"}
        tree["codec"]["quantizer"] = quantizer = dict(VARIANTS[name])
        if quantizer["name"] != "structural":  # as many codes as the graph gave
            first = load_codec(runs / "structural-se" / zoo.EXPORTED).sizes[0]
            quantizer["codes"] = [first, *[CODES] * (LEVELS - 1)]
        tree["run"]["init"] = str(runs / "backbone")
    return tree


def train(arguments: argparse.Namespace, name: str) -> None:
    """Train the backbone or a variant to its end, and export a variant."""
    run = arguments.runs / name
    if not (run / zoo.EXPORTED).exists():
        resume = (run / "last.pt").exists()
        Trainer(parse_config(config(arguments, name)), resume=resume).train()
        if name != "backbone":
            export(run, name=name, progress=print)


def usage(run: Path, test: Path) -> dict[str, list]:
    """Codes in use and perplexity of each level over the test utterances."""
    codec = load_codec(run / zoo.EXPORTED)
    _, files = SPEECH.open("speech", data=test)
    codes = [
        codec.encode_codes(torch.from_numpy(file.read())[None, None], codec.levels)
        for file in files
    ]
    found = codec.quantizer.usage(torch.cat(codes, dim=2))
    return {"sizes": list(codec.sizes), **found}


def main() -> None:
    """Train, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--train", type=Path, required=True, help="folder of speech")
    parser.add_argument("--test", type=Path, required=True, help="as `eval --data`")
    parser.add_argument("--cache", type=Path, help="decoded recordings; RUNS/cache")
    parser.add_argument("--backbone", type=int, default=800, help="its steps")
    parser.add_argument("--steps", type=int, default=500, help="of each variant")
    arguments = parser.parse_args()
    for name in ["backbone", *VARIANTS]:
        train(arguments, name)
    found = evaluate(
        "speech",
        codecs=[f"{name}@{arguments.runs / name}" for name in VARIANTS],
        anchors=[],
        qualities=[14, 43, 71, 100],
        measures=["pesq_wb", "stoi", "mel"],
        data=arguments.test,
        out=arguments.runs / "eval",
        report=False,
    )
    table = {
        curve.name: {
            "points": [asdict(point) for point in curve.points],
            **usage(arguments.runs / curve.name.partition("@")[0], arguments.test),
        }
        for curve in found.curves
    }
    target = arguments.runs / "codebooks.json"
    target.write_text(json.dumps(table, indent=1) + "\n")
    print(target.read_text())


if __name__ == "__main__":
    main()
