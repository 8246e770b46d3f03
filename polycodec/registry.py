# SPDX-License-Identifier: Apache-2.0
"""One registry: names that configs and files use, and what they build.

    @register("transform/residual")          one line beside the class
    build("transform/residual", width=96)    one call wherever a config names it

A name is ``kind/rest``. Modules are imported when a name of their kind is asked for, so
``import polycodec`` stays light. Parts that are not the package's own come

    of an installed package     entry points of the group ``polycodec.parts``, modules
    of a config                 ``imports:``, modules or files beside the config
    of the environment          POLYCODEC_PARTS, modules or files, as PATH is written
    of an earlier training      what its config imported is remembered for this user

Weights never name code: whoever loads a stranger's weights runs nothing of a stranger.
Names are stored in files: they are never renamed and never reused.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from polycodec.errors import InputError, ModelError, UnknownNameError

T = TypeVar("T", bound=Callable[..., Any])

_ENTRIES: dict[str, Callable[..., Any]] = {}

# Where the parts of a kind live: packages, searched to the last folder, or modules. A
# new part of an existing kind is one file in one of these; nothing else is edited.
_HOMES: dict[str, tuple[str, ...]] = {
    "codec": ("polycodec.codecs.families",),
    "signal": ("polycodec.codecs.signals",),
    "transform": ("polycodec.codecs.transforms",),
    "network": ("polycodec.codecs.transforms",),
    "quantizer": ("polycodec.codecs.quantizers",),
    "entropy": ("polycodec.entropy_models.models", "polycodec.entropy_models.tokens"),
    "reference": ("polycodec.entropy_models.references",),
    "prior": ("polycodec.entropy_models.priors",),
    "optimizer": ("polycodec.train.optim",),
    "task": ("polycodec.train.image", "polycodec.train.speech"),
    "recipe": ("polycodec.train.image", "polycodec.train.speech"),
}
KINDS = tuple(_HOMES)
GROUP, VARIABLE = "polycodec.parts", "POLYCODEC_PARTS"
_LOADED: set[str] = set()


def register(name: str) -> Callable[[T], T]:
    """Register a class or builder under ``kind/name``; clashes are errors."""

    def add(target: T) -> T:
        if name.split("/")[0] not in _HOMES or not name.partition("/")[2]:
            raise ModelError(
                f"'{name}' is no name of a part; expected kind/name, the kind one of "
                f"{', '.join(KINDS)}"
            )
        known = _ENTRIES.get(name)
        if known is not None and known.__qualname__ != target.__qualname__:
            raise ModelError(
                f"the name '{name}' is registered twice: {known} and {target}; choose "
                "another name for the newer one"
            )
        _ENTRIES[name] = target
        return target

    return add


def names(pattern: str) -> list[str]:
    """List registered names that match a glob such as ``transform/*``."""
    _load(pattern.split("/")[0])
    _load_outside()
    return sorted(fnmatch.filter(_ENTRIES, pattern))


def find(name: str) -> Callable[..., Any]:
    """What ``name`` stands for; UnknownNameError lists the nearest."""
    kind, _, rest = name.partition("/")
    _load(kind)
    if name not in _ENTRIES:
        _load_outside()
    if name not in _ENTRIES:
        short = {n.split("/", 1)[1] for n in _ENTRIES if n.startswith(kind + "/")}
        raise UnknownNameError.of(kind, rest, short)
    return _ENTRIES[name]


def build(name: str, **options: Any) -> Any:
    """Build what ``name`` stands for; unknown names and options list the nearest."""
    target = find(name)
    known = options_of(name)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for option in options:
        if option not in known and not open_ended:
            raise UnknownNameError.of(f"option of {name}", option, known)
    try:
        return target(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(options)
        raise ModelError(f"cannot build '{name}' ({given}); {error}") from error


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of a part with their annotations and defaults, by name."""
    return dict(inspect.signature(find(name)).parameters)


def import_parts(items: Iterable[str], folder: str | os.PathLike[str] = ".") -> None:
    """Import modules by name, or files (``*.py``) relative to ``folder``.

    Raises InputError with the reason when one cannot be imported.
    """
    for item in items:
        try:
            if item.endswith(".py"):
                _import_file(Path(folder, item).resolve())
            else:
                importlib.import_module(item)
        except ModelError:
            raise
        except Exception as error:
            raise InputError(
                f"cannot import the parts '{item}'; {type(error).__name__}: {error}; "
                "expected the name of a module, or a .py file beside the config"
            ) from error


def remember_parts(items: Iterable[str], folder: str | os.PathLike[str]) -> None:
    """Keep for this user what a config that was trained has imported.

    Its weights can then be used by later processes without naming the parts again.
    A folder that cannot be written is no error: POLYCODEC_PARTS still names them.
    """
    wanted = [
        str(Path(folder, item).resolve()) if item.endswith(".py") else item
        for item in items
    ]
    known = _remembered()
    fresh = [item for item in wanted if item not in known]
    if fresh:
        try:
            _memory().parent.mkdir(parents=True, exist_ok=True)
            with _memory().open("a", encoding="utf-8") as file:
                file.writelines(f"{item}\n" for item in fresh)
        except OSError:
            return


def _memory() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "polycodec" / "parts.txt"


def _remembered() -> list[str]:
    try:
        return _memory().read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError, RuntimeError):
        return []


def _import_file(path: Path) -> None:
    """Import a file once; its name among the modules says where it lies."""
    name = f"polycodec_parts.{path.with_suffix('').as_posix().strip('/')}".replace(
        "/", "_"
    )
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the file look themselves up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _load(kind: str) -> None:
    """Import every module of the package that may hold parts of ``kind``."""
    if kind not in _HOMES:
        raise UnknownNameError.of("kind of part", kind, _HOMES)
    if kind in _LOADED:
        return
    _LOADED.add(kind)
    for home in _HOMES[kind]:
        package = importlib.import_module(home)
        folders = getattr(package, "__path__", ())
        for module in pkgutil.walk_packages(folders, f"{home}."):
            importlib.import_module(module.name)


def _load_outside() -> None:
    """Import what installed packages, the environment and this user bring."""
    if GROUP in _LOADED:
        return
    _LOADED.add(GROUP)
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise ModelError(
                f"the parts '{point.name}' of an installed package cannot be loaded; "
                f"{type(error).__name__}: {error}; update or remove {point.value}"
            ) from error
    import_parts(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
    for item in _remembered():
        # Of some earlier training: what became of it must not stop other work.
        try:
            import_parts([item] if _is_there(item) else [])
        except (InputError, ModelError) as error:
            warnings.warn(f"remembered parts are left out: {error}", stacklevel=2)


def _is_there(item: str) -> bool:
    """Whether remembered parts still exist: a deleted file is forgotten."""
    if item.endswith(".py"):
        return Path(item).is_file()
    try:
        return importlib.util.find_spec(item) is not None
    except (ImportError, ValueError):
        return False
