# SPDX-License-Identifier: Apache-2.0
"""The command bench: how fast the range coder or whole codecs are, beside others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from polycodec.cli.options import AsJson, flags, values_of
from polycodec.codecs.files.options import DeviceOptions, Options, choose, option
from polycodec.errors import UsageError
from polycodec.plainjson import to_json

REPEATS = "Calm rounds that end it; coder 12, codec 3."


@dataclass(frozen=True, kw_only=True)
class CodecBench(DeviceOptions):
    """What is asked of measuring codecs."""

    codecs: Sequence[str] | None = option(
        None, "NAME@RUN too. All unless told.", "NAME ...", short="--codec"
    )
    source: str | None = option(
        None, "Codecs: code this, in one piece.", "FILE", short="--input"
    )
    quality: float = option(
        *(50.0, "Of codecs.", "0..100"), short="-q", least=0, most=100
    )
    threads: int | None = option(None, "Codecs: of networks and coder.", "N", least=1)
    repeats: int | None = option(None, REPEATS, "K", least=1)


@dataclass(frozen=True, kw_only=True)
class CoderBench(Options):
    """What is asked of measuring the range coder."""

    symbols: int | None = option(
        None, "Coder: of each load; 491520, a photo's.", "N", least=2
    )
    repeats: int | None = option(None, REPEATS, "K", least=1)


KINDS: dict[str, type[Options]] = {"codec": CodecBench, "coder": CoderBench}


@flags(*KINDS.values())
def bench(
    what: Annotated[
        str, typer.Argument(metavar="coder|codec", help="What to measure.")
    ],
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Measure the range coder or whole codecs, beside others that are installed."""
    if what not in KINDS:
        raise UsageError(f"no benchmark is called '{what}'; expected coder or codec")
    chosen = choose(KINDS, what, values_of(options, *KINDS.values()))
    given = {k: v for k, v in vars(chosen).items() if v is not None}
    given["progress"] = partial(print, file=sys.stderr, flush=True)
    if "symbols" in given:
        given["n"] = given.pop("symbols")
    if what == "coder":
        from polycodec.eval.bench import coder
        from polycodec.eval.bench.table import bench_table

        result, table = coder.bench(**given), bench_table
    else:
        from polycodec.eval.bench import codec
        from polycodec.eval.bench.table import codec_table

        result, table = codec.bench(**given), codec_table
    print(to_json(result, indent=2) if as_json else table(result))
