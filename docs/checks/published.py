# SPDX-License-Identifier: Apache-2.0
"""BD-rate of a saved evaluation of images against curves that others published.

    python docs/checks/published.py runs/kodak --published kodak.json --ids vtm,elic

Reads RUN/run.json as `polycodec eval -o RUN` wrote it, whatever version it was, and
codes nothing; `polycodec eval --published` has the same figures, of a run of its own.
The file of published curves is that option's: {data set: [{id, label, bpp, psnr,
ms_ssim_db, source}]}. `--ids all` takes all of them. BD-rates are over the common
range, beside them the difference at each point, which one or two points have too. All
is as good as the other side's conventions: bits per pixel of the whole stream, the mean
of each image's PSNR on RGB.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from polycodec.eval import bdrate
from polycodec.eval.curves import Curve, published
from polycodec.eval.image.kind import read_curves
from polycodec.eval.text import Table, aligned, number

METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}


def measured(curve: dict, metric: str) -> tuple[list[float], list[float]]:
    """Rates and values of a curve of run.json."""
    known = [p for p in curve["points"] if p["scores"].get(metric) is not None]
    return [p["rate"] for p in known], [p["scores"][metric]["value"] for p in known]


def at_points(test: dict, other: Curve) -> str:
    """Rate in % against the published curve at the PSNR of each point of ours."""
    rates, psnrs = np.array(other.values("psnr"))
    if not len(rates) or (np.diff(psnrs) <= 0).any():
        return "–"
    cells = []
    for rate, psnr in zip(*measured(test, "psnr"), strict=True):
        if psnrs[0] <= psnr <= psnrs[-1]:
            equal = np.exp(PchipInterpolator(psnrs, np.log(rates))(psnr))
            cells.append(f"{100 * (rate / equal - 1):+.1f}")
    return " ".join(cells)


def row(test: dict, other: Curve) -> list[str]:
    """One line of the table."""
    found = {
        name: bdrate.compare(*other.values(name), *measured(test, name))
        for name in METRICS
    }
    cells = [test["label"], other.label]
    for one in found.values():
        cells += [number(one.rate_akima, sign=True), number(one.rate_pchip, sign=True)]
    psnr = found["psnr"]
    low, high = psnr.overlap or (float("nan"),) * 2
    shown = f"{low:.2f}–{high:.2f}, {psnr.share_anchor:.0%}" if psnr.overlap else "–"
    return [*cells, shown, at_points(test, other), psnr.reason or other.note]


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--ids", help="of these; a few well-known unless told")
    given = parser.parse_args()
    run = json.loads((given.run / "run.json").read_text(encoding="utf-8"))
    own = [curve for curve in run["curves"] if curve["kind"] == "codec"]
    for curve in own:
        print(f"{curve['label']}: {run['versions'].get(curve['name'])}")

    def read(content: dict) -> list[Curve]:
        every = [entry["id"] for entry in content[run["dataset"]]]
        ids = every if given.ids == "all" else given.ids and given.ids.split(",")
        return read_curves(content, run["dataset"], ids)

    others = published(given.published, read, f"curves of {run['dataset']}")
    header = ["codec", "published"]
    for words in METRICS.values():
        header += [f"{words}: BD-rate % (Akima)", "(PCHIP)"]
    header += ["common PSNR dB, share of it", "% at the PSNR of each point", "source"]
    rows = [row(test, other) for test in own for other in others]
    print(*aligned(Table(header, rows, left=2)), sep="\n")


if __name__ == "__main__":
    main()
