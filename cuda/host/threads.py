# SPDX-License-Identifier: Apache-2.0
"""How many threads code, and work on several streams side by side.

    POLYCODEC_THREADS, if set
    torch.get_num_threads(), if torch is loaded (it need not be)
    OMP_NUM_THREADS, if set, as torch would read it
    the processors that this process may use

Chunks of one stream are spread over threads by the C library; ``each`` spreads
streams, since ctypes lets go of the interpreter lock while the library works.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from polycodec.errors import UsageError

T, R = TypeVar("T"), TypeVar("R")
# A thread costs some 20 us to start; so many symbols take several times that.
_SYMBOLS_PER_THREAD = 1 << 16
_inside = threading.local()  # .each: this thread works for `each` already


def count() -> int:
    """Return the number of threads that may be used, at least 1."""
    asked = _number("POLYCODEC_THREADS", strict=True)
    if asked:
        return asked
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads"):
        return max(1, torch.get_num_threads())
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return _number("OMP_NUM_THREADS") or usable


def for_symbols(n: int) -> int:
    """Return the number of threads that a pass of ``n`` symbols is worth."""
    if n < 2 * _SYMBOLS_PER_THREAD or getattr(_inside, "each", False):
        return 1
    return min(count(), n // _SYMBOLS_PER_THREAD)


def each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return ``function`` of every item, in order, on as many threads as allowed.

    Raises what the first failing item raised, after all have ended.
    """
    items = list(items)
    number = min(count(), len(items))
    if number <= 1 or getattr(_inside, "each", False):
        return [function(item) for item in items]
    with ThreadPoolExecutor(number, initializer=_enter) as pool:
        return list(pool.map(function, items))


def _enter() -> None:
    _inside.each = True


def _number(name: str, strict: bool = False) -> int:
    text = os.environ.get(name, "")
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text and strict:
        raise UsageError(f"{name} is '{text}'; expected a number of threads, 1 or more")
    return 0
