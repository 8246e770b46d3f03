# SPDX-License-Identifier: Apache-2.0
"""JSON schema of a training config for editors: its sections, and every part.

    codec:       name: one of codec/*; its options with types and defaults
      entropy:   a part within it: the same, of the kind that its key says
    optim:       name: one of optimizer/*; options: of that optimizer
    task, recipe                        one of task/*, recipe/*

What a name allows is an `if … then` beside it, which editors follow while one types.
"""

from __future__ import annotations

import inspect
import typing
from typing import Any

from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from polycodec.registry import KINDS, find, names, options_of
from polycodec.train.config import TrainConfig
from polycodec.train.sections import GIVEN

# Kinds that are a section, or a value, of a config; all others stand within a codec.
_OTHERS = {"codec", "optimizer", "task", "recipe"}
WITHIN = tuple(kind for kind in KINDS if kind not in _OTHERS)


def json_schema() -> dict[str, Any]:
    """JSON schema of a training config; imports every part there is."""
    schema = TrainConfig.model_json_schema()
    defs, top = schema["$defs"], schema["properties"]
    for kind in WITHIN:
        defs[kind] = _choice(kind)
    codec = _choice("codec")
    codec["description"] = defs["CodecSection"]["description"]
    codec["properties"]["name"]["default"] = "latent"
    defs["CodecSection"] = codec
    optim = defs["OptimSection"]
    optim["properties"]["name"]["enum"] = _known("optimizer")
    optim["allOf"] = [
        _branch(name, {"options": _options(f"optimizer/{name}", without=GIVEN)})
        for name in _known("optimizer")
    ]
    for kind in ("task", "recipe"):
        top[kind]["anyOf"][0]["enum"] = _known(kind)
    return schema


def _known(kind: str) -> list[str]:
    return [name.partition("/")[2] for name in names(f"{kind}/*")]


def _choice(kind: str) -> dict[str, Any]:
    """A mapping whose ``name`` is a part of some kind, and decides its options."""
    known = _known(kind)
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": known}},
        "allOf": [_branch(name, _options(f"{kind}/{name}")) for name in known],
    }


def _branch(name: str, then: dict[str, Any]) -> dict[str, Any]:
    chosen = {"properties": {"name": {"const": name}}, "required": ["name"]}
    if "type" not in then:
        return {"if": chosen, "then": {"properties": then}}
    properties = {"name": {}, **then["properties"]}
    return {"if": chosen, "then": {**then, "properties": properties}}


def _options(part: str, without: typing.Collection[str] = ()) -> dict[str, Any]:
    """An object of a part's options, with their types and defaults."""
    target, options = find(part), options_of(part)
    built = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(built)
    except (NameError, TypeError):  # annotations of names that exist for checkers only
        hints = {}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in options.values())
    properties = {
        name: _option(name, hints.get(name, Any), p.default)
        for name, p in options.items()
        if name not in without and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": open_ended,
    }


def _option(name: str, annotation: Any, default: Any) -> dict[str, Any]:
    """One option: a part where its name is a kind, else by its annotation."""
    if name in WITHIN:
        return {"$ref": f"#/$defs/{name}"}
    try:
        schema = TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # a type that no config can hold
        schema = {}
    if default is not inspect.Parameter.empty:
        try:
            schema["default"] = to_jsonable_python(default)
        except PydanticSerializationError:
            return schema
    return schema
