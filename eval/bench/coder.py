# SPDX-License-Identifier: Apache-2.0
"""The coder's benchmark: speed and bytes, beside other people's coders in one run.

    load       symbols, and what their model says about them (loads.py)
    coder      encode() and decode() of a load: ours in every back end, theirs
    overhead   bytes over  Σ -log2 p(symbol)  of the model before any rounding

Machines differ, and so does one machine from minute to minute: coders take turns, each
for a few calls (the first ones find the caches full of the others' data), the best of
all calls counts, and what is to be read first are ratios within one run. Rounds go on
until nobody's best has moved for some of them: a coder that takes a tenth of a second
finds a quiet moment later than one that takes a thousandth.
What is timed is what a user calls, arrays in and bytes out, all checks included;
and every coder must give its symbols back.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.cuda import StreamDecoder, StreamEncoder
from polycodec.cuda.host import library as native
from polycodec.cuda.host import threads
from polycodec.errors import UsageError
from polycodec.eval.bench.clock import BETTER, environment, until_calm
from polycodec.eval.bench.loads import BINS, LOADS, Load, tabled
from polycodec.eval.bench.others import Coder, installed
from polycodec.eval.machine import machine

SYMBOLS = 491_520  # 320 channels of a 768 x 512 picture at stride 16
TINY = (0, 1, 4, 16, 64)
_TINY_DRAWS = 50
_TURN_SECONDS = 0.005
_LOAD_SECONDS = 13.0  # then a load's rounds end, whatever may come


def ours(backend: str, **options: Any) -> Callable[[Load], Coder]:
    """Return our coder as ``installed`` has the others; options of ``finish``."""

    def coder(load: Load) -> Coder:
        def encode() -> bytes:
            encoder = StreamEncoder(backend=backend)
            load.put(encoder)
            return encoder.finish(**options)

        def decode(data: bytes) -> np.ndarray:
            decoder = StreamDecoder(data, backend=backend)
            symbols = load.get(decoder)
            decoder.finish()
            return symbols

        return Coder(encode, decode)

    return coder


@dataclass
class Entry:
    """A coder in the run, with what must be set while it works."""

    name: str
    make: Callable[[Load], Coder | None]
    simd: str | None = None
    threads: int = 1
    most: int = SYMBOLS  # below: codes so many symbols of a load at most


def entries() -> list[Entry]:
    """Return all coders that this machine has, ours first."""
    one = {"lanes": 32, "chunks": 1}
    found = [Entry("numpy", ours("numpy", **one), most=1 << 16)]
    if (library := native.library()) is not None:
        levels = native.SIMD[: library.best_simd + 1]
        for name in levels:
            label = "plain C++" if name == "scalar" else name
            found.append(Entry(label, ours("native", **one), name))
        best = found[-1]
        two = ours("native", lanes=32, chunks=2)
        found.append(Entry(f"{best.name}, 2 chunks", two, levels[-1]))
        number = threads.count()
        if number > 1:
            many = ours("native", lanes=32, chunks=2 * number)
            label = f"{best.name}, {number} threads"
            found.append(Entry(label, many, levels[-1], number))
    return found + [Entry(name, make) for name, make in installed().items()]


def bench(
    n: int = SYMBOLS,
    repeats: int = 12,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure all coders on all loads of ``n`` symbols; plain data, ready for JSON.

    repeats: rounds without a better time that end a load. Speeds are symbols per
    second. Raises UsageError for numbers below 1.
    """
    if n < 2 or repeats < 1:
        raise UsageError("a benchmark needs 2 symbols and 1 repeat at least")
    rows = [row for make in LOADS for row in _measure(make, n, repeats, progress)]
    about = {"symbols": n, "repeats": repeats, "machine": machine()}
    return {**about, "rows": rows, "tiny": _tiny()}


@dataclass
class _Runner:
    """A coder at work on a load, with its best times so far and its data's size."""

    entry: Entry
    load: Load
    coder: Coder
    encode: float = math.inf
    decode: float = math.inf
    size: int = 0

    def turn(self) -> bool:
        """Code for a while; returns whether a time was better than all before."""
        before = self.encode, self.decode
        wanted = {"POLYCODEC_SIMD": self.entry.simd}
        with environment({**wanted, "POLYCODEC_THREADS": str(self.entry.threads)}):
            data, seconds = _turn(self.coder.encode)
            self.encode = min(self.encode, seconds)
            symbols, seconds = _turn(functools.partial(self.coder.decode, data))
            self.decode = min(self.decode, seconds)
        same = np.array_equal(symbols, self.load.symbols)
        assert same, f"{self.entry.name} lost symbols"
        self.size = self.coder.size(data)
        return self.encode < BETTER * before[0] or self.decode < BETTER * before[1]

    def row(self) -> dict[str, Any]:
        """Return what was measured, for a table or JSON."""
        n, ideal = self.load.symbols.size, self.load.ideal_bytes()
        return {
            "load": self.load.name,
            "prior": self.load.is_prior,
            "coder": self.entry.name,
            "decode": n / self.decode,
            "encode": n / self.encode,
            "symbols": n,
            "bytes": self.size,
            "overhead": self.size / ideal - 1,
        }


def _measure(
    make: Callable[[int], Load], n: int, repeats: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Let the coders take turns on a load; the best of each one's turns counts."""
    load, runners = make(n), []
    progress(load.name)
    for entry in entries():
        # What is slow is slower with a distribution for each symbol.
        most = entry.most // 8 if load.is_prior else entry.most
        part = load if entry.most >= SYMBOLS or n <= most else make(most)
        coder = entry.make(part)
        if coder is not None:
            runners.append(_Runner(entry, part, coder))
    until_calm([runner.turn for runner in runners], repeats, _LOAD_SECONDS)
    return [runner.row() for runner in runners]


def _turn(function: Callable[[], Any]) -> tuple[Any, float]:
    """Call until the turn's time is over; returns the result and the best time."""
    best, end = math.inf, time.perf_counter() + _TURN_SECONDS
    while True:
        begin = time.perf_counter()
        result = function()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now >= end:
            return result, best


def _tiny() -> list[dict[str, Any]]:
    """Mean bytes of streams of a few symbols of a Gaussian of scale 1."""
    index = int(np.argmin(abs(np.log(BINS))))
    # Building CompressAI's tables for each stream takes longer than all the rest.
    slow = {"compressai.ans alone": 0, "CompressAI": 5}
    coders = {"ours": ours("auto"), **installed()}
    rows = []
    for n in TINY:
        rng = np.random.default_rng(n)
        sizes: dict[str, list[float]] = {"ideal": []}
        for draw in range(_TINY_DRAWS):
            indexes = np.full(n, index, np.uint8)
            load = tabled("tiny", rng.normal(0, BINS[index], n), indexes)
            sizes["ideal"].append(load.ideal_bytes())
            for name, make in coders.items():
                coder = make(load) if draw < slow.get(name, _TINY_DRAWS) else None
                if coder is not None:
                    size = coder.size(coder.encode())
                    sizes.setdefault(name, []).append(size)
        means = {name: float(np.mean(values)) for name, values in sizes.items()}
        rows.append({"symbols": n, **means})
    return rows
