# SPDX-License-Identifier: Apache-2.0
"""The command decode: .plc files back into images and speech.

polycodec decode photo.plc -o back.png
polycodec decode packed/ -o unpacked       ->  the tree of packed/, in unpacked/
"""

from __future__ import annotations

import functools
from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Inputs, Output, flags, values_of
from polycodec.cli.paths import Job, plan
from polycodec.codecs.files.kinds import KINDS, stored_kind
from polycodec.progress import Tick

_CLASSES = [kind.decode for kind in KINDS.values()]


@flags(*_CLASSES)
def decode(
    inputs: Inputs, output: Output = None, as_json: AsJson = False, **options: Any
) -> None:
    """Turn .plc files back into images and speech, the format by the suffix of OUT."""
    given = values_of(options, *_CLASSES)
    jobs = plan(inputs, output, suffix=_suffix, accept=(".plc",))

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

        loaded = None
        if len(jobs) > 1:  # each codec is loaded only once
            header = info(job.input)
            loaded = codec(header["model"], header["digest"])
        return api.decode(source, target, codec=loaded, progress=tick, **given)

    force = options["force"]
    batch.convert(jobs, call, as_json=as_json, verb="decoding", force=force)


def _suffix(path: str) -> str:
    """What a .plc file becomes unless told, by the kind of signal it holds."""
    return KINDS[stored_kind(path) or "image"].decoded
