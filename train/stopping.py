# SPDX-License-Identifier: Apache-2.0
"""A signal that ends a run waits until a step is whole and its checkpoint written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows knows no HUP
]


@contextlib.contextmanager
def first_signal_waits() -> Iterator[list[int]]:
    """Yield a list that a signal is put on instead of ending the process.

    A second one does what it always does. Raise the first with `signal.raise_signal`
    when it suits. Threads other than the first hear no signals.
    """
    heard: list[int] = []
    before: dict[int, Any] = {}

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        restore()

    def restore() -> None:
        for number, handler in tuple(before.items()):
            signal.signal(number, handler)
        before.clear()  # once: what then hears a signal may change them

    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        before |= {k: v for k, v in found.items() if v not in (signal.SIG_IGN, None)}
        for number in tuple(before):
            signal.signal(number, hear)
    try:
        yield heard
    finally:
        restore()
