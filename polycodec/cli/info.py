# SPDX-License-Identifier: Apache-2.0
"""The command info: what the header of a .plc file says; loads no torch."""

from __future__ import annotations

from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Files
from polycodec.progress import Tick


def info(files: Files, as_json: AsJson = False) -> None:
    """Show header, metadata, chunks and rates; reads the header only."""
    from polycodec.cli.card import card
    from polycodec.codecs.files.container import inspect

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.info(batch.source_of(files[k]))
        return card(values), values

    batch.run(files, work, as_json=as_json, verb="reading")
