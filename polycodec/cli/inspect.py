# SPDX-License-Identifier: Apache-2.0
"""The commands info and verify: what a .plc file says and whether it is whole.

Neither loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from polycodec.cli import batch
from polycodec.cli.failure import printable
from polycodec.cli.options import AsJson, Files
from polycodec.cli.paths import expand
from polycodec.codecs.files.kinds import is_plc
from polycodec.codecs.files.results import readable


def info(files: Files, as_json: AsJson = False) -> None:
    """Show header, metadata, chunks, quality and rates; reads the header only."""
    from polycodec.codecs.files.container import inspect

    def work(name: str) -> tuple[str, dict[str, Any]]:
        values = {**inspect.info(batch.source_of(name)), "input": name}
        return card(values), values

    _run(files, work, as_json, "reading")


def verify(files: Files, as_json: AsJson = False) -> None:
    """Check every chunk and record; exit code 4 when a file is damaged."""
    from polycodec.codecs.files.container import inspect

    def work(name: str) -> tuple[str, dict[str, Any]]:
        values = {**inspect.verify(batch.source_of(name)), "input": name}
        counts = f"{values['chunks']} chunks, {values['records']} records"
        line = f"{name}: whole  {counts}  {readable(values['bytes'])}"
        return printable(line), values

    _run(files, work, as_json, "checking")


def _run(
    files: list[str],
    work: Callable[[str], tuple[str, dict[str, Any]]],
    as_json: bool,
    verb: str,
) -> NoReturn:
    """Do the work on all files, and all .plc files of folders."""
    found, left = expand(files, lambda p: None if is_plc(p) else "not a .plc file")
    names = [str(path) for path in found]
    batch.run(
        names, lambda k, tick: work(names[k]), as_json=as_json, verb=verb, left=left
    )


def card(values: Mapping[str, Any]) -> str:
    """Show the result of ``inspect.info`` in aligned lines."""
    geometry = dict(values["geometry"])
    sizes = values["chunk_bytes"]
    rates = [f"{values[u]:.3f} {u}" for u in ("bpp", "kbps") if u in values]
    rows = {
        "model": f"{values['model']}, digest {values['digest']}",
        values["kind"]: _geometry(geometry),
        "rate": ", ".join(
            [f"q {values['quality']:g}", *rates, readable(values["bytes"])]
        ),
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
    title = f"{values['input']}: .plc version {values['version']}"
    return "\n".join([aligned(title, rows), *_members(values.get("members", []))])


def _members(members: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each member of a set: pixels, bytes, rate and name."""
    for member in members:
        pixels = f"{member['width']}x{member['height']}"
        bits = f"{member['depth']} bit {member['colour']}"
        alpha = " alpha" if member["alpha"] else ""
        size = f"{member['bytes']} B  {member['bpp']:.3f} bpp"
        yield printable(f"    {pixels}  {bits}{alpha}  {size}  {member['name']}")


def _geometry(geometry: dict[str, Any]) -> str:
    side = ("width", "height")
    parts = []
    if all(key in geometry for key in side):
        parts.append(f"{geometry['width']}x{geometry['height']}")
    parts += [f"{k} {v}" for k, v in geometry.items() if k not in side and v]
    return ", ".join(parts)


def aligned(title: str, rows: Mapping[str, str]) -> str:
    """A title and its rows below it, their values in one column, safe to print."""
    width = max((len(key) for key in rows), default=0)
    lines = [title, *(f"  {k.ljust(width)}  {v}" for k, v in rows.items())]
    return "\n".join(map(printable, lines))
