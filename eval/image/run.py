# SPDX-License-Identifier: Apache-2.0
"""`polycodec eval`: measure codecs and anchors, compare them, write the report.

    evaluate("kodak", codecs=["image/default"], anchors=["jpeg", "webp"], out="runs/e")

    out/results.jsonl   one line per picture, codec and setting (resumable)
        run.json        settings, versions, curves, BD-rates, real against estimate
        table.md        the same for reading
        rd-psnr.svg ... plots
        report.html     one self-contained page

Everything is coded in this one process, in real bytes, one picture at a time.
"""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polycodec.codecs.measures import image as measures
from polycodec.errors import UsageError
from polycodec.eval import bdrate, selection
from polycodec.eval.image import curves, datasets, measure
from polycodec.eval.image.anchors import ANCHORS, DEFAULT_ANCHORS, anchor
from polycodec.eval.image.pictures import per_picture
from polycodec.eval.image.result import Evaluation, overheads, write
from polycodec.eval.image.subjects import PolycodecSubject, Subject
from polycodec.progress import bar

METRICS = ("psnr", "ms_ssim_db")
PICTURES = selection.Catalogue(PolycodecSubject, ANCHORS, anchor, "target_bpp")


def evaluate(
    dataset: str | pathlib.Path | Sequence[str | pathlib.Path] = "kodak",
    *,
    out: str | pathlib.Path,
    codecs: Sequence[str | Subject] = ("image/default",),
    anchors: Sequence[str] = DEFAULT_ANCHORS,
    qualities: Sequence[float] | None = None,
    target_bpps: Sequence[float] | None = None,
    anchor_settings: Mapping[str, Sequence[float]] | None = None,
    checkpoint: str | pathlib.Path | None = None,
    device: str = "auto",
    reference: str | None = None,
    published: str | pathlib.Path | None = None,
    published_ids: Sequence[str] | None = None,
    data: str | pathlib.Path | None = None,
    limit: int | None = None,
    reuse: Sequence[str | pathlib.Path] = (),
    show: str | None = None,
    report: bool = True,
    quiet: bool = False,
) -> Evaluation:
    """Measure every codec and anchor on every picture and write the report.

    ``codecs``: names of our codecs, ``name@checkpoint``, or objects that are a
    Subject. ``qualities`` or ``target_bpps`` are their settings; ``anchor_settings``
    replaces an anchor's own. ``reference`` names the one anchor (or published
    curve) to compare against; None compares against each. ``reuse`` names earlier
    output folders whose equal measurements may be taken. ``limit`` keeps the first
    pictures only, ``show`` names the picture for the crops. An anchor that cannot
    run here is skipped with its reason; any other failure ends the run by name.
    """
    out = pathlib.Path(out)
    name, pictures = datasets.open_dataset(dataset, data=data)
    pictures = pictures[: _positive(limit)]
    if show is not None:
        datasets.find(pictures, show)  # refused now, not after the long work
    subjects, skipped = selection.select(
        PICTURES,
        codecs,
        anchors,
        qualities=qualities,
        rates=target_bpps,
        anchor_settings=anchor_settings,
        checkpoint=checkpoint,
        device=device,
    )
    dashed = _published(name, published, published_ids)
    if dashed and limit is not None:
        skipped["published curves"] = "they are of the whole data set, this run is not"
        dashed = []
    selection.check_reference(reference, subjects, dashed)
    log = measure.Log(out / measure.RESULTS)
    rows = _measure_all(subjects, pictures, log, reuse, quiet)
    result = _conclude(name, pictures, subjects, rows, dashed, reference, skipped, out)
    write(result)
    if report:
        from polycodec.eval.image.report import write_report

        write_report(result, subjects, pictures, show=show)
    return result


def _conclude(
    name: str,
    pictures: Sequence[datasets.Picture],
    subjects: Sequence[Subject],
    rows: list[measure.Row],
    dashed: list[curves.Curve],
    reference: str | None,
    skipped: dict[str, str],
    out: pathlib.Path,
) -> Evaluation:
    """Turn measured rows into curves and comparisons."""
    images = [picture.name for picture in pictures]
    found = [
        curves.measured(s.name, s.label, s.kind, [r for r in rows if r.codec == s.name])
        for s in subjects
    ]
    return Evaluation(
        dataset=name,
        images=images,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        environment=environment(),
        versions={subject.name: dict(subject.versions()) for subject in subjects},
        skipped=skipped,
        curves=found,
        published=dashed,
        comparisons=_compare_all(found, dashed, reference),
        per_picture=_per_picture(found, rows, images),
        overheads=overheads(rows),
        rows=rows,
        out=out,
    )


def _published(
    dataset: str, path: str | pathlib.Path | None, ids: Sequence[str] | None
) -> list[curves.Curve]:
    if path is None and ids is not None:
        raise UsageError(
            f"published curves {', '.join(ids)} of no file; name theirs (--published)"
        )
    return [] if path is None else curves.published(path, dataset=dataset, ids=ids)


def _positive(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; expected at least 1 picture")
    return limit


def _measure_all(
    subjects: Sequence[Subject],
    pictures: Sequence[datasets.Picture],
    log: measure.Log,
    reuse: Sequence[str | pathlib.Path],
    quiet: bool,
) -> list[measure.Row]:
    """Go through all pictures and settings; known results are not repeated."""
    known = measure.earlier(reuse)
    prints = {s.name: measure.fingerprint(s, metrics=measures.RULES) for s in subjects}
    total = len(pictures) * sum(len(subject.settings) for subject in subjects)
    rows: list[measure.Row] = []
    with bar(total, "measuring", quiet=quiet) as step:
        for picture in pictures:
            pixels = picture.pixels()
            digest = datasets.pixels_digest(pixels)
            for subject in subjects:
                for setting in subject.settings:
                    step(f"{picture.name} {subject.name} {setting:g}")
                    key = measure.row_key(digest, prints[subject.name], setting)
                    row = log.rows.get(key)
                    if row is None:
                        row = known.get(key) or measure.measure(
                            subject, pixels, setting, image=picture.name, key=key
                        )
                        log.add(row)
                    # The same picture may have another name in this data set.
                    rows.append(replace(row, image=picture.name))
    return rows


def _compare_all(
    found: Sequence[curves.Curve],
    dashed: Sequence[curves.Curve],
    reference: str | None,
) -> dict[str, dict[str, dict[str, bdrate.Comparison]]]:
    """Compare every measured curve with every other, or with the reference."""
    references = [c for c in (*found, *dashed) if reference in (None, c.name)]
    table: dict[str, dict[str, dict[str, bdrate.Comparison]]] = {}
    for metric in METRICS:
        table[metric] = {}
        for test in found:
            table[metric][test.name] = {
                base.name: bdrate.compare(*base.against(metric), *test.against(metric))
                for base in references
                if base.name != test.name
            }
    return table


def _per_picture(
    found: Sequence[curves.Curve], rows: Sequence[measure.Row], images: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Compare our codecs with everything measured, picture by picture."""
    return {
        test.name: {
            base.name: per_picture(rows, images, test.name, base.name)
            for base in found
            if base.name != test.name
        }
        for test in found
        if test.kind == "codec"
    }


def environment() -> dict[str, Any]:
    """Versions and machine that a result depends on."""
    import numpy
    import torch

    import polycodec

    return {
        "polycodec": polycodec.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
