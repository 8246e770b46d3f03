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

A name stands for one part: two files that claim it are an error that names both. What
is only remembered makes way for what is named, and weights that this user has exported
keep the files that they were made with (`memory.py`, `parts_of_weights`).

Weights never name code: whoever loads a stranger's weights runs nothing of a stranger.
Names are stored in files: they are never renamed and never reused.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from polycodec.errors import InputError, ModelError, UnknownNameError
from polycodec.forking import fork_safe
from polycodec.importing import FILES, imported, is_there
from polycodec.memory import absolute, files_of, remembered
from polycodec.options import check_value, lists_of

Part = Callable[..., Any]
T = TypeVar("T", bound=Part)

_ENTRIES: dict[str, Part] = {}
# Parts of files that nobody has named in this process: name -> file -> part.
_CLAIMS: dict[str, dict[str, Part]] = {}
# What names stand for while a codec is built for weights whose files are remembered: in
# this thread, others may be building other ones.
_BOUND: ContextVar[dict[str, Part] | None] = ContextVar("bound", default=None)

_TRAINED = (
    "polycodec.train.image",
    "polycodec.train.speech",
    "polycodec.train.features",
)
# Where the parts of a kind live: packages, searched to the last folder, or modules. A
# new part of an existing kind is one file in one of these; nothing else is edited.
_HOMES: dict[str, tuple[str, ...]] = {
    "codec": ("polycodec.codecs.families",),
    "signal": ("polycodec.codecs.signals",),
    "transform": ("polycodec.codecs.transforms",),
    "network": ("polycodec.codecs.transforms",),
    "head": ("polycodec.codecs.heads",),
    "quantizer": ("polycodec.codecs.quantizers",),
    "weights": ("polycodec.codecs.quantizers.weights",),
    "entropy": ("polycodec.entropy_models.models", "polycodec.entropy_models.tokens"),
    "reference": ("polycodec.entropy_models.references",),
    "prior": ("polycodec.entropy_models.priors",),
    "optimizer": ("polycodec.train.optim",),
    "task": _TRAINED,
    "recipe": _TRAINED,
}
KINDS = tuple(_HOMES)
GROUP, VARIABLE = "polycodec.parts", "POLYCODEC_PARTS"
_LOADED: set[str] = set()
_LOADING = fork_safe(threading.RLock())


def register(name: str) -> Callable[[T], T]:
    """Register a class or builder under ``kind/name``; clashes are errors."""

    def add(target: T) -> T:
        kind, _, rest = name.partition("/")
        if kind not in _HOMES or not rest:
            raise ModelError(
                f"'{name}' is no name of a part; expected kind/name, the kind one of "
                f"{', '.join(KINDS)}"
            )
        if not is_ours(target):
            _load(kind)  # whichever comes first, the package's names are taken
        known = _ENTRIES.get(name)
        if known is None or _same(known, target):
            if _quiet and not is_ours(target):
                _CLAIMS.setdefault(name, {})[source_of(target)] = target
            else:
                _ENTRIES[name] = target
        elif _quiet and not is_ours(known):
            _CLAIMS.setdefault(name, {})[source_of(target)] = target
        else:
            raise ModelError(
                f"the name '{name}' is registered twice: by {source_of(known)} and by "
                f"{source_of(target)}; choose another name for the newer one"
            )
        return target

    return add


def is_ours(part: Part) -> bool:
    """Whether a part is the package's own."""
    return part.__module__.startswith("polycodec.")


def is_outside(module: str) -> bool:
    """Whether a module has registered parts that are not the package's."""
    claims = (part for parts in _CLAIMS.values() for part in parts.values())
    known = (part.__module__ for part in (*_ENTRIES.values(), *claims))
    return not module.startswith("polycodec.") and module in known


def source_of(part: Part) -> str:
    """The file that a part came from, or the module where there is none."""
    file = getattr(sys.modules.get(part.__module__), "__file__", None)
    return part.__module__ if file is None else os.path.realpath(file)


def _same(known: Part, target: Part) -> bool:
    """Whether a part has come again, by a reload or by another name of its module."""
    alike = known.__qualname__ == target.__qualname__
    again = known.__module__ == target.__module__
    return alike and (again or source_of(known) == source_of(target))


def names(pattern: str) -> list[str]:
    """List registered names that match a glob such as ``transform/*``."""
    _load(pattern.split("/")[0])
    _load_outside()
    single = {name for name, claims in _CLAIMS.items() if len(claims) == 1}
    return sorted(fnmatch.filter({*_ENTRIES, *(_BOUND.get() or {}), *single}, pattern))


def rivals(pattern: str) -> dict[str, list[Part]]:
    """Names that several remembered files claim, with the parts, where they match."""
    _load_outside()
    several = [n for n in fnmatch.filter(_CLAIMS, pattern) if len(_CLAIMS[n]) > 1]
    return {n: list(_CLAIMS[n].values()) for n in sorted(several) if n not in _ENTRIES}


def find(name: str) -> Part:
    """What ``name`` stands for; UnknownNameError lists the nearest."""
    kind, _, rest = name.partition("/")
    _load(kind)
    bound = _BOUND.get() or {}
    if name not in bound and name not in _ENTRIES:
        _load_outside()
    for known in (bound, _ENTRIES):
        if name in known:
            return known[name]
    claims = _CLAIMS.get(name, {})
    if len(claims) == 1:
        return next(iter(claims.values()))
    if claims:
        raise ModelError(
            f"the name '{name}' is claimed by {' and by '.join(claims)}, of earlier "
            f"trainings; say which is meant: {VARIABLE}={next(iter(claims))}"
        )
    short = {
        n.split("/", 1)[1] for n in (*_ENTRIES, *_CLAIMS) if n.startswith(kind + "/")
    }
    error = UnknownNameError.of(kind, rest, short)
    if gone := [item for item in remembered() if not is_there(item)]:
        raise UnknownNameError(
            f"{error}; you have trained with parts that are gone, "
            f"{', '.join(gone[-3:])}; put them back, or name copies: {VARIABLE}=COPY"
        )
    raise error


def build(name: str, **options: Any) -> Any:
    """Build what ``name`` stands for; unknown names and options list the nearest."""
    target = find(name)
    known = options_of(name)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for option in options:
        if option not in known and not open_ended:
            raise UnknownNameError.of(f"option of {name}", option, known)
        if option in known:
            check_value(name, known[option], options[option])
    try:
        return target(**options)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        ArithmeticError,
        LookupError,
    ) as error:
        given = ", ".join(options)
        raise ModelError(
            f"cannot build '{name}' ({given}); {error}{lists_of(options, known)}"
        ) from error


def named(kind: str, given: Any) -> tuple[str, dict[str, Any]]:
    """A part's ``kind/name`` and its options, of a config's NAME or {name: NAME, ...}.

    Raises ModelError for anything else.
    """
    options = {"name": given} if isinstance(given, str) else given
    options = dict(options) if isinstance(options, Mapping) else {}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ModelError(
            f"a {kind} is {given!r}; expected a part's name, or {{name: NAME}} with "
            f"its options; 'polycodec parts {kind}' lists them"
        )
    return f"{kind}/{name}", options


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """The options of a part with their annotations and defaults, by name."""
    return dict(_parameters(find(name)))


@functools.cache
def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def import_parts(items: Iterable[str], folder: str | os.PathLike[str] = ".") -> None:
    """Import modules by name, or files (``*.py``) relative to ``folder``.

    Raises InputError with the reason when one cannot be imported, ModelError when one
    registers a name that is taken.
    """
    for item in items:
        module = imported(item, folder)
        # Of what was only remembered until now, and is named here.
        for name, claims in _CLAIMS.items():
            for file, part in list(claims.items()):
                if f"{part.__module__}.".startswith(f"{module}."):
                    register(name)(claims.pop(file))


def import_remembered(items: Iterable[str]) -> None:
    """Import those ``items`` of a run's config that this user has trained with."""
    known = remembered()
    import_parts(
        item for item in absolute(items, ".") if item in known and is_there(item)
    )


@contextlib.contextmanager
def parts_of_weights(digest: str) -> Iterator[None]:
    """Within, names mean what they meant when this user exported these weights.

    ``digest``: of the weights, hex. ModelError for a file that is gone, unless somebody
    has named another one that brings its part.
    """
    own = {name: _part_in(file, name) for name, file in files_of(digest).items()}
    token = _BOUND.set({**(_BOUND.get() or {}), **own})
    try:
        yield
    finally:
        _BOUND.reset(token)


def files_used(config: Mapping[str, Any]) -> dict[str, str]:
    """The files of parts that a codec's config names, those by path, by their names."""
    words = set(_words(config))
    used = {n: p for n, p in _ENTRIES.items() if n.partition("/")[2] in words}
    return {n: source_of(p) for n, p in used.items() if p.__module__.startswith(FILES)}


def _words(config: Any) -> Iterator[str]:
    """Every string among the values of a config."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _words(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _words(value)


def _part_in(file: str, name: str) -> Part:
    """The part that a file registers under ``name``."""
    known = _ENTRIES.get(name)
    if known is not None and source_of(known) == file:
        return known
    if not Path(file).is_file():
        _load_named()
        if name in _ENTRIES:
            return _ENTRIES[name]
        raise ModelError(
            f"these weights were made with '{name}' of {file}, which is gone; put it "
            f"back, or name its copy: {VARIABLE}=COPY"
        )
    with _quietly():
        imported(file, ".")
    if file not in _CLAIMS.get(name, {}):
        raise ModelError(
            f"these weights were made with '{name}' of {file}, which registers no such "
            "part any more; put back what it was"
        )
    return _CLAIMS[name][file]


_quiet = False


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Within, parts from outside are claims: nobody has named their files."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def _alone(function: Callable[..., None]) -> Callable[..., None]:
    """Let one thread load, and others wait until all is there."""

    @functools.wraps(function)
    def run(*args: Any) -> None:
        with _LOADING:
            function(*args)

    return run


@_alone
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


@_alone
def _load_named() -> None:
    """Import what installed packages and the environment bring."""
    if GROUP in _LOADED:
        return
    _LOADED.add(GROUP)
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"the parts '{point.name}' of an installed package cannot be loaded; "
                f"{type(error).__name__}: {error}; update or remove {point.value}"
            ) from error
    import_parts(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))


@_alone
def _load_outside() -> None:
    """Import also what this user remembers, without a word's weight of its own."""
    _load_named()
    if VARIABLE in _LOADED:
        return
    _LOADED.add(VARIABLE)
    for item in filter(is_there, remembered()):
        # Of some earlier training: what became of it must not stop other work.
        try:
            with _quietly():
                imported(item, ".")
        except (InputError, ModelError) as error:
            warnings.warn(f"remembered parts are left out: {error}", stacklevel=2)
