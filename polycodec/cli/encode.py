# SPDX-License-Identifier: Apache-2.0
"""The command encode: images, videos and speech into .plc files.

    polycodec encode photo.png -q 60           ->  photo.plc
    polycodec encode clip.mp4 --audio none     ->  clip.plc
    polycodec encode talk.flac --target-kbps 3 ->  talk.plc
    polycodec encode frames/ --as video        ->  frames.plc
    polycodec encode photos/ -o packed         ->  the tree of photos/, in packed/
    cat photo.png | polycodec encode - > photo.plc

torch is loaded when the first file is really coded, not before: a wrong path or a
wrong option is answered at once.
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

_CLASSES = [kind.encode for kind in KINDS.values()]


@flags(*_CLASSES)
def encode(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    live: from_pipe.Live = False,
    packet: from_pipe.PacketFrames = 1,
    **options: Any,
) -> None:
    """Code images, videos and speech into .plc files."""
    given = values_of(options, *_CLASSES)
    if live:
        return from_pipe.encode(inputs, output, given, packet, as_json)
    if packet != 1:
        raise UsageError("files have no packets; --packet is for --live")
    planned = jobs.encoding(inputs, output, whole=options["as_"] == "video")

    loader = Loader()  # one codec serves all files of a kind

    def call(job: jobs.Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files import api

        return api.encode(source, target, codec=loader, progress=tick, **given)

    force = options["force"] or options["resume"]  # then `api.encode` looks
    batch.encode(planned, call, as_json=as_json, force=force, skip=skip_existing)
