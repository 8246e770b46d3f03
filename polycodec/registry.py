# SPDX-License-Identifier: Apache-2.0
"""One registry: names that configs and files use, and what they build.

    @register("transform/residual")          one line beside the class
    build("transform/residual", width=96)    one call wherever a config names it

A name is ``kind/rest``. The module that defines a name is imported only when
the name is asked for, so ``import polycodec`` stays light. Names are stored in
files: they are never renamed and never reused.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from polycodec.errors import ModelError, UnknownNameError

T = TypeVar("T", bound=Callable[..., Any])

_ENTRIES: dict[str, Callable[..., Any]] = {}

# Which modules to import to find the names of a kind. A new part of an existing
# kind is one file in a folder listed here; nothing else has to be edited.
_HOMES: dict[str, tuple[str, ...]] = {
    "codec": ("polycodec.codecs",),
    "transform": ("polycodec.codecs.transforms",),
    "quantizer": ("polycodec.codecs.quantizers",),
    "entropy": ("polycodec.entropy_models",),
    "dataset": ("polycodec.train",),
    "loss": ("polycodec.train",),
    "optimizer": ("polycodec.train",),
}
_LOADED: set[str] = set()


def register(name: str) -> Callable[[T], T]:
    """Register a class or builder under ``kind/name``; clashes are errors."""

    def add(target: T) -> T:
        known = _ENTRIES.get(name)
        if known is not None and known.__qualname__ != target.__qualname__:
            raise ModelError(
                f"the name '{name}' is registered twice: {known} and {target}"
            )
        _ENTRIES[name] = target
        return target

    return add


def names(pattern: str) -> list[str]:
    """List registered names that match a glob such as ``transform/*``."""
    _load(pattern.split("/")[0])
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def build(name: str, **options: Any) -> Any:
    """Build what ``name`` stands for; unknown names and options list the nearest."""
    kind = name.split("/")[0]
    _load(kind)
    if name not in _ENTRIES:
        short = {n.split("/", 1)[1] for n in _ENTRIES if n.startswith(kind + "/")}
        raise UnknownNameError.of(kind, name.split("/", 1)[-1], short)
    _check_options(name, options)
    try:
        return _ENTRIES[name](**options)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(options)
        raise ModelError(f"cannot build '{name}' ({given}); {error}") from error


def _check_options(name: str, options: dict[str, Any]) -> None:
    known = inspect.signature(_ENTRIES[name]).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for option in options:
        if option not in known:
            raise UnknownNameError.of(f"option of {name}", option, known)


def _load(kind: str) -> None:
    if kind in _LOADED:
        return
    if kind not in _HOMES:
        raise UnknownNameError.of("kind of part", kind, _HOMES)
    _LOADED.add(kind)
    for home in _HOMES[kind]:
        package = importlib.import_module(home)
        for module in getattr(package, "PARTS", ()):
            importlib.import_module(f"{home}.{module}")
