# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: rounds, a stopwatch on the range coder, peak memory.

    until_calm      everybody takes turns until nobody's best time has moved
    Stopwatch       seconds inside the range coder's own calls
    peak_memory     bytes at the worst moment, above what was held before

Machines differ, and so does one machine from minute to minute. Best times of turns
that alternate are what can be compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from polycodec.cuda import BatchDecoder, BatchEncoder, StreamDecoder, StreamEncoder

BETTER = 0.99  # of a best time: less is news
_CODERS = {
    StreamEncoder: ("put", "put_prior", "finish"),
    StreamDecoder: ("get", "get_prior", "finish"),
    BatchEncoder: ("put", "put_prior", "finish"),
    BatchDecoder: ("get", "get_prior", "finish"),
}


def until_calm(
    turns: Sequence[Callable[[], bool]], repeats: int, seconds: float
) -> None:
    """Call all ``turns`` in rounds, at least one.

    A turn tells whether it has news, a better time than all before. ``repeats`` rounds
    without any end it, or ``seconds``, whatever may come.
    """
    end, calm = time.perf_counter() + seconds, 0
    while calm < repeats:
        news = [turn() for turn in turns]
        calm = 0 if any(news) else calm + 1
        if time.perf_counter() >= end:
            return


class Stopwatch:
    """Adds up the seconds spent inside the range coder.

    ``wait``: called before and after each of the coder's calls, to wait for a device
    that works on its own. While ``on`` is False the calls pass untouched.
    """

    def __init__(self, wait: Callable[[], None] | None = None) -> None:
        self.seconds = 0.0
        self.on = True
        self._wait = wait or (lambda: None)

    @contextlib.contextmanager
    def on_coder(self) -> Iterator[Stopwatch]:
        """Watch the coder's calls, on the host and on a device, for a while."""
        before = {(c, name): getattr(c, name) for c in _CODERS for name in _CODERS[c]}
        try:
            for (owner, name), inner in before.items():
                setattr(owner, name, self._timed(inner))
            yield self
        finally:
            for (owner, name), inner in before.items():
                setattr(owner, name, inner)

    def _timed(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            if not self.on:
                return inner(*args, **options)
            self._wait()
            started = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                self._wait()
                self.seconds += time.perf_counter() - started

        return timed


@contextlib.contextmanager
def peak_memory() -> Iterator[Callable[[], int | None]]:
    """Give a function: peak bytes of this process since, above what it held before.

    Linux only, elsewhere None: the kernel's mark of the highest resident memory can be
    put back there.
    """
    # What was freed but kept by the allocator would hide as much of the peak.
    if platform.system() == "Linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    before = None
    with contextlib.suppress(OSError):  # the kernel has no such mark, or not for us
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        before = _resident("VmRSS")
    yield lambda: None if before is None else max(_resident("VmHWM") - before, 0)


def _resident(name: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read(), re.M)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return 1024 * int(found[1])


@contextlib.contextmanager
def environment(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment for a while; None: none of that name."""
    before = {name: os.environ.get(name) for name in wanted}
    try:
        _put(wanted)
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
