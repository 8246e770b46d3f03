# SPDX-License-Identifier: Apache-2.0
"""The command bench: how fast the range coder or whole codecs are, beside others."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Annotated, Any

import typer

from polycodec.cli.options import AsJson, Device, Quality
from polycodec.cli.values import check_device, check_quality, only
from polycodec.errors import UsageError

BenchCodecs = Annotated[
    list[str] | None,
    typer.Option("--codec", metavar="NAME...", help="NAME@RUN too. All unless told."),
]
BenchInput = Annotated[
    str | None,
    typer.Option("--input", metavar="FILE", help="Codecs: code this, in one piece."),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Codecs: of networks and coder.")
]
Symbols = Annotated[
    int | None,
    typer.Option(metavar="N", help="Coder: of each load; 491520, a photo's."),
]
Repeats = Annotated[
    int | None,
    typer.Option(metavar="K", help="Calm rounds that end it; coder 12, codec 3."),
]


def bench(
    what: Annotated[
        str, typer.Argument(metavar="coder|codec", help="What to measure.")
    ],
    codec: BenchCodecs = None,
    source: BenchInput = None,
    quality: Quality = None,
    device: Device = "auto",
    threads: Threads = None,
    symbols: Symbols = None,
    repeats: Repeats = None,
    as_json: AsJson = False,
) -> None:
    """Measure the range coder or whole codecs, beside others that are installed."""
    check_device(device)
    check_quality(quality)
    options: dict[str, Any] = {"codec": codec, "input": source, "quality": quality}
    options |= {"device": None if device == "auto" else device, "threads": threads}
    say = partial(print, file=sys.stderr, flush=True)
    if what == "coder":
        only("bench codec", options)
        from polycodec.eval.bench.coder import SYMBOLS
        from polycodec.eval.bench.coder import bench as run_coder
        from polycodec.eval.bench.table import bench_table as table

        symbols = SYMBOLS if symbols is None else symbols
        result = run_coder(symbols, 12 if repeats is None else repeats, say)
    elif what == "codec":
        only("bench coder", {"symbols": symbols})
        from polycodec.eval.bench.codec import bench as run_codec
        from polycodec.eval.bench.table import codec_table as table

        result = run_codec(
            codec,
            device=device,
            source=source,
            quality=50.0 if quality is None else quality,
            threads=threads,
            repeats=3 if repeats is None else repeats,
            progress=say,
        )
    else:
        raise UsageError(f"no benchmark is called '{what}'; expected coder or codec")
    print(json.dumps(result, indent=2) if as_json else table(result))
