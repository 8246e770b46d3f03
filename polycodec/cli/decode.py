# SPDX-License-Identifier: Apache-2.0
"""The command decode: .plc files back into images, videos and speech.

polycodec decode photo.plc -o back.png
polycodec decode clip.plc -o frames/%05d.png --frames 100:125
polycodec decode packed/ -o unpacked       ->  the tree of packed/, in unpacked/
"""

from __future__ import annotations

import functools
from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Inputs, Output, SkipExisting, flags, values_of
from polycodec.cli.paths import Job, plan
from polycodec.codecs.files.kinds import (
    KINDS,
    is_plc,
    kind_named,
    kind_writing,
    stored_kind,
)
from polycodec.errors import UsageError
from polycodec.progress import Tick

_CLASSES = [kind.decode for kind in KINDS.values()]


@flags(*_CLASSES)
def decode(
    inputs: Inputs,
    output: Output = None,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Turn .plc files back into images, videos and speech, by the suffix of OUT."""
    given = values_of(options, *_CLASSES)
    format = given.pop("format", None)
    writes = kind_writing(f".{format}") if format else None
    if format and writes is None:
        raise UsageError(
            f"no image, video or speech is written as '{format}'; see the README"
        )

    def suffix(path: str) -> str:
        """What a file becomes unless told, by the kind of signal it holds."""
        kind = kind_named(stored_kind(path) or "image")
        return f".{format}" if kind.name == writes else kind.decoded

    planned = plan(
        inputs,
        output,
        suffix=suffix,
        refuse=_refusal,
        made=lambda name: not is_plc(name) and kind_writing(name) is not None,
    )

    @functools.cache
    def codec(name: str, digest: str) -> Any:
        from polycodec.codecs import zoo

        return zoo.load(
            name,
            options["device"],
            checkpoint=options["checkpoint"],
            digest=bytes.fromhex(digest),
        )

    def call(job: Job, source: batch.Ends, target: batch.Ends, tick: Tick) -> Any:
        from polycodec.codecs.files import api
        from polycodec.codecs.files.container.inspect import info

        if len(planned.jobs) == 1:
            return api.decode(source, target, progress=tick, format=format, **given)
        header = info(source)  # each codec is loaded only once
        if not isinstance(source, str):
            source.seek(0)
        loaded = codec(header["model"], header["digest"])
        return api.decode(source, target, codec=loaded, progress=tick, **given)

    batch.convert(
        planned,
        call,
        as_json=as_json,
        verb="decoding",
        force=options["force"],
        skip=skip_existing,
    )


def _refusal(path: str) -> str | None:
    """Why a file of a folder is not decoded."""
    if stored_kind(path) == "set":
        return "a set: see polycodec unpack"
    return None if is_plc(path) else "not a .plc file"
