# SPDX-License-Identifier: Apache-2.0
"""The command eval: codecs beside JPEG, WebP, AVIF and others; speech beside Opus."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from polycodec.cli.options import AsJson, flags, values_of
from polycodec.eval.options import EvalOptions


@flags(EvalOptions)
def evaluate(
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="For the report.")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="kodak|speech|DIR|FILES",
            help="What to measure on. [default: kodak]",
        ),
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Measure codecs beside JPEG, WebP, AVIF and others; of speech, beside Opus.

    The report names processor, versions and this command; equal measurements that its
    folder holds already are not made again.
    """
    given = values_of(options, EvalOptions)
    chosen = dataset or ["kodak"]
    from polycodec.eval.run import evaluate as run

    given["command"] = shlex.join(["polycodec", *context.obj])
    result = run(chosen[0] if len(chosen) == 1 else chosen, out=output, **given)
    text = (Path(output) / "run.json").read_text("utf-8").rstrip()
    print(text if as_json else result.summary())
