# SPDX-License-Identifier: Apache-2.0
"""How many threads code the chunks of one stream side by side.

POLYCODEC_THREADS, if set
torch.get_num_threads(), if torch is loaded (it need not be)
OMP_NUM_THREADS, if set, as torch would read it
the processors that this process may use
"""

from __future__ import annotations

import os
import sys

from polycodec.errors import UsageError

# A thread costs some 20 us to start; so many symbols take several times that.
_SYMBOLS_PER_THREAD = 1 << 16


def count() -> int:
    """Return the number of threads that may be used, at least 1."""
    asked = _number("POLYCODEC_THREADS", strict=True)
    if asked:
        return asked
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return max(1, int(torch.get_num_threads()))
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return _number("OMP_NUM_THREADS") or usable


def for_symbols(n: int) -> int:
    """Return the number of threads that a pass of ``n`` symbols is worth."""
    if n < 2 * _SYMBOLS_PER_THREAD:
        return 1
    return min(count(), n // _SYMBOLS_PER_THREAD)


def _number(name: str, strict: bool = False) -> int:
    text = os.environ.get(name, "")
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text and strict:
        raise UsageError(f"{name} is '{text}'; expected a number of threads, 1 or more")
    return 0
