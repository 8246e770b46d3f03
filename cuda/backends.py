# SPDX-License-Identifier: Apache-2.0
"""Which implementation codes: the C library, or NumPy where there is none.

A back end is a module with ``rows``, ``cost``, ``encode_pass`` and ``decode_pass``, and
for passes with priors ``prior_rows``, ``encode_prior`` and ``decode_prior``; all give
the same bytes. POLYCODEC_CODER=numpy|native forces one for the whole process,
POLYCODEC_SIMD=scalar|avx2|avx512 (on AArch64 scalar|neon) what the C library uses,
POLYCODEC_THREADS how many threads (host/threads.py).
"""

from __future__ import annotations

import os
from types import ModuleType

from polycodec.cuda import reference
from polycodec.cuda.host import native
from polycodec.cuda.host.library import library, loaded
from polycodec.errors import UsageError

NAMES = ("auto", "native", "numpy")


def select(name: str = "auto") -> ModuleType:
    """Return the back end's module; "auto" takes the fastest one at hand.

    Raises UsageError for an unknown name, or "native" without the C library.
    """
    if name == "auto":
        name = os.environ.get("POLYCODEC_CODER", "auto") or "auto"
    if name not in NAMES:
        raise UsageError(f"unknown coder back end '{name}'; expected one of {NAMES}")
    if name == "numpy" or (name == "auto" and library() is None):
        return reference
    loaded()
    return native


def backend() -> str:
    """Return the name of the back end in use: "native" or "numpy"."""
    return str(select().NAME)
