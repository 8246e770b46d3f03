# SPDX-License-Identifier: Apache-2.0
"""Compare the speed of two builds of the package on one machine, in lock step.

    python docs/checks/versions.py OLD NEW [coder] [--turns 60] [--core 1]
    python docs/checks/versions.py OLD NEW codec --codec image/default@WEIGHTS

    this process ──"row, way"──► OLD: a few milliseconds ──► best seconds
                 ──"row, way"──► NEW: the same, at once ───► best seconds    ... turns

OLD and NEW: folders to put on PYTHONPATH (an unpacked wheel, a checkout). A machine's
speed drifts by more within a minute than builds may differ by, so whole benchmarks one
after another say little; here a pair of measurements lies milliseconds apart, either
build goes first as often, and two figures are given for each row: the ratio of the
best seconds, and the median of the ratios of pairs. A row is slower where both say so
by more than --within; then the exit code is 1. Rows are those of `polycodec bench
coder`, or compressing and decompressing with --codec (NAME@RUN: both builds with the
same weights).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("encode", "decode")
TURN = 0.006  # seconds; at least one call
Row = tuple[str, str]


class Build:
    """A process that has one build imported and measures what it is asked."""

    def __init__(self, folder: Path, core: int, what: str, codec: str) -> None:
        command = ["taskset", "-c", str(core), sys.executable, str(Path(__file__))]
        self.process = subprocess.Popen(
            [*command, "--build", what, codec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={
                **os.environ,
                "PYTHONPATH": str(folder.resolve()),
                "OMP_NUM_THREADS": "1",
                "POLYCODEC_THREADS": "1",
            },
        )
        self.rows: dict[Row, int] = {(a, b): n for a, b, n in self._answer()}

    def seconds(self, row: Row, way: str) -> float:
        """Best seconds of one turn at a row."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([*row, way]) + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a build ended; its own words are above")
        return json.loads(line)


def main() -> int:
    """Print two ratios of speed for each row that both builds have alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("what", nargs="?", default="coder", choices=["coder", "codec"])
    parser.add_argument("--codec", default="image/default", help="NAME or NAME@RUN")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--within", type=float, default=0.03)
    args = parser.parse_intermixed_args()
    builds = [Build(f, args.core, args.what, args.codec) for f in (args.old, args.new)]
    old, new = (build.rows for build in builds)
    alike = [row for row, count in old.items() if new.get(row) == count]
    slower = 0
    for row in alike:
        for way in WAYS:
            best, middle = ratios(builds, row, way, args.turns)
            slow = max(best, middle) < 1 - args.within
            slower += slow
            name = f"{' | '.join(row)} | {way}"
            print(f"{best:6.3f}  {middle:6.3f}  {name}{'  SLOWER' * slow}", flush=True)
    if left_out := sorted(set(old) ^ set(new) | set(old) - set(alike)):
        print("not the same in both:", ", ".join(" | ".join(r) for r in left_out))
    print(f"{slower} of {2 * len(alike)} slower by more than {args.within:.0%}")
    return int(slower > 0 or not alike)


def ratios(builds: list[Build], row: Row, way: str, turns: int) -> tuple[float, float]:
    """How many times as fast NEW is: by the best of both, and by the median pair."""
    taken: list[list[float]] = [[], []]
    for turn in range(turns):
        for which in ((0, 1), (1, 0))[turn % 2]:
            taken[which].append(builds[which].seconds(row, way))
    old, new = taken
    pairs = [a / b for a, b in zip(old, new, strict=True)]
    return min(old) / min(new), statistics.median(pairs)


# What follows runs in a build's own process, and imports that build.


def measure(what: str, codec: str) -> None:
    """Say which rows there are, then answer every question on stdin."""
    rows = coder_rows() if what == "coder" else codec_rows(codec)
    print(
        json.dumps([[*row, count] for row, (count, _, _) in rows.items()]), flush=True
    )
    coded: dict[Row, Any] = {}
    for line in sys.stdin:
        load, name, way = json.loads(line)
        _, encode, decode = rows[load, name]
        if (load, name) not in coded:
            coded[load, name] = encode()
        data = coded[load, name]
        best, end = float("inf"), time.perf_counter() + TURN
        while True:
            begin = time.perf_counter()
            encode() if way == "encode" else decode(data)
            now = time.perf_counter()
            best = min(best, now - begin)
            if now >= end:
                break
        print(best, flush=True)


Measured = tuple[int, Callable[[], Any], Callable[[Any], Any]]


def coder_rows() -> dict[Row, Measured]:
    """Our coders on all loads: (load, coder) -> symbols, encode, decode."""
    try:
        from polycodec.eval.bench import coder as bench
        from polycodec.eval.bench.loads import LOADS

        ours = [e for e in bench.entries() if not e.name.startswith(("const", "comp"))]
        makers: list[Callable[[int], Any]] = list(LOADS)
    except ImportError:  # the layout before version 0.2
        from polycodec.eval import bench_coder as bench

        ours = bench.entries({})
        tables = bench.gaussian_tables(reach=bench.REACH)
        makers = [
            lambda n, bits=bits: bench.gaussian_load(bits, n, tables)
            for bits in bench.GAUSSIANS
        ]
        makers.append(bench.shared_load)
        count = len(bench.prior_loads(64))
        makers += [lambda n, k=k: bench.prior_loads(n)[k] for k in range(count)]
    rows: dict[Row, Measured] = {}
    for make in makers:
        whole = make(bench.SYMBOLS)
        for entry in ours:
            load = whole if entry.most >= bench.SYMBOLS else make(entry.most // 8)
            coder = entry.make(load)

            def encode(coder: Any = coder, entry: Any = entry) -> Any:
                choose(entry.simd)
                return coder.encode()

            def decode(data: Any, coder: Any = coder, entry: Any = entry) -> Any:
                choose(entry.simd)
                return coder.decode(data)

            rows[whole.name, entry.name] = load.symbols.size, encode, decode
    return rows


def choose(simd: str | None) -> None:
    """Let the coder use these instructions; None: the best."""
    os.environ.pop("POLYCODEC_SIMD", None)
    if simd is not None:
        os.environ["POLYCODEC_SIMD"] = simd


def codec_rows(named: str) -> dict[Row, Measured]:
    """One codec on a signal of its kind: a picture of 768 x 512, 10 s of sound."""
    import torch

    import polycodec

    name, _, run = named.partition("@")
    codec = polycodec.load(name, checkpoint=run or None)
    generator = torch.Generator().manual_seed(1)
    if name.startswith("image/"):
        x = torch.rand(1, 3, 32, 48, generator=generator)
        x = torch.nn.functional.interpolate(x, (512, 768), mode="bicubic").clamp(0, 1)
    else:
        x = torch.randn(1, 1, 160_000, generator=generator).cumsum(-1) / 1000
        x = (x - x.mean()).clamp(-1, 1)
    return {(name, "codec"): (x.numel(), lambda: codec.compress(x), codec.decompress)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        measure(*sys.argv[2:])
    else:
        sys.exit(main())
