# SPDX-License-Identifier: Apache-2.0
"""A training run as data: YAML in, checked models out.

Sections of one level each: `codec, data, optim, run, eval`, and for speech `loss,
stages, adversary` (`train.sections`). Values only; names look up the registry.
`include: other.yaml` takes one parent. Overrides from the command line are
`section.key=value` and pass through the same checks. An unknown key is an error that
names the nearest one. `json_schema()` exports what is allowed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from polycodec.errors import InputError, UsageError
from polycodec.train.sections import TrainConfig


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, its parent if it includes one, and apply overrides."""
    tree = _read(Path(path))
    for item in overrides:
        _override(tree, item)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> TrainConfig:
    """Check a plain dictionary; errors say the key and the nearest known one."""
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def json_schema() -> dict[str, Any]:
    """JSON schema of a training config, for editors."""
    return TrainConfig.model_json_schema()


class _Loader(yaml.SafeLoader):
    """YAML whose 1e-3 is a number, as in YAML 1.2; PyYAML reads it as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def _override(tree: dict[str, Any], item: str) -> None:
    """Put the value of ``section.key=value`` into the tree."""
    key, separator, value = item.partition("=")
    parts = key.split(".")
    if not separator or len(parts) < 2 or not all(parts):
        raise UsageError(f"override '{item}'; expected section.key=value")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UsageError(f"override '{item}'; '{part}' is a value, not a section")
    try:
        node[parts[-1]] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"override '{item}'; {value!r} is no YAML value") from error


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of a file, laid over those of the file it includes."""
    path = path.resolve()
    if path in children:
        raise InputError(f"config {path} includes itself; remove one include")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot read config {path}; {reason}") from error
    if not isinstance(tree, dict):
        raise InputError(f"config {path} holds no sections; expected a mapping")
    parent = tree.pop("include", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise InputError(f"config {path} includes {parent!r}; expected one file name")
    return _merge(_read(path.parent / parent, (*children, path)), tree)


def _merge(base: dict, top: dict) -> dict:
    out = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
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
    """What an unknown key may have meant: here first, then in another section."""
    sections = {k: v.annotation for k, v in TrainConfig.model_fields.items()}
    key, *path = str(loc[-1]), *loc[:-1]
    own = sections[path[0]].model_fields if path else sections
    everywhere = {f: f"{n}.{f}" for n, s in sections.items() for f in s.model_fields}
    here = {name: ".".join([*path, name]) for name in own}
    for known, cutoff in ((here, 0.6), (everywhere, 0.8), (here, 0.4)):
        near = difflib.get_close_matches(key, known, n=1, cutoff=cutoff)
        if near:
            return f"did you mean '{known[near[0]]}'?"
    return f"expected one of {', '.join(own)}"
