# SPDX-License-Identifier: Apache-2.0
"""The commands info and verify: what a .plc file says and whether it is whole.

Neither loads torch, but for the map of a picture's codes, which has to be decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from polycodec.cli import batch
from polycodec.cli.failure import printable
from polycodec.cli.options import AsJson, Files, Force
from polycodec.codecs.files.folders import expand
from polycodec.codecs.files.kinds import is_plc
from polycodec.codecs.files.results import readable
from polycodec.errors import UsageError

WithMap = Annotated[
    bool, typer.Option("--map", help="Codes of each cell, of pictures of tokens.")
]
Plot = Annotated[
    str | None, typer.Option("--plot", metavar="PNG", help="The same as a picture.")
]
Checkpoint = Annotated[
    str | None, typer.Option("--checkpoint", metavar="RUN", help="Weights for --map.")
]


def info(
    files: Files,
    as_json: AsJson = False,
    with_map: WithMap = False,
    plot: Plot = None,
    checkpoint: Checkpoint = None,
    force: Force = False,
) -> None:
    """Show header, metadata, chunks, quality and rates; reads the header only.

    --map and --plot decode where a picture of tokens spends its codes.
    """
    from polycodec.codecs.files.container import inspect

    names, left = _listed(files)
    if plot is not None:
        _check_plot(plot, names)

    def work(name: str) -> tuple[str, dict[str, Any]]:
        values = {**inspect.info(batch.source_of(name)), "input": name}
        if not (with_map or plot):
            return card(values), values
        values["map"] = _map(name, plot, checkpoint, force)
        rows = (" ".join(f"{n:2}" for n in row) for row in values["map"]["codes"])
        return "\n".join([card(values), *(f"    {row}" for row in rows)]), values

    _run(names, left, work, as_json, "reading")


def verify(files: Files, as_json: AsJson = False) -> None:
    """Check every chunk and record; exit code 4 when a file is damaged."""
    from polycodec.codecs.files.container import inspect

    def work(name: str) -> tuple[str, dict[str, Any]]:
        values = {**inspect.verify(batch.source_of(name)), "input": name}
        counts = f"{values['chunks']} chunks, {values['records']} records"
        line = f"{name}: whole  {counts}  {readable(values['bytes'])}"
        return printable(line), values

    _run(*_listed(files), work, as_json, "checking")


def _listed(files: list[str]) -> tuple[list[str], dict[str, str]]:
    """All files, and all .plc files of folders; and what is left out of them."""
    return expand(files, lambda p: None if is_plc(p) else "not a .plc file")


def _check_plot(plot: str, names: list[str]) -> None:
    """UsageError for a plot of several files, or in another format than PNG."""
    if len(names) > 1:
        raise UsageError(f"--plot writes one picture, of one file; found {len(names)}")
    if not plot.lower().endswith(".png"):
        raise UsageError(f"--plot is '{plot}'; expected a name that ends in .png")


def _run(
    names: list[str],
    left: dict[str, str],
    work: Callable[[str], tuple[str, dict[str, Any]]],
    as_json: bool,
    verb: str,
) -> NoReturn:
    """Do the work on all files."""
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
    if "map" in values:
        shares = {k: values["map"][k] for k in ("coarse", "medium", "fine")}
        said = ", ".join(f"{k} {100 * v:.1f} %" for k, v in shares.items())
        rows["map"] = f"{values['map']['codes_a_cell']:.2f} codes a cell; {said}"
    if len(sizes) > 1:
        small, large = readable(min(sizes)), readable(max(sizes))
        rows["chunks"] += f", {small} to {large} each"
    title = f"{values['input']}: .plc version {values['version']}"
    return "\n".join([aligned(title, rows), *_members(values.get("members", []))])


def _map(
    name: str, plot: str | None, checkpoint: str | None, force: bool
) -> dict[str, Any]:
    """Numbers of a picture's map, and the map as a picture where one is asked for."""
    from PIL import Image

    from polycodec.atomic import atomic_write
    from polycodec.codecs.files.ends import target_of
    from polycodec.codecs.files.tokens.map import map_of

    source = batch.source_of(name)
    if plot is not None:
        target_of(source, plot, ".png", force)  # which is not the file itself
    found = map_of(source, checkpoint=checkpoint)
    if plot is not None:
        with atomic_write(plot, force=force) as file:
            Image.fromarray(found.picture()).save(file, format="PNG")
    return found.numbers()


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
