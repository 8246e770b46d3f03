# SPDX-License-Identifier: Apache-2.0
"""The commands about models: models, train, export, eval, bench, schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from polycodec.cli.options import (
    Anchors,
    AsJson,
    BenchCodecs,
    BenchInput,
    Checkpoint,
    Codecs,
    Data,
    Dataset,
    Device,
    Limit,
    Measures,
    Published,
    PublishedIds,
    Qualities,
    Quality,
    Reference,
    Repeats,
    Report,
    Reuse,
    Show,
    Symbols,
    TargetBpps,
    TargetRates,
    Threads,
)
from polycodec.cli.values import check_device, check_quality
from polycodec.errors import UsageError


def models(as_json: AsJson = False) -> None:
    """List the models that ship with the package."""
    from polycodec.cli.card import model_card
    from polycodec.codecs import zoo

    cards = zoo.models()
    if as_json:
        print(json.dumps(cards, indent=2))
    elif cards:
        print("\n\n".join(model_card(values) for values in cards))
    else:
        print("no weights ship with this build; use encode --checkpoint RUN")


def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="section.key=value", help="Replace its values."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
) -> None:
    """Train a codec; the run's folder is run.out of the config."""
    from polycodec.train.config import load_config

    checked = load_config(config, overrides or [])
    from polycodec.train.loop import Trainer

    Trainer(checked, resume=resume).train()


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A training run's folder.")],
    out: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="RUN itself unless told."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What its card calls it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a codec of a checkpoint: freeze tables, certify, check."""
    from polycodec.train.export import WEIGHTS
    from polycodec.train.export import export as run_export

    say = partial(print, file=sys.stderr, flush=True)
    card = run_export(run, out, name=name, progress=say)
    if as_json:
        print(json.dumps(card))
    else:
        print(f"{run} -> {Path(out or run) / WEIGHTS}  digest {card['digest'][:8]}")


def schema() -> None:
    """Print the JSON schema of a training config, for editors."""
    from polycodec.train.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


def evaluate(
    out: Report,
    dataset: Dataset = None,
    codec: Codecs = None,
    anchors: Anchors = None,
    qualities: Qualities = None,
    target_bpp: TargetBpps = None,
    target_kbps: TargetRates = None,
    measures: Measures = None,
    reference: Reference = None,
    published: Published = None,
    published_ids: PublishedIds = None,
    show: Show = None,
    reuse: Reuse = None,
    data: Data = None,
    limit: Limit = None,
    device: Device = "auto",
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """Measure codecs beside JPEG, WebP, AVIF and others; of speech, beside Opus."""
    check_device(device)
    chosen = dataset or ["kodak"]
    from polycodec.eval.run import evaluate as run

    result = run(
        chosen[0] if len(chosen) == 1 else chosen,
        out=out,
        codecs=codec,
        anchors=_words(anchors),
        qualities=_numbers(qualities),
        target_bpp=_numbers(target_bpp),
        target_kbps=_numbers(target_kbps),
        measures=_words(measures),
        reference=reference,
        published=published,
        published_ids=_words(published_ids),
        show=show,
        reuse=reuse or (),
        data=data,
        limit=limit,
        device=device,
        checkpoint=checkpoint,
    )
    text = (Path(out) / "run.json").read_text("utf-8").rstrip()
    print(text if as_json else result.summary())


def _only(kind: str, options: dict[str, Any]) -> None:
    """Refuse options that are for another ``kind`` of work than this one."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is for {kind}, which this is not; leave "
            "it out"
        )


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
        _only("bench codec", options)
        from polycodec.eval.bench.coder import SYMBOLS
        from polycodec.eval.bench.coder import bench as run_coder
        from polycodec.eval.bench.table import bench_table as table

        symbols = SYMBOLS if symbols is None else symbols
        result = run_coder(symbols, 12 if repeats is None else repeats, say)
    elif what == "codec":
        _only("bench coder", {"symbols": symbols})
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


def spread(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Turn `--codec a b` into `--codec a --codec b`, as the parser wants it."""
    result: list[str] = []
    current: str | None = None
    for arg in args:
        if arg.startswith("-"):
            current, first = (arg, True) if arg in options else (None, True)
            result.append(arg)
        elif current is None or first:
            result.append(arg)
            first = False
        else:
            result += [current, arg]
    return result


def _words(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"'{text}' is no list of numbers; expected for example 10,50,90"
        ) from None
