# SPDX-License-Identifier: Apache-2.0
"""The C library of the range coder, loaded with ctypes when it is there."""

from __future__ import annotations

NAME = "native"


def library() -> None:
    """Return the loaded C library, or None: NumPy does the work then."""
    return None


def reason() -> str:
    """Say why there is no library."""
    return "it is not built yet"
