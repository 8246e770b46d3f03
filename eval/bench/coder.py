# SPDX-License-Identifier: Apache-2.0
"""The coder's benchmark: speed and bytes, beside other people's coders in one run.

    load       symbols, and what their model says about them; bench_priors.py has those
               with a distribution for each symbol
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from polycodec.cuda import StreamDecoder, StreamEncoder, TableSet
from polycodec.cuda.host import library as native
from polycodec.cuda.host import threads
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN
from polycodec.entropy_models.priors.tables import gaussian_tables
from polycodec.errors import UsageError
from polycodec.eval.bench.clock import BETTER, environment, machine, until_calm
from polycodec.eval.bench.others import Coder, installed
from polycodec.eval.bench.priors import PriorLoad, installed_for_priors, prior_loads

REACH = 127  # symbols of the Gaussian loads: tables of 256 slots, one word each
SYMBOLS = 491_520  # 320 channels of a 768 x 512 picture at stride 16
# Median scale that gives about so many bits a symbol, with scales spread around it.
GAUSSIANS = {0.85: 0.361, 3.0: 1.93, 5.0: 7.7}
TINY = (0, 1, 4, 16, 64)
_TINY_DRAWS = 50
_TURN_SECONDS = 0.005
_LOAD_SECONDS = 13.0  # then a load's rounds end, whatever may come


@dataclass
class Load:
    """What is coded: (n,) int32 symbols, (n,) uint8 indexes, and their model.

    scales: (64,) of the zero-mean Gaussians that the indexes name, values within
    ±reach; or pmf: (K,) of the one distribution of all symbols.
    """

    name: str
    tables: TableSet
    symbols: np.ndarray
    indexes: np.ndarray
    scales: np.ndarray
    reach: int = REACH
    pmf: np.ndarray | None = None

    is_prior = False

    def put(self, encoder: StreamEncoder) -> None:
        """Give the symbols to an encoder."""
        encoder.put(self.symbols, self.indexes, self.tables)

    def get(self, decoder: StreamDecoder) -> np.ndarray:
        """Have them back from a decoder."""
        return decoder.get(self.indexes, self.tables)

    def cut(self, n: int) -> Load:
        """Return the load of the first ``n`` symbols."""
        if self.symbols.size <= n:
            return self
        return replace(self, symbols=self.symbols[:n], indexes=self.indexes[:n])

    def ideal_bytes(self) -> float:
        """Return what the model before all rounding says, in bytes."""
        if self.pmf is not None:
            return float(-np.log2(self.pmf[self.symbols]).sum()) / 8
        k = np.arange(-self.reach, self.reach + 1)
        edge = np.vectorize(math.erfc)
        # On the far side of 0 the complement keeps its digits.
        low, high = (
            edge((abs(k) + d) / (self.scales[:, None] * math.sqrt(2)))
            for d in (0.5, -0.5)
        )
        bits = -np.log2(np.maximum((high - low) / 2, 1e-300))
        return float(bits[self.indexes, self.symbols + self.reach].sum()) / 8


AnyLoad: TypeAlias = Load | PriorLoad


def gaussian_load(bits: float, n: int, tables: TableSet) -> Load:
    """Draw a load of about ``bits`` (a key of GAUSSIANS) a symbol."""
    rng = np.random.default_rng(round(100 * bits))
    scales = SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP)
    wanted = np.log(GAUSSIANS[bits]) + rng.normal(0, 0.5, n)
    index = np.rint((wanted - math.log(SCALE_MIN)) / LOG_STEP)
    indexes = np.clip(index, 0, SCALE_BINS - 1).astype(np.uint8)
    values = np.rint(rng.normal(0, scales[indexes]))
    symbols = tables.clamp(np.clip(values, -REACH, REACH), indexes)
    return Load(f"gauss {bits:g} bit", tables, symbols, indexes, scales)


def shared_load(n: int, size: int = 1024) -> Load:
    """Draw indexes of one codebook with a Zipf-like distribution."""
    rng = np.random.default_rng(size)
    pmf = 1 / (np.arange(size) + 30.0)
    pmf = rng.permutation(pmf / pmf.sum())
    tables = TableSet.from_pmfs([pmf], [0], 14, None)
    symbols = rng.choice(size, n, p=pmf).astype(np.int32)
    zeros = np.zeros(n, np.uint8)
    return Load(f"shared {size}", tables, symbols, zeros, np.ones(1), pmf=pmf)


def ours(backend: str, **options: Any) -> Callable[[AnyLoad], Coder]:
    """Return our coder as ``installed`` has the others; options of ``finish``."""

    def coder(load: AnyLoad) -> Coder:
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
    make: Callable[..., Coder | None]
    simd: str | None = None
    threads: int = 1
    most: int = SYMBOLS  # below: codes so many symbols of a load at most


def entries(others: Mapping[str, Callable[..., Coder | None]]) -> list[Entry]:
    """Return all coders that this machine has, ours first, then ``others``."""
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
    return found + [Entry(name, make) for name, make in others.items()]


def bench(
    n: int = SYMBOLS, repeats: int = 12, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Measure all coders on all loads of ``n`` symbols; plain data, ready for JSON.

    repeats: rounds without a better time that end a load. Speeds are symbols per
    second. Raises UsageError for numbers below 1.
    """
    if n < 2 or repeats < 1:
        raise UsageError("a benchmark needs 2 symbols and 1 repeat at least")
    tables = gaussian_tables(reach=REACH)
    loads: list[AnyLoad] = [gaussian_load(bits, n, tables) for bits in GAUSSIANS]
    loads += [shared_load(n), *prior_loads(n)]
    rows = []
    for load in loads:
        if progress:
            progress(load.name)
        others = installed_for_priors() if load.is_prior else installed()
        rows += _measure(load, entries(others), repeats)
    return {
        "symbols": n,
        "repeats": repeats,
        "machine": machine(),
        "rows": rows,
        "tiny": _tiny(tables),
    }


@dataclass
class _Runner:
    """A coder at work on a load, with its best times so far and its data's size."""

    entry: Entry
    load: AnyLoad
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


def _measure(load: AnyLoad, coders: list[Entry], repeats: int) -> list[dict[str, Any]]:
    """Let the coders take turns on a load; the best of each one's turns counts."""
    runners = []
    for entry in coders:
        part = load.cut(entry.most) if entry.most < SYMBOLS else load
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


def _tiny(tables: TableSet) -> list[dict[str, Any]]:
    """Mean bytes of streams of a few symbols of a Gaussian of scale 1."""
    scales = SCALE_MIN * np.exp(np.arange(SCALE_BINS) * LOG_STEP)
    index = int(np.argmin(abs(np.log(scales))))
    # Building CompressAI's tables for each stream takes longer than all the rest.
    slow = {"compressai.ans alone": 0, "CompressAI": 5}
    coders = {"ours": ours("auto"), **installed()}
    rows = []
    for n in TINY:
        rng = np.random.default_rng(n)
        sizes: dict[str, list[float]] = {"ideal": []}
        for draw in range(_TINY_DRAWS):
            symbols = np.rint(rng.normal(0, scales[index], n)).astype(np.int32)
            indexes = np.full(n, index, np.uint8)
            load = Load("tiny", tables, symbols, indexes, scales)
            sizes["ideal"].append(load.ideal_bytes())
            for name, make in coders.items():
                coder = make(load) if draw < slow.get(name, _TINY_DRAWS) else None
                if coder is not None:
                    size = coder.size(coder.encode())
                    sizes.setdefault(name, []).append(size)
        means = {name: float(np.mean(values)) for name, values in sizes.items()}
        rows.append({"symbols": n, **means})
    return rows
