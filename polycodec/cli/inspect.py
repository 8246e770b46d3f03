# SPDX-License-Identifier: Apache-2.0
"""The commands info and verify: what a .plc file says and whether it is whole.

Neither loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polycodec.cli import batch
from polycodec.cli.options import AsJson, Files
from polycodec.codecs.files.results import readable
from polycodec.progress import Tick


def info(files: Files, as_json: AsJson = False) -> None:
    """Show header, metadata, chunks and rates; reads the header only."""
    from polycodec.codecs.files.container import inspect

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.info(batch.source_of(files[k]))
        return card(values), values

    batch.run(files, work, as_json=as_json, verb="reading")


def verify(files: Files, as_json: AsJson = False) -> None:
    """Check every chunk and record; exit code 4 when a file is damaged."""
    from polycodec.codecs.files.container import inspect

    def work(k: int, tick: Tick) -> tuple[str, dict[str, Any]]:
        values = inspect.verify(batch.source_of(files[k]))
        counts = f"{values['chunks']} chunks, {values['records']} records"
        return f"{files[k]}: whole  {counts}  {readable(values['bytes'])}", values

    batch.run(files, work, as_json=as_json, verb="checking")


def card(values: Mapping[str, Any]) -> str:
    """Show the result of ``inspect.info`` in aligned lines."""
    geometry = dict(values["geometry"])
    sizes = values["chunk_bytes"]
    rates = [f"{values[u]:.3f} {u}" for u in ("bpp", "kbps") if u in values]
    rows = {
        "model": f"{values['model']}, digest {values['digest']}",
        values["kind"]: _geometry(geometry),
        "rate": ", ".join([*rates, readable(values["bytes"])]),
        "header": readable(values["header_bytes"]),
        "records": ", ".join(
            f"{r['type']} {readable(r['stored_bytes'])}" for r in values["records"]
        )
        or "none",
        "chunks": f"{values['chunks']}, {readable(sum(sizes))} in all",
    }
    if len(sizes) > 1:
        small, large = readable(min(sizes)), readable(max(sizes))
        rows["chunks"] += f", {small} to {large} each"
    return aligned(f"{values['input']}: .plc version {values['version']}", rows)


def _geometry(geometry: dict[str, Any]) -> str:
    side = ("width", "height")
    parts = []
    if all(key in geometry for key in side):
        parts.append(f"{geometry['width']}x{geometry['height']}")
    parts += [f"{k} {v}" for k, v in geometry.items() if k not in side and v]
    return ", ".join(parts)


def aligned(title: str, rows: Mapping[str, str]) -> str:
    width = max((len(key) for key in rows), default=0)
    return "\n".join([title, *(f"  {k.ljust(width)}  {v}" for k, v in rows.items())])
