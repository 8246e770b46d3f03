# SPDX-License-Identifier: Apache-2.0
"""The command parts: what configs can name, with options and where it comes from.

polycodec parts transform          transform/residual  from the package
                                     widths: Sequence[int] = (128, 192, 256)
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from polycodec.cli.options import AsJson


def parts(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="Such as transform; all unless told."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the parts that configs can name: options, defaults, where they come from."""
    from polycodec import registry

    kinds = registry.KINDS if kind is None else (kind,)
    found = [part_of(name) for k in kinds for name in registry.names(f"{k}/*")]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for part in found:
        print(f"{part['name']}  {part['from']}")
        for option in part["options"]:
            default = "" if option["required"] else f" = {option['default']}"
            print(f"    {option['name']}: {option['type']}{default}")


def part_of(name: str) -> dict[str, Any]:
    """Describe a registered part with plain values, fit for JSON."""
    from polycodec import registry

    target = registry.find(name)
    options = [p for p in registry.options_of(name).values() if p.kind != p.VAR_KEYWORD]
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
