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

import functools
from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Inputs, Output, SkipExisting, flags, values_of
from polycodec.cli.paths import Job, plan
from polycodec.codecs.files.kinds import (
    KINDS,
    kind_called,
    kind_of,
    recognised,
    stored_kind,
)
from polycodec.errors import ModelError, UsageError
from polycodec.progress import Tick

_CLASSES = [kind.encode for kind in KINDS.values()]


@flags(*_CLASSES)
def encode(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Code images, videos and speech into .plc files."""
    given = values_of(options, *_CLASSES)
    called = options["as_"]
    planned = plan(
        inputs,
        output,
        suffix=".plc",
        refuse=_refusal,
        made=_is_plc,
        whole=called == "video",
    )

    @functools.cache
    def codec(name: str) -> Any:
        from polycodec.codecs import zoo

        checkpoint = options["checkpoint"]
        return zoo.load(name, options["device"], checkpoint=checkpoint)

    def call(job: Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files import api

        loaded = None
        if len(planned.jobs) > 1:  # one codec serves all files of a kind
            kind = kind_called(called) if called else kind_of(source)
            loaded = codec(options["model"] or KINDS[kind].model)
        return api.encode(source, target, codec=loaded, progress=tick, **given)

    batch.convert(
        planned,
        call,
        as_json=as_json,
        verb="encoding",
        force=options["force"],
        skip=skip_existing,
        fatal=(UsageError, ModelError),
    )


def _refusal(path: str) -> str | None:
    """Why a file of a folder is not encoded."""
    if stored_kind(path) is not None:
        return "a .plc file already"
    return None if recognised(path) else "no image, no video and no speech"


def _is_plc(name: str) -> bool:
    return name.lower().endswith(".plc") or stored_kind(name) is not None
