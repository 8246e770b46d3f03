# SPDX-License-Identifier: Apache-2.0
"""The commands pack and unpack: many images in one file, and out of it.

polycodec pack icons/ -o icons.plc -q 40
polycodec info icons.plc                          names, sizes, bits
polycodec unpack icons.plc -o back --only 'b/*.png'
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import typer

from polycodec.cli import batch
from polycodec.cli.failure import printable
from polycodec.cli.options import AsJson, Inputs, SkipExisting, flags, values_of
from polycodec.codecs.files.jobs import STREAM
from polycodec.codecs.files.sets.options import PackOptions, UnpackOptions
from polycodec.errors import CodecError, InputError, UsageError
from polycodec.progress import Tick

_FAILED = 20  # images that are told one by one


@flags(PackOptions)
def pack(
    inputs: Inputs,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The file.")
    ],
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Code many images into one .plc file; each is reached alone."""
    given = values_of(options, PackOptions)
    if STREAM in inputs:
        raise UsageError("'-' is one stream; found a set; name a folder, or files")
    streams = output == STREAM
    if streams and sys.stdout.isatty():
        raise UsageError("standard output is a terminal; name a file with -o or use >")
    failed: dict[str, str] = {}

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        from polycodec.codecs.files.sets import pack as packing

        target: str | BinaryIO = sys.stdout.buffer if streams else output
        result = packing.pack(inputs, target, progress=tick, **given)
        result.input, result.output = ", ".join(inputs[:3]), output
        if len(inputs) > 3:
            result.input += f" and {len(inputs) - 3} more"
        batch.tell_left(result.left, as_json, streams)
        for note in result.notes:
            print(printable(f"polycodec: {note}"), file=sys.stderr)
        failed.update(result.failed)
        return printable(result.line()), result.as_dict()

    with contextlib.suppress(typer.Exit):
        batch.run([inputs[0]], work, as_json=as_json, verb="packing", aside=streams)
    if failed:
        told = "".join(f"\n  {n}: {m}" for n, m in list(failed.items())[:_FAILED])
        more = f"\n  and {len(failed) - _FAILED} more" if len(failed) > _FAILED else ""
        text = f"{len(failed)} images could not be read; the others are packed:"
        print(f"polycodec: error: {text}{told}{more}", file=sys.stderr)
        raise typer.Exit(InputError.exit_code)


@flags(UnpackOptions)
def unpack(
    input: Annotated[
        str, typer.Argument(metavar="SET", help="A set; - is standard input.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Where to. [default: beside SET]"
        ),
    ] = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Take the images of a set out of it, all or those that --only names."""
    given = values_of(options, UnpackOptions)
    from polycodec.codecs.files.sets.unpack import Unpacking
    from polycodec.codecs.files.sources import opened, seekable

    source = batch.source_of(input)
    with opened(seekable(source)) as file:
        chosen = UnpackOptions(**given)
        unpacking = Unpacking(file, source, output, chosen, None)
        for note in unpacking.notes:
            print(printable(f"polycodec: {input}: {note}"), file=sys.stderr)
        left = unpacking.leave_existing() if skip_existing else {}
        unpacking.codec()  # that of all members: without it no one comes out
        done: Iterator[Any] = unpacking.run()

        def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
            name, outcome = next(done)
            if isinstance(outcome, CodecError):
                raise outcome
            for note in outcome.notes:
                print(printable(f"polycodec: {name}: {note}"), file=sys.stderr)
            return printable(outcome.line()), outcome.as_dict()

        batch.run(unpacking.wanted, work, as_json=as_json, verb="unpacking", left=left)
