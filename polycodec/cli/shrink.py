# SPDX-License-Identifier: Apache-2.0
"""The command shrink: weights at fewer bits, and what that costs.

polycodec shrink runs/mine -o small --max-loss 0.02 --data photos
polycodec shrink image/default -o small --bits 4.5
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from polycodec.cli.options import AsJson, Force
from polycodec.cli.values import parse_size
from polycodec.plainjson import to_json

Bits = Annotated[
    float | None,
    typer.Option("--bits", metavar="F", help="Bits a parameter, on average."),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", help="Of the file: 3MB, 900kB."),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        "--max-loss", metavar="LOSS", help="As small as loses no more: dB, or PESQ."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="NAME", help="Store the difference from this model only."
    ),
]


def shrink(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS", help="A model's name, a weights file, or a run's folder."
        ),
    ],
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Where it goes.")
    ],
    bits: Bits = None,
    size: Size = None,
    max_loss: MaxLoss = None,
    base: Base = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Pictures or recordings to measure the loss on."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What its card calls it.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Pack weights into fewer bits; say what is lost."""
    goal = goal_of(bits, size, max_loss, base)
    from polycodec.codecs import zoo
    from polycodec.train.shrink.run import shrink as run_shrink

    source = zoo.weights_at(weights)
    say = partial(print, file=sys.stderr, flush=True)
    card = run_shrink(
        *(source, out, goal), data=data, name=name, force=force, progress=say
    )
    if as_json:
        print(to_json(card))
    else:
        print(f"{weights} -> {Path(out) / zoo.EXPORTED}  {said(card)}")


def goal_of(
    bits: float | None, size: str | None, max_loss: float | None, base: str | None
) -> Any:
    """Make a goal of the options; UsageError unless they name one."""
    from polycodec.train.shrink.shrinker import Goal

    octets = None if size is None else parse_size(size)
    return Goal(bits=bits, size=octets, max_loss=max_loss, base=base)


def said(card: dict[str, Any]) -> str:
    """A line about a shrunk model: bytes, bits, and what was lost where it is known."""
    about = card["shrunk"]
    text = f"{card['bytes']} bytes, {about['bits']:.2f} bits a parameter"
    if "loss" in about:
        text += f", lost {about['quality']:.3f} {about['unit']} "
        text += f"and {about['percent_bits']:.2f} % of bits"
    return f"{text}, digest {card['digest'][:8]}"
