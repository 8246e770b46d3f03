# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and options made of the dataclasses of a kind.

    @flags(ImageEncode, SpeechEncode)         every field becomes an option: its name,
    def encode(inputs: Inputs, **options):    type, default and help
        given = values_of(options)            as Python's functions want them

What only one command has stands beside that command.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from polycodec.cli.values import FORMS
from polycodec.codecs.files.options import (
    FileOptions,
    Options,
    check,
    merged,
    parameters,
    spelt,
)

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="IN", help="Files or folders; - is standard input."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="OUT", help="File, folder, or - for standard output."
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out what is there already.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON in place of text.")]
Files = Annotated[
    list[str],
    typer.Argument(metavar="IN", help=".plc files or folders; - is standard input."),
]

F = typing.TypeVar("F", bound=Callable[..., None])


def flags(*classes: type[Options]) -> Callable[[F], F]:
    """Give a command the options that the fields of ``classes`` are."""
    known = merged(classes)

    def add(command: F) -> F:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        more = [
            p.replace(annotation=_annotated(p, known[p.name].metadata))
            for p in parameters(classes).values()
            if known[p.name].metadata["help"]  # without: of Python alone
        ]
        common = merged([FileOptions])  # device and the like, at the end of --help
        more.sort(key=lambda parameter: parameter.name in common)
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *more]
        )
        return command

    return add


def values_of(options: Mapping[str, Any], *classes: type[Options]) -> dict[str, Any]:
    """Read what was given, without what was not; UsageError for what cannot be."""
    known = merged(classes)
    given = {k: v for k, v in options.items() if v not in (known[k].default, [])}
    for name, value in given.items():
        form = known[name].metadata["form"]
        if form in FORMS:
            given[name] = FORMS[form](value)
    check(known, given)
    return given


def _annotated(parameter: inspect.Parameter, about: Mapping[str, Any]) -> Any:
    """The type that the parser reads, and the option's names, form and help."""
    kind = parameter.annotation
    if (about["form"] or "").endswith(" ..."):
        kind = list[str] | None
    elif about["form"] in FORMS or kind == str | types.NoneType or "Path" in str(kind):
        kind = str | None
    name = f"--{spelt(parameter.name)}"
    names = [name, about["short"]] if about["short"] else [name]
    return Annotated[
        kind, typer.Option(*names, metavar=about["form"], help=about["help"])
    ]
