# SPDX-License-Identifier: Apache-2.0
"""Compare the speed of two builds of the package on one machine, in turns.

    python docs/checks/versions.py OLD NEW [--rounds 5] [--core 1] [coder | codec]

OLD and NEW: folders to put on PYTHONPATH (an unpacked wheel, a checkout). Each round
runs `polycodec bench` once with each; the best of all rounds counts, since whatever
else the machine does can only slow a run down. A row slower than --within is marked,
and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path


def bench(folder: Path, what: str, core: int) -> dict[str, float]:
    """Rates of one run: of each row and direction, higher is better."""
    command = [sys.executable, "-m", "polycodec", "bench", what, "--json"]
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
        name = ", ".join(v for v in row.values() if isinstance(v, str))
        for key, value in row.items():
            if key in ("encode", "decode"):
                rates[f"{name}, {key}"] = value
            elif isinstance(value, dict) and value.get("seconds"):
                rates[f"{name}, {key}"] = 1 / value["seconds"]
    return rates


def main() -> int:
    """Print a row for each rate that both builds measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("what", nargs="?", default="coder", choices=["coder", "codec"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--within", type=float, default=0.03)
    args = parser.parse_args()
    best: dict[str, list[float]] = {}
    for number in range(args.rounds):
        for which, folder in enumerate((args.old, args.new)):
            print(f"round {number + 1}: {folder}", file=sys.stderr)
            for name, rate in bench(folder, args.what, args.core).items():
                known = best.setdefault(name, [0.0, 0.0])
                known[which] = max(known[which], rate)
    slower = 0
    for name, (old, new) in best.items():
        if not old or not new:
            continue
        ratio = new / old
        slow = ratio < 1 - args.within
        slower += slow
        print(f"{ratio:6.3f}  {old:14.6g}  {new:14.6g}  {name}{'  SLOWER' * slow}")
    both = sum(bool(old and new) for old, new in best.values())
    print(f"{slower} of {both} rows slower by more than {args.within:.0%}")
    return int(slower > 0 or not both)


if __name__ == "__main__":
    sys.exit(main())
