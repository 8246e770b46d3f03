# SPDX-License-Identifier: Apache-2.0
"""The commands models, parts and schema: what there is to code, build and train with.

polycodec parts transform          transform/residual  from the package
                                     widths: Sequence[int] = (128, 192, 256)
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from polycodec.cli.inspect import aligned
from polycodec.cli.options import AsJson
from polycodec.plainjson import to_json


def models(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Folders of exported runs, listed too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that ship with the package, are installed, or lie in RUN."""
    from polycodec.codecs import zoo

    cards = zoo.models() + [zoo.card_of_run(run) for run in runs or []]
    if as_json:
        print(to_json(cards, indent=2))
    elif cards:
        print("\n\n".join(model_card(values) for values in cards))
    else:
        print("no weights ship with this build; use encode --checkpoint RUN")


def parts(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="Such as transform, transform/conv; all unless told."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the parts that configs can name: options, defaults, where they come from."""
    from polycodec import registry

    if kind and "/" in kind:
        found = [part_of(kind, registry.find(kind))]
    else:
        kinds = registry.KINDS if kind is None else (kind,)
        found = [one for k in kinds for one in _of_kind(k)]
    if as_json:
        print(to_json(found, indent=2))
        return
    for part in found:
        print(f"{part['name']}  {part['from']}")
        for option in part["options"]:
            default = "" if option["required"] else f" = {option['default']}"
            print(f"    {option['name']}: {option['type']}{default}")


def _of_kind(kind: str) -> list[dict[str, Any]]:
    from polycodec import registry

    every = [(name, [registry.find(name)]) for name in registry.names(f"{kind}/*")]
    every += registry.rivals(f"{kind}/*").items()
    return [part_of(name, target) for name, targets in every for target in targets]


def part_of(name: str, target: Callable[..., Any]) -> dict[str, Any]:
    """Describe a registered part with plain values, fit for JSON."""
    known = inspect.signature(target).parameters.values()
    options = [p for p in known if p.kind != p.VAR_KEYWORD]
    return {
        "name": name,
        "from": origin_of(target),
        "options": [
            {
                "name": option.name,
                "type": _type(option.annotation),
                "default": None if option.default is option.empty else option.default,
                "required": option.default is option.empty,
            }
            for option in options
        ],
    }


def origin_of(target: Callable[..., Any]) -> str:
    """Say where a part comes from: the package, an entry point, a file, a module."""
    # Loading it takes a fifth of the time of --help.
    from importlib.metadata import entry_points

    from polycodec import registry

    module = target.__module__
    if module.startswith("polycodec."):
        return "the package"
    for point in entry_points(group=registry.GROUP):
        if module == point.module or module.startswith(f"{point.module}."):
            return f"the entry point {point.name}"
    file = inspect.getsourcefile(inspect.unwrap(target))
    return f"the module {module}" if file is None else str(Path(os.path.relpath(file)))


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    return (
        annotation
        if isinstance(annotation, str)
        else inspect.formatannotation(annotation)
    )


def schema() -> None:
    """Print the JSON schema of a training config, for editors."""
    from polycodec.train.schema import json_schema

    print(to_json(json_schema(), indent=2))


def model_card(values: Mapping[str, Any]) -> str:
    """Show one model's card: its name, then every plain value it states."""
    plain = (str, int, float)
    rows = {
        key: f"{value:,}" if isinstance(value, int) else str(value)
        for key, value in values.items()
        if key != "name" and isinstance(value, plain)
    }
    return aligned(str(values["name"]), rows)
