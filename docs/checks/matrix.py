# SPDX-License-Identifier: Apache-2.0
"""All combinations of image transforms, entropy models, densities and references.

    python docs/checks/matrix.py [--only WORD]

Every cell, tiny, is built, takes two training steps, is frozen, and codes a picture of
odd size to bytes and back. What cannot be combined is asked for as well, and has to say
why. Prints the cells and counts; fails where a cell does. `tests/composed.py` says what
a cell is, `tests/contracts/test_matrix.py` takes some of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from composed import (
    TRANSFORMS,
    cells,
    check_cell,
    codec_section,
    models,
    refused,
    tables_made_once,
)

from polycodec.errors import CodecError
from polycodec.registry import build


def outcome(transform: str, section: dict) -> str:
    """Return ok, or what went wrong."""
    try:
        check_cell(transform, section)
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
            found = [outcome(name, model.section) for name in TRANSFORMS]
            count += len(found)
            marks = ("ok" if one == "ok" else "FAILED" for one in found)
            print(f"{model.label:{width}s}", *(f"{m:9s}" for m in marks), flush=True)
            pairs = zip(TRANSFORMS, found, strict=True)
            failed += [f"{t} {model.label}: {one}" for t, one in pairs if one != "ok"]
    reasons = {m.label: refusal(m.section) for m in refused() if only in m.label}
    failed += [f"{label}: not refused" for label, why in reasons.items() if not why]
    print(*(f"{label:{width}s} {why}" for label, why in reasons.items()), sep="\n")
    seconds = time.perf_counter() - started
    all_cells = f"{count} of {len(cells())} cells, {len(reasons)} refusals"
    print(f"{all_cells}, {len(failed)} failed, {seconds:.0f} s", *failed, sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
