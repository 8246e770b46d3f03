# SPDX-License-Identifier: Apache-2.0
"""A training run as data: YAML in, checked models out.

    polycodec train image/default data.train=DIR       a config of the package
    polycodec train mine.yaml codec.transform.name=conv

Sections of one level each: `codec, data, optim, run, eval`, for speech `loss, stages,
rates, adversary`, for the Bayesian family `priors`, for that of features `classes`
(`train.sections`). Values only; names look up the registry. `include: other` takes one
parent, `imports: [parts.py, a.module]` brings parts that are not the package's, files
as seen from the config. Overrides from the command line are `section.key=value` and
pass through the same checks. An unknown key is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from polycodec import configs
from polycodec.errors import InputError, UsageError
from polycodec.registry import import_parts
from polycodec.train.sections import (
    AdversarySection,
    ClassesSection,
    CodecSection,
    DataSection,
    EvalSection,
    LossSection,
    OptimSection,
    PriorsSection,
    RatesSection,
    RunSection,
    Section,
    StagesSection,
)

SHIPPED = Path(configs.__file__).parent


class TrainConfig(Section):
    """One training run."""

    imports: tuple[str, ...] = Field(
        (), description="modules, or .py files beside this config, that bring parts"
    )
    task: str | None = Field(None, description="another than the codec's own")
    recipe: str | None = Field(None, description="of the export, another likewise")
    codec: CodecSection
    data: DataSection
    optim: OptimSection = OptimSection()
    run: RunSection
    eval: EvalSection = EvalSection()
    loss: LossSection = LossSection()
    stages: StagesSection = StagesSection()
    rates: RatesSection = RatesSection()
    adversary: AdversarySection = AdversarySection()
    priors: PriorsSection = PriorsSection()
    classes: ClassesSection = ClassesSection()


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in TrainConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}

# Read by some tasks, not by the loop; all their keys have defaults.
SECTIONS_OF_TASKS = {
    name: kind
    for name, kind in SECTIONS.items()
    if name not in ("codec", "data", "optim", "run", "eval")
}


def _print(note: str) -> None:
    print(f"polycodec: note: {note}", file=sys.stderr, flush=True)


# What stands in the place of a part whose config leaves its name out.
_DEFAULT_PARTS = {
    f"{section}.name": fields.model_fields["name"].default
    for section, fields in SECTIONS.items()
    if "name" in fields.model_fields
}


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = _print,
) -> TrainConfig:
    """Read a YAML file, or a config of the package by name, and apply overrides.

    Imports what ``imports`` names. A part that an override exchanges takes no options
    of the one before: what is dropped is said.
    """
    tree = _read(_located(str(path), Path()))
    # Names first, from the outside in: all other options are the new parts'.
    split = [_split(item) for item in overrides]
    names = sorted((one for one in split if one[0][-1] == "name"), key=_depth)
    for keys, value in [*names, *(one for one in split if one[0][-1] != "name")]:
        _override(tree, keys, value, say)
    tree["imports"] = _absolute(tree.get("imports", []), Path())
    import_parts(tree["imports"])
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> TrainConfig:
    """Check a plain dictionary; errors say the key and the nearest known one.

    Imports nothing: a checkpoint's config may be a stranger's.
    """
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def shipped() -> dict[str, Path]:
    """Return configs of the package by name, such as image/default."""
    files = sorted(SHIPPED.glob("*/*.yaml"))
    return {p.relative_to(SHIPPED).with_suffix("").as_posix(): p for p in files}


class _Loader(yaml.SafeLoader):
    """YAML whose 1e-3 is a number, as in YAML 1.2; PyYAML reads it as text.

    A key that stands twice is an error: PyYAML would take the last and drop the first.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Also refuse keys that stand twice."""
        keys = [key.value for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    *("while reading a section", node.start_mark),
                    *(f"'{key.value}' stands twice in it", key.start_mark),
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def _split(item: str) -> tuple[list[str], Any]:
    """Return keys and value of ``section.key=value``."""
    key, separator, value = item.partition("=")
    keys = key.split(".")
    top = len(keys) == 1 and key in TrainConfig.model_fields and key not in SECTIONS
    if not separator or not all(keys) or (len(keys) == 1 and not top):
        raise UsageError(f"override '{item}'; expected section.key=value")
    try:
        return keys, yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"override '{item}'; {value!r} is no YAML value") from error


def _depth(override: tuple[list[str], Any]) -> int:
    return len(override[0])


def _override(
    tree: dict[str, Any], keys: list[str], value: Any, say: Callable[[str], None]
) -> None:
    """Put a value into the tree; another part's name drops the old part's options."""
    node = tree
    for i, key in enumerate(keys[:-1]):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            where = ".".join(keys)
            raise UsageError(f"override '{where}'; '{keys[i]}' is a value, no section")
    before = _named(node, keys[:-1])
    if keys[-1] == "name" and (dropped := _dropped(node, keys[:-1], value)):
        where = ".".join(keys[:-1])
        say(f"{where} is {value} now; dropped of {before}: {', '.join(dropped)}")
    node[keys[-1]] = value


def _named(node: dict[str, Any], section: Sequence[str]) -> Any:
    """The part that a section names, or that stands there where it names none."""
    return node.get("name", _DEFAULT_PARTS.get(".".join([*section, "name"])))


def _dropped(node: dict[str, Any], section: Sequence[str], name: Any) -> list[str]:
    """Drop a part's options where another takes its place; their names."""
    if _named(node, section) in (None, name):
        return []
    in_codec = section[0] == "codec"
    options = [k for k in node if (k != "name" if in_codec else k == "options")]
    for key in options:
        del node[key]
    return options


def _located(name: str, folder: Path) -> Path:
    """Return the file a config's name means, as seen from ``folder``."""
    path = folder / name
    if path.is_file():
        return path.resolve()
    known = shipped()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
    raise InputError(
        f"no config '{name}'; expected a YAML file, or a config of the package; "
        f"nearest: {', '.join(near)}"
    )


def _absolute(imports: Any, folder: Path) -> list[str]:
    """Return ``imports`` of a config in ``folder``, files as absolute paths."""
    if not isinstance(imports, (list, tuple)) or not all(
        isinstance(item, str) and item for item in imports
    ):
        raise InputError(
            f"imports is {imports!r}; expected a list of modules and .py files"
        )
    return [
        str((folder / item).resolve()) if item.endswith(".py") else item
        for item in imports
    ]


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the sections of a file, laid over those of the file it includes."""
    if path in children:
        raise InputError(f"config {path} includes itself; remove one include")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read config {path}; {reason}") from error
    if not isinstance(tree, dict):
        raise InputError(f"config {path} holds no sections; expected a mapping")
    if "imports" in tree:
        tree["imports"] = _absolute(tree["imports"], path.parent)
    parent = tree.pop("include", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise InputError(f"config {path} includes {parent!r}; expected one config")
    base = _read(_located(parent, path.parent), (*children, path))
    both = [*base.get("imports", ()), *tree.get("imports", ())]
    return _merge(base, {**tree, "imports": list(dict.fromkeys(both))})


def _merge(base: dict, top: dict, *section: str) -> dict:
    """Lay ``top`` over ``base``; another part takes no options of the one before."""
    out = dict(base)
    if section and "name" in top:
        _dropped(out, section, top["name"])
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value, *section, key) if both else value
    return out


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key '{where}'; {_nearest(item['loc'])}")
        elif item["type"] == "missing":
            lines.append(f"'{where}' is missing; add it")
        else:
            lines.append(f"'{where}': {item['msg']}; found {item.get('input')!r}")
    return "config is not valid; " + "; ".join(lines)


def _nearest(loc: tuple) -> str:
    """Return what an unknown key may have meant: here, then in another section."""
    key, *path = str(loc[-1]), *loc[:-1]
    own: Iterable[str] = TrainConfig.model_fields
    if path:
        own = SECTIONS[path[0]].model_fields
    everywhere = {f: f"{n}.{f}" for n, s in SECTIONS.items() for f in s.model_fields}
    here = {name: ".".join([*path, name]) for name in own}
    for known, cutoff in ((here, 0.6), (everywhere, 0.8), (here, 0.4)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=cutoff)
        if near:
            return f"did you mean '{known[near[0]]}'?"
    return f"expected one of {', '.join(own)}"
