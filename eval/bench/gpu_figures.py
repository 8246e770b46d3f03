# SPDX-License-Identifier: Apache-2.0
"""What a GPU measured: the newest JSON of docs/checks/gpu/check.py, as a table.

    rows(newest())       (what, figure) for the README and the report's page
    python -m polycodec.eval.bench.gpu_figures      the README's block

A figure that no file holds reads "not yet measured"; nothing is derived.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOT_YET = "not yet measured"
MEASURED = Path(__file__).parent / "measured"
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"


def newest(folder: Path = MEASURED) -> dict[str, Any]:
    """The JSON of the latest date, or nothing where no GPU has measured."""
    found = [
        json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("gpu-*.json"))
    ]
    found = [one for one in found if NOT_YET not in one["about"]["device"]]
    return max(found, key=lambda one: one["about"]["date"], default={})


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What was asked, and the figure."""
    about = result.get("about", {})
    device = [about.get(name, "") for name in ("device", "driver", "torch", "date")]
    said = "{}, driver {}, torch {}, {}".format(*device) if about else NOT_YET
    table = [("device", said)]
    for what, read in _FIGURES.items():
        try:
            table.append((what, read(result)))
        except (AttributeError, KeyError, TypeError, ValueError):
            table.append((what, NOT_YET))  # the part failed, or was left out
    return table


def _throughput(load: str, key: str, part: str = "throughput") -> Callable[[dict], str]:
    def read(result: dict) -> str:
        runs = [r for r in result["speed"][part] if r["load"] == load]
        largest = max(r["images"] for r in runs)
        best = max(float(r[key]) for r in runs if r["images"] == largest)
        digits = 0 if best >= 10 else 2
        return f"{best:.{digits}f} Gsym/s, {largest} images"

    return read


def _latency(key: str) -> Callable[[dict], str]:
    def read(result: dict) -> str:
        runs = result["speed"]["latency of one image"]
        best = min(runs, key=lambda r: float(r[key]))
        return f"{float(best[key]):.2f} ms, {best['chunks']} chunks"

    return read


def _identity(result: dict) -> str:
    found = result["identity"]
    wrong = len(found["golden, different"]) + found["random, different"]
    return f"golden and {found['random']} random batches, {wrong} differ"


def _files(result: dict) -> str:
    parts = result["files"].items()
    return "; ".join(f"{k}: {v['files']}, {v['bytes differ']} differ" for k, v in parts)


def _sanitizer(result: dict) -> str:
    return ", ".join(f"{k} {int(v)}" for k, v in result["sanitizer"].items())


_FIGURES: dict[str, Callable[[dict], str]] = {
    "streams, the CPU's bytes both ways": _identity,
    "codec files, both ways": _files,
    "compute-sanitizer, errors": _sanitizer,
    "decode, Gaussian index, 3 bits": _throughput("3.0", "decode kernel, Gsym/s"),
    "encode, Gaussian index, 3 bits": _throughput("3.0", "encode kernel, Gsym/s"),
    "decode, one table of 256": _throughput("shared", "decode kernel, Gsym/s"),
    "encode, one table of 256": _throughput("shared", "encode kernel, Gsym/s"),
    "decode, mixtures of 3": _throughput(
        "mixture of 3", "decode kernel, Gsym/s", "priors"
    ),
    "encode, mixtures of 3": _throughput(
        "mixture of 3", "encode kernel, Gsym/s", "priors"
    ),
    "decode, logits of 256 values": _throughput(
        "categorical of 256", "decode kernel, Gsym/s", "priors"
    ),
    "decode one 768x512 image, kernel": _latency("decode kernel, ms"),
    "decode one 768x512 image, whole call": _latency("decode call, ms"),
}


def markdown(result: dict[str, Any]) -> str:
    """The README's block, its marks included."""
    lines = [f"| {what} | {figure} |" for what, figure in rows(result)]
    return "\n".join([BEGIN, "| CUDA coder | |", "|---|---|", *lines, END])


if __name__ == "__main__":
    print(markdown(newest()))
