# SPDX-License-Identifier: Apache-2.0
"""All combinations of image transforms with entropy models, and with quantizers.

    python docs/checks/matrix.py [--only WORD]

Entropy models of latents with every density and reference; of tokens with every
quantizer. Every cell, tiny, is built, takes a training step or two, is frozen, and
codes a picture of odd size to bytes and back. What cannot be combined is asked for as
well, and has to say why. Prints the cells and counts; fails where a cell does.
`tests/composed.py` and `composed_tokens.py` say what a cell is,
`tests/contracts/test_matrix.py` and `test_token_matrix.py` take some of them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests"))

import composed_tokens
from composed import (
    TRANSFORMS,
    cells,
    check_cell,
    codec_section,
    models,
    refused,
    tables_made_once,
)
from composed_tokens import MODELS, QUANTIZERS

from polycodec.errors import CodecError
from polycodec.registry import build


def outcome(check: Callable[..., None], *cell: Any) -> str:
    """Return ok, or what went wrong."""
    try:
        check(*cell)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def refusal(section: dict) -> str:
    """Return why a model cannot be had; empty where it can."""
    try:
        build("codec/latent", **codec_section("conv", section))
    except CodecError as error:
        return str(error)
    return ""


def main() -> None:
    """Go through the product, print it, and exit with 1 where a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models whose names hold this")
    only = parser.parse_args().only
    started, failed, count = time.perf_counter(), [], 0
    width = max(len(model.label) for model in [*models(), *refused()])
    print(" " * width, *(f"{name:9s}" for name in TRANSFORMS))
    with tables_made_once():
        for model in (m for m in models() if only in m.label):
            found = [outcome(check_cell, t, model.section) for t in TRANSFORMS]
            count += len(found)
            marks = ("ok" if one == "ok" else "FAILED" for one in found)
            print(f"{model.label:{width}s}", *(f"{m:9s}" for m in marks), flush=True)
            pairs = zip(TRANSFORMS, found, strict=True)
            failed += [f"{t} {model.label}: {one}" for t, one in pairs if one != "ok"]
    for quantizer, model in itertools.product(QUANTIZERS, MODELS):
        label = f"{quantizer}, {model}"
        if only not in label:
            continue
        check = composed_tokens.check_cell
        found = [outcome(check, t, quantizer, model) for t in TRANSFORMS]
        count += len(found)
        marks = ("ok" if one == "ok" else "FAILED" for one in found)
        print(f"{label:{width}s}", *(f"{m:9s}" for m in marks), flush=True)
        pairs = zip(TRANSFORMS, found, strict=True)
        failed += [f"{t} {label}: {one}" for t, one in pairs if one != "ok"]
    reasons = {m.label: refusal(m.section) for m in refused() if only in m.label}
    failed += [f"{label}: not refused" for label, why in reasons.items() if not why]
    print(*(f"{label:{width}s} {why}" for label, why in reasons.items()), sep="\n")
    seconds = time.perf_counter() - started
    total = len(cells()) + len(composed_tokens.cells())
    all_cells = f"{count} of {total} cells, {len(reasons)} refusals"
    print(f"{all_cells}, {len(failed)} failed, {seconds:.0f} s", *failed, sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
