# SPDX-License-Identifier: Apache-2.0
"""The command export: a codec of a training run, in its folder or for this user.

polycodec export runs/mine --install image/mine
polycodec export runs/mine --max-loss 0.02        packed: a fraction of the bytes
polycodec export net.pth.tar --compressai mbt2018-mean --install image/mbt
polycodec encode photo.png -m image/mine        its files decode by that name
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polycodec.cli.options import AsJson, Force
from polycodec.cli.shrink import Base, Bits, MaxLoss, Size, goal_of, said
from polycodec.errors import UsageError
from polycodec.plainjson import to_json

if TYPE_CHECKING:
    from polycodec.train.shrink.shrinker import Goal


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A training run's folder; or a checkpoint of CompressAI's, a file.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="RUN itself unless told; of a file, its name without suffixes.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What its card calls it.")
    ] = None,
    install: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME]", help="Keep it for this user: -m NAME, decoding by name."
        ),
    ] = None,
    compressai: Annotated[
        str | None,
        typer.Option(
            metavar="ARCH", help="RUN is a checkpoint of this architecture of its zoo."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Where the run's own signals lie now, if they moved."
        ),
    ] = None,
    bits: Bits = None,
    size: Size = None,
    max_loss: MaxLoss = None,
    base: Base = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a codec of a checkpoint: freeze tables, certify, check."""
    from polycodec.codecs import zoo

    wanted = any(v is not None for v in (bits, size, max_loss, base))
    goal = goal_of(bits, size, max_loss, base) if wanted else None

    name = name or install or None
    if base is not None:  # now, not after the long work
        zoo.weights_of(base)
    check = partial(zoo.check_install, base=base, force=force)
    named = None if install is None else check
    made = _exported if compressai is None else partial(_adopted, compressai)
    folder, card = made(run, out, name, data, goal, named)
    weights = folder / zoo.EXPORTED
    if install is not None:
        weights = zoo.install(weights, force=force)
    if as_json:
        print(to_json(card))
    else:
        about = said(card) if "shrunk" in card else f"digest {card['digest'][:8]}"
        print(f"{run} -> {weights}  {about}")


# Hears what the card will say, the name and the kind of signal, and may refuse.
Named = Callable[[str, str | None], None] | None


def _exported(
    run: str,
    out: str | None,
    name: str | None,
    data: str | None,
    goal: Goal | None,
    named: Named,
) -> tuple[Path, dict[str, Any]]:
    """A training run's codec, packed if there is a goal: its folder and card."""
    from polycodec.train.export import export as run_export
    from polycodec.train.shrink.run import packing

    say = partial(print, file=sys.stderr, flush=True)
    after = None if goal is None else packing(goal)
    card = run_export(
        *(run, out), name=name, data=data, named=named, after=after, progress=say
    )
    return Path(out or run), card


def _adopted(
    architecture: str,
    run: str,
    out: str | None,
    name: str | None,
    data: str | None,
    goal: Goal | None,
    named: Named,
) -> tuple[Path, dict[str, Any]]:
    """The codec of a checkpoint of CompressAI's: its folder and card."""
    from polycodec.codecs.families.adopted import adopt

    if data is not None:
        raise UsageError(
            "a checkpoint of CompressAI's is taken as it is, no signals are needed; "
            "leave --data out"
        )
    if name and named is not None:
        named(name, None)
    if goal is not None:
        raise UsageError(
            "a checkpoint of CompressAI's is packed in a second step; leave out "
            "--bits, --size, --max-loss and --base, and shrink what it made"
        )
    source = Path(run)
    folder = Path(out or source.with_name(source.name.partition(".")[0]))
    return folder, adopt(architecture, source, folder, name=name)


def optional_name(args: list[str]) -> list[str]:
    """Give ``--install`` an empty value where it stands alone: the parser wants one."""
    result = list(args)
    for k in [k for k, arg in enumerate(args) if arg == "--install"]:
        follower = args[k + 1 : k + 2]
        if not follower or follower[0].startswith("-"):
            result[k] = "--install="
    return result
