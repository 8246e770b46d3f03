# SPDX-License-Identifier: Apache-2.0
"""What is made once for an object and kept as long as the object lives.

    _PREPARED: Kept[_Prepared] = Kept()
    prepared = _PREPARED.get(tables, lambda: _Prepared(tables))

Threads that ask for the same thing at once may each make it; all get the first one that
was finished. What is made must not refer to its object, or neither would ever go.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from polycodec.forking import fork_safe

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A dictionary with weak keys, safe for threads; lives as long as the process."""

    def __init__(self) -> None:
        self._values: weakref.WeakKeyDictionary[Any, dict[Hashable, Value]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = fork_safe(threading.Lock())

    def get(self, key: Any, make: Callable[[], Value], where: Hashable = None) -> Value:
        """Return what ``make`` returned at the first call for ``key`` and ``where``."""
        with self._lock:
            found = self._values.setdefault(key, {}).get(where)
        if found is None:
            fresh = make()  # outside the lock: others need not wait for it
            with self._lock:
                found = self._values.setdefault(key, {}).setdefault(where, fresh)
        return found
