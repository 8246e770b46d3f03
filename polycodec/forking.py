# SPDX-License-Identifier: Apache-2.0
"""What a process that forks must look after: locks, and teams of threads.

    lock = fork_safe(threading.Lock())      free in a child, whoever held it before

A child has only the thread that forked. A lock that another one held would never be
let go, so a fork waits until nobody holds it. And the threads of an OpenMP team are
gone too, for which the first parallel loop of a child would wait for ever: it computes
with one thread, as workers of a DataLoader do, until it asks torch for more.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol, TypeVar


class _Lock(Protocol):
    def acquire(self) -> object:
        """Hold it."""

    def release(self) -> object:
        """Let it go."""


Lock = TypeVar("Lock", bound=_Lock)
FORKS = hasattr(os, "register_at_fork")


def fork_safe(lock: Lock) -> Lock:
    """Return the lock; no fork happens while a thread holds it, but the one that forks.

    For locks that live as long as the process, and are held for moments.
    """
    if FORKS:
        os.register_at_fork(
            before=lock.acquire,
            after_in_parent=lock.release,
            after_in_child=lock.release,
        )
    return lock


def _alone() -> None:
    """Let torch, if it is loaded, compute with one thread."""
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads") and torch.get_num_threads() > 1:  # type: ignore[union-attr]
        torch.set_num_threads(1)  # type: ignore[union-attr]


if FORKS:
    os.register_at_fork(after_in_child=_alone)
