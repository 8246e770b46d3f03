# SPDX-License-Identifier: Apache-2.0
"""Compare the speed of two builds of the package on one machine, in turns.

    python docs/checks/versions.py OLD NEW [--rounds 5] [--core 1] [coder | codec]
    python docs/checks/versions.py OLD NEW codec --codec image/default@WEIGHTS

OLD and NEW: folders to put on PYTHONPATH (an unpacked wheel, a checkout). Builds that
ship different weights are compared with those that --codec names. Each round
runs `polycodec bench` once with each; the best of all rounds counts, since whatever
else the machine does can only slow a run down. What the two runs of another library,
whose code is the same in both, differ by is the machine's own drift: the ratio of a
load's rows is divided by the median ratio of its rows of constriction, where it has
any. A row slower than --within is marked, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SEPARATOR = " | "
CONTROL = "constriction"  # rows of code that is in neither build


def bench(folder: Path, what: str, core: int, codec: str | None) -> dict[str, float]:
    """Rates of one run: of each row and direction, higher is better."""
    command = [sys.executable, "-m", "polycodec", "bench", what, "--json"]
    if codec:
        command += ["--codec", codec]
    environ = {
        **os.environ,
        "PYTHONPATH": str(folder.resolve()),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    run = subprocess.run(
        ["taskset", "-c", str(core), *command],
        env=environ,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    rates = {}
    for row in json.loads(run.stdout)["rows"]:
        name = SEPARATOR.join(v for v in row.values() if isinstance(v, str))
        for key, value in row.items():
            if key in ("encode", "decode"):
                rates[f"{name}{SEPARATOR}{key}"] = value
            elif isinstance(value, dict) and value.get("seconds"):
                rates[f"{name}{SEPARATOR}{key}"] = 1 / value["seconds"]
    return rates


def main() -> int:
    """Print a row for each rate that both builds measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("what", nargs="?", default="coder", choices=["coder", "codec"])
    parser.add_argument("--codec", help="NAME@RUN; all that are shipped unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--within", type=float, default=0.03)
    args = parser.parse_args()
    best: dict[str, list[float]] = {}
    for number in range(args.rounds):
        for which, folder in enumerate((args.old, args.new)):
            print(f"round {number + 1}: {folder}", file=sys.stderr)
            for name, rate in bench(folder, args.what, args.core, args.codec).items():
                known = best.setdefault(name, [0.0, 0.0])
                known[which] = max(known[which], rate)
    both = {name: new / old for name, (old, new) in best.items() if old and new}
    slower = 0
    for name, ratio in both.items():
        ratio /= drift(name, both)
        slow = ratio < 1 - args.within and CONTROL not in name
        slower += slow
        old, new = best[name]
        print(f"{ratio:6.3f}  {old:14.6g}  {new:14.6g}  {name}{'  SLOWER' * slow}")
    print(f"{slower} of {len(both)} rows slower by more than {args.within:.0%}")
    return int(slower > 0 or not both)


def drift(name: str, ratios: dict[str, float]) -> float:
    """Return how much faster the machine itself was with NEW while it ran this load."""
    load = name.split(SEPARATOR)[0]
    control = [
        ratio
        for other, ratio in ratios.items()
        if other.split(SEPARATOR)[0] == load and CONTROL in other
    ]
    return statistics.median(control) if control else 1.0


if __name__ == "__main__":
    sys.exit(main())
