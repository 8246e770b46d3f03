# SPDX-License-Identifier: Apache-2.0
"""The codecs' benchmark: seconds of compress and decompress, beside CompressAI's.

    codec.compress(x) ──► bytes ──► codec.decompress     in memory, no files
    x     an image of 768 x 512, ten seconds of speech, or a file (signals.py)

Codecs of a kind take turns, the best of all turns counts, and what is to be read first
are ratios within one run. A codec that is much slower than the others stops when it has
had its share of the time. ``coder``: the part inside the range coder's own calls. On a
GPU each time ends when the device is done; the coder's share comes from calls of their
own there, because watching it means waiting for the device again and again.

``processor_seconds``: the time of all threads of this process, which other work on the
machine prolongs less: with one thread, about what a call takes on an idle core.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.files.kinds import kind_of
from polycodec.errors import UsageError
from polycodec.eval.bench.clock import (
    BETTER,
    Stopwatch,
    environment,
    peak_memory,
    until_calm,
)
from polycodec.eval.bench.signals import UNITS
from polycodec.eval.bench.subjects import Timed, own, peers
from polycodec.eval.machine import machine

SECONDS = 40.0  # for the codecs of a kind together; then rounds end
WAYS = ("compress", "decompress")


@dataclass
class Clock:
    """Times calls on a device, with a stopwatch on the range coder."""

    device: torch.device
    watch: Stopwatch = field(init=False)
    processor: float = 0.0  # seconds of the last call, of all threads

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.wait)
        self.watch.on = self.on_host

    @property
    def on_host(self) -> bool:
        """Whether nothing works on its own, so that watching costs nothing."""
        return self.device.type == "cpu"

    def wait(self) -> None:
        """Until the device is done."""
        if not self.on_host:
            torch.cuda.synchronize(self.device)

    def time(self, call: Callable[[], Any]) -> tuple[Any, float, float]:
        """Result of a call, its seconds, and those of the coder in it."""
        self.wait()
        self.watch.seconds, started = 0.0, time.perf_counter()
        used = time.process_time()
        result = call()
        self.wait()
        self.processor = time.process_time() - used
        return result, time.perf_counter() - started, self.watch.seconds

    def share(self, call: Callable[[], Any]) -> float:
        """The coder's part of a call that is watched."""
        before, self.watch.on = self.watch.on, True
        try:
            _, seconds, coder = self.time(call)
        finally:
            self.watch.on = before
        return coder / seconds

    def peak(self, call: Callable[[], Any]) -> tuple[Any, int | None]:
        """Result of a call, and the peak of the memory where the networks run."""
        if self.on_host:
            with peak_memory() as found:
                return call(), found()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        result = call()
        return result, torch.cuda.max_memory_allocated(self.device) - before


class Runner:
    """A codec at work on its signal, with its best times so far."""

    def __init__(self, subject: Timed, x: Tensor, clock: Clock) -> None:
        self.subject, self.x, self.clock = subject, x, clock
        self.seconds = dict.fromkeys(WAYS, math.inf)
        self.processor = dict.fromkeys(WAYS, math.inf)
        self.shares: dict[str, float] = {}
        self.peaks: dict[str, int | None] = {}
        self.rounds, self.spent, self.bytes = 0, 0.0, 0

    def warm_up(self) -> None:
        """Code once, not timed; how much memory it took."""
        subject = self.subject
        data, self.peaks["compress"] = self.clock.peak(self._call(self.x))
        x_hat, self.peaks["decompress"] = self.clock.peak(self._call(data, 1))
        same = x_hat.shape == self.x.shape
        assert same, f"{subject.name}: {tuple(x_hat.shape)}, not {tuple(self.x.shape)}"
        self.bytes = subject.size(data)

    def turn(self, seconds: float = math.inf) -> bool:
        """Code once; whether a time was better than all before.

        A codec that has had its ``seconds`` in all, and two turns, lets others go on.
        """
        if self.rounds >= 2 and self.spent > seconds:
            return False
        value, news = self.x, False
        for k, way in enumerate(WAYS):
            call = self._call(value, k)
            value, taken, coder = self.clock.time(call)
            self.processor[way] = min(self.processor[way], self.clock.processor)
            news |= taken < BETTER * self.seconds[way]
            if taken < self.seconds[way]:
                self.seconds[way], self.shares[way] = taken, coder / taken
            if not self.clock.on_host:
                self.shares[way] = self.clock.share(call)
            self.spent += taken
        self.rounds += 1
        return news

    def _call(self, value: Any, k: int = 0) -> Callable[[], Any]:
        ways = (self.subject.compress, self.subject.decompress)
        return functools.partial(ways[k], value)

    def row(self) -> dict[str, Any]:
        """What was measured, with its units in the names."""
        subject, units = self.subject, UNITS[self.subject.kind]
        size = units.size_of(self.x.shape, subject.rate)
        row: dict[str, Any] = {
            "codec": subject.name,
            "kind": subject.kind,
            "weights": subject.weights,
            "setting": subject.setting,
            **size,
            "bytes": self.bytes,
            units.rate: units.rate_of(self.bytes, size),
        }
        for way, taken in self.seconds.items():
            row[way] = {"seconds": taken, units.speed: units.speed_of(taken, size)}
            row[way]["coder_share"] = self.shares[way] if subject.watched else None
            row[way]["peak_bytes"] = self.peaks[way]
            row[way]["processor_seconds"] = self.processor[way]
        return {**row, "rounds": self.rounds}


def bench(
    codecs: Sequence[str] | None = None,
    *,
    device: str = "auto",
    source: str | None = None,
    quality: float = 50.0,
    threads: int | None = None,
    repeats: int = 3,
    seconds: float = SECONDS,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure codecs, plain data, ready for JSON.

    codecs: NAME or NAME@RUN, None: those that ship (of the kind of ``source``).
    source: a file to code in place of what is made up. repeats: rounds without a better
    time that end a kind, as ``seconds`` do. Raises UsageError for numbers below 1 and
    a codec that cannot code ``source``.
    """
    if repeats < 1 or (threads is not None and threads < 1):
        raise UsageError("a benchmark needs 1 repeat and 1 thread at least")
    where = zoo.resolve_device(device)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with _threads(threads), torch.inference_mode():
        chosen = _chosen(codecs, source, where, quality)
        for kind in dict.fromkeys(subject.kind for subject in chosen):
            group = [subject for subject in chosen if subject.kind == kind]
            group += peers(kind, where)
            clock = Clock(where)
            runners = _warm(group, source, clock, skipped, progress)
            rows += _measure(runners, clock, repeats, seconds)
        gpu = where.type == "cuda"
        device = torch.cuda.get_device_name(where) if gpu else "cpu"
        about = {"machine": {**machine(), "device": device}, "repeats": repeats}
    rows = [{**row, "input": source or "made up"} for row in rows]
    return {**about, "rows": rows, "skipped": skipped}


def _chosen(
    codecs: Sequence[str] | None, source: str | None, device: torch.device, q: float
) -> list[Timed]:
    """The codecs that were named, or all that ship and can code ``source``."""
    wanted = None if source is None else kind_of(source)
    known = [
        c["name"]
        for c in zoo.models()
        if wanted in (None, c["modality"])
        and c["parameters"]  # else: it would be fitted
    ]
    chosen = [own(name, device, q) for name in dict.fromkeys(codecs or known)]
    for subject in chosen:
        if wanted not in (None, subject.kind):
            raise UsageError(
                f"{subject.name} is for {subject.kind}, the input is {wanted}; leave "
                "one of them out"
            )
    others = sorted({wanted or "image", *(s.kind for s in chosen)} - set(UNITS))
    if others:
        raise UsageError(
            f"codecs of {', '.join(others)} are not timed; expected codecs and an "
            f"input of {' or '.join(UNITS)}; `polycodec eval` times clips"
        )
    return chosen


def _warm(
    subjects: list[Timed],
    source: str | None,
    clock: Clock,
    skipped: dict[str, str],
    progress: Callable[[str], None],
) -> list[Runner]:
    """Runners that have coded once; who cannot, if not ours, is ``skipped``."""
    inputs = {}
    for kind, rate in {(s.kind, s.rate) for s in subjects}:
        units = UNITS[kind]
        inputs[rate] = units.read(source, rate) if source else units.made_up(rate)
    runners = []
    for subject in subjects:
        progress(subject.name)
        x = torch.from_numpy(inputs[subject.rate])[None].to(clock.device)
        runner = Runner(subject, x, clock)
        try:
            runner.warm_up()
            runners.append(runner)
        except Exception as error:  # what others raise on a GPU is not foreseen
            if subject.watched:
                raise
            skipped[subject.name] = f"{type(error).__name__}: {error}"
    return runners


def _measure(
    runners: list[Runner], clock: Clock, repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """Let the codecs of one kind take turns."""
    each = seconds / len(runners)
    turns = [functools.partial(runner.turn, each) for runner in runners]
    with clock.watch.on_coder():
        until_calm(turns, repeats, seconds)
    return [runner.row() for runner in runners]


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many threads for networks and coder, for a while; None: as they are."""
    if number is None:
        yield
        return
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number)
        with environment({"POLYCODEC_THREADS": str(number)}):
            yield
    finally:
        torch.set_num_threads(before)
