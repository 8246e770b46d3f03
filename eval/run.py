# SPDX-License-Identifier: Apache-2.0
"""`polycodec eval`: measure codecs and anchors, compare them, write the report.

    evaluate("kodak", codecs=["image/default"], anchors=["jpeg", "webp"], out="runs/e")
    evaluate("speech", anchors=["opus"], out="runs/s").summary()

    out/results.jsonl   one line per file, codec and setting (resumable)
        run.json        settings, versions, curves, and what is concluded from them
        table.md        the same for reading
        *.svg, *.png    plots
        report.html     one self-contained page

Everything is coded in this one process, in real bytes, one file at a time.
"""

from __future__ import annotations

import datetime
import pathlib
from dataclasses import fields
from typing import Any

from polycodec.errors import UsageError
from polycodec.eval.curves import measured
from polycodec.eval.datasets import Dataset, Item, Place
from polycodec.eval.kind import Run, kind_of, kinds
from polycodec.eval.machine import machine
from polycodec.eval.measure import measure_all
from polycodec.eval.options import EvalOptions
from polycodec.eval.result import Evaluation
from polycodec.eval.selection import select


def evaluate(dataset: Dataset = "kodak", *, out: Place, **options: Any) -> Evaluation:
    """Measure every codec and anchor on every file and write the report.

    ``dataset``: ``kodak``, ``speech``, a folder, a file, or files; it decides the kind
    of signal. ``options``: those of EvalOptions. An anchor or a measure that cannot run
    here is skipped with its reason; any other failure ends the run by name.
    """
    chosen, kind = EvalOptions(**options), kind_of(dataset)
    chosen.check(kind.name, {k.name: k.options for k in kinds()})
    subjects, skipped = select(kind, chosen)
    name, items = kind.datasets.open(dataset, data=chosen.data)
    items = _without(items, dataset, pathlib.Path(out))
    run = Run(
        kind=kind,
        options=chosen,
        out=pathlib.Path(out),
        dataset=name,
        items=items[: chosen.limit],
        subjects=subjects,
        skipped={**skipped, **kind.measures.skipped(chosen.measures)},
        rules=kind.measures.rules(chosen.measures),
    )
    published = kind.published(run)
    rows = measure_all(run)
    result = kind.result(
        run=run,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        environment={"command": _command(dataset, out, chosen), **machine()},
        versions={subject.name: subject.versions() for subject in run.subjects},
        curves=measured(run, rows),
        published=published,
        rows=rows,
    )
    result.write()
    if chosen.report:
        from polycodec.eval.report import write

        write(result)
    return result


def _without(items: list[Item], dataset: Dataset, out: pathlib.Path) -> list[Item]:
    """Leave out what an earlier run has drawn into a folder below that of the files.

    UsageError where the report would lie among them.
    """
    if not isinstance(dataset, (str, pathlib.Path)):
        return items
    folder, own = pathlib.Path(dataset).resolve(), out.resolve()
    if own == folder and folder.is_dir():
        raise UsageError(
            f"the report would lie among the files that are measured, in {out}; name "
            "another folder with -o"
        )
    if folder not in own.parents:
        return items
    return [item for item in items if own not in item.path.resolve().parents]


def _command(dataset: Dataset, out: Place, options: EvalOptions) -> str:
    """Return what starts this run again: the command line, or the call in Python."""
    if options.command is not None:
        return options.command
    changed = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if getattr(options, field.name) != field.default
    }
    given = "".join(f", {name}={value!r}" for name, value in changed.items())
    return f"evaluate({dataset!r}, out={str(out)!r}{given})"
