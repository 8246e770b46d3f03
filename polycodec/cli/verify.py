# SPDX-License-Identifier: Apache-2.0
"""The command verify: is a .plc file whole? Loads no torch."""

from __future__ import annotations

from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Files
from polycodec.progress import Tick


def verify(files: Files, as_json: AsJson = False) -> None:
    """Check every chunk and record; exit code 4 when a file is damaged."""
    from polycodec.codecs.files.container import inspect
    from polycodec.codecs.files.results import readable

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.verify(batch.source_of(files[k]))
        counts = f"{values['chunks']} chunks, {values['records']} records"
        return f"{files[k]}: whole  {counts}  {readable(values['bytes'])}", values

    batch.run(files, work, as_json=as_json, verb="checking")
