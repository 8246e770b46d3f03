# SPDX-License-Identifier: Apache-2.0
"""Leave out of ``import torch`` what coding never asks for.

torch imports its exporter and Python's rules for tensors without data whenever it is
imported: 0.6 of 2.1 seconds of an ordinary processor. In a process of our own that only
encodes or decodes they are loaded when something asks for them.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_LATER = ("torch.export", "torch._meta_registrations")
_ASKING = "torch._dynamo"  # of torch.compile, which needs them


class _Later(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _ASKING:
            for name in _LATER:
                getattr(sys.modules.get(name), "__doc__", None)  # loads it
        if fullname not in _LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def lean_torch() -> None:
    """Let what follows import torch without these; nothing where it is loaded."""
    if "torch" not in sys.modules:
        sys.meta_path.insert(0, _Later())
