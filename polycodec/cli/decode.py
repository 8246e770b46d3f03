# SPDX-License-Identifier: Apache-2.0
"""The command decode: .plc files back into images, videos and speech.

polycodec decode photo.plc -o back.png
polycodec decode clip.plc -o frames/%05d.png --frames 100:125
polycodec decode packed/ -o unpacked       ->  the tree of packed/, in unpacked/
"""

from __future__ import annotations

from typing import Any

from polycodec.cli import batch
from polycodec.cli import live as from_pipe
from polycodec.cli.options import AsJson, Inputs, Output, SkipExisting, flags, values_of
from polycodec.codecs.files import jobs
from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.loader import Loader
from polycodec.errors import UsageError
from polycodec.progress import Tick

_CLASSES = [kind.decode for kind in KINDS.values()]


@flags(*_CLASSES)
def decode(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    live: from_pipe.Live = False,
    model: from_pipe.LiveModel = None,
    **options: Any,
) -> None:
    """Turn .plc files back into images, videos and speech, by the suffix of OUT."""
    given = values_of(options, *_CLASSES)
    if live:
        return from_pipe.decode(inputs, output, {**given, "model": model}, as_json)
    if model:
        raise UsageError("files name their model; -m is for --live")
    format = given.pop("format", None)
    planned = jobs.decoding(inputs, output, format=format)

    loader = Loader()  # a codec serves all files that it made

    def call(job: jobs.Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files import api

        asked = format if len(planned.jobs) == 1 else None  # of many files their kind's
        return api.decode(
            source, target, codec=loader, progress=tick, format=asked, **given
        )

    batch.convert(
        planned,
        call,
        as_json=as_json,
        verb="decoding",
        force=options["force"],
        skip=skip_existing,
    )
