# SPDX-License-Identifier: Apache-2.0
"""What a process is given, and how it is made to end.

    standard streams   closed ones lead nowhere; no file is opened in their place
    signals            INT, TERM, HUP run every clean-up, then end with 128 + number

A light leaf: it is imported before the command line is.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows knows no HUP
]
_received: list[int] = []
closed: set[int] = set()  # standard streams that were, when the process began


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end."""


def received() -> int | None:
    """The signal that asked the process to end, if one did."""
    return _received[0] if _received else None


class _Heard(io.FileIO):
    """Standard error: that nothing can be said there changes no exit code."""

    def write(self, data: Any) -> int:
        """Write what can be written."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def open_streams() -> None:
    """Give closed standard streams a place, and every stream a way with any name.

    Otherwise the next file that is opened would become a standard stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            closed.add(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None or os.name == "posix":  # elsewhere a console is no file
        coding = sys.stderr.encoding if sys.stderr else None
        heard = io.BufferedWriter(_Heard(2, "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(heard, coding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        # Names that are no text, or none of this terminal's, are shown escaped.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def end_at_once() -> None:
    """Let signals end the process by themselves, but for those that are ignored."""
    for number in _wanted():
        signal.signal(number, signal.SIG_DFL)


def end_orderly() -> None:
    """Let signals run every clean-up first; a second one changes nothing."""
    for number in _wanted():
        signal.signal(number, _stop)


def _wanted() -> list[int]:
    ours = (signal.SIG_DFL, signal.default_int_handler)
    return [number for number in _SIGNALS if signal.getsignal(number) in ours]


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    _received.append(number)
    raise Stopped
