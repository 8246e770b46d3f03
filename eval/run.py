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
import json
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from polycodec.errors import UsageError
from polycodec.eval import bdrate, curves, datasets, measure, progress
from polycodec.eval.anchors import ANCHORS, DEFAULT_ANCHORS, anchor
from polycodec.eval.pictures import per_picture
from polycodec.eval.subjects import PolycodecSubject, Subject

METRICS = ("psnr", "ms_ssim_db")


@dataclass(frozen=True)
class Overhead:
    """Real file bytes against the model's own estimate, over all pictures.

    ``percent`` is the mean excess. ``beyond`` is the largest number of bytes by
    which a picture exceeds its estimate by more than 0.6 % + 40 bytes, negative
    when all stay within; ``worst`` is that picture.
    """

    percent: float
    beyond: float
    worst: str
    pictures: int


@dataclass(frozen=True)
class Evaluation:
    """All that a run found out; ``run.json`` is this as JSON."""

    dataset: str
    images: list[str]
    created: str
    environment: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    skipped: dict[str, str]  # anchors that could not run, and why
    curves: list[curves.Curve]
    published: list[curves.Curve]
    # comparisons[metric][test][anchor]
    comparisons: dict[str, dict[str, dict[str, bdrate.Comparison]]]
    # per_picture[test][anchor][image]: BD-rate in % by PSNR, for our codecs
    per_picture: dict[str, dict[str, dict[str, float]]]
    overheads: dict[str, Overhead]
    rows: list[measure.Row]
    out: pathlib.Path

    def curve(self, name: str) -> curves.Curve:
        """Find a measured or published curve by name."""
        return next(c for c in (*self.curves, *self.published) if c.name == name)


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
    subjects, skipped = _subjects(
        codecs, anchors, qualities, target_bpps, anchor_settings, checkpoint, device
    )
    dashed = []
    if published is not None and limit is not None:
        skipped["published curves"] = "they are of the whole data set, this run is not"
    elif published is not None:
        dashed = curves.published(published, dataset=name, ids=published_ids)
    _check_reference(reference, subjects, dashed)
    log = measure.Log(out / "results.jsonl")
    rows = _measure_all(subjects, pictures, log, reuse, quiet)
    found = [
        curves.measured(s.name, s.label, s.kind, [r for r in rows if r.codec == s.name])
        for s in subjects
    ]
    images = [picture.name for picture in pictures]
    result = Evaluation(
        dataset=name,
        images=images,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        environment=_environment(),
        versions={subject.name: dict(subject.versions()) for subject in subjects},
        skipped=skipped,
        curves=found,
        published=dashed,
        comparisons=_compare_all(found, dashed, reference),
        per_picture={
            test.name: {
                base.name: per_picture(rows, images, test.name, base.name)
                for base in found
                if base.name != test.name
            }
            for test in found
            if test.kind == "codec"
        },
        overheads=_overheads(rows),
        rows=rows,
        out=out,
    )
    write(result)
    if report:
        from polycodec.eval.report import write_report

        write_report(result, subjects, pictures, show=show)
    return result


def write(result: Evaluation) -> None:
    """Write ``run.json`` and ``table.md`` into the run's folder."""
    from polycodec.eval.tables import markdown

    result.out.mkdir(parents=True, exist_ok=True)
    content = asdict(replace(result, rows=[]))
    content["out"] = str(result.out)
    text = json.dumps(_finite(content), indent=1) + "\n"
    _replace(result.out / "run.json", text)
    _replace(result.out / "table.md", markdown(result))


def _replace(path: pathlib.Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _finite(value: Any) -> Any:
    """JSON has no NaN: figures that do not exist become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _positive(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; expected at least 1 picture")
    return limit


def _subjects(
    codecs: Sequence[str | Subject],
    anchors: Sequence[str],
    qualities: Sequence[float] | None,
    target_bpps: Sequence[float] | None,
    anchor_settings: Mapping[str, Sequence[float]] | None,
    checkpoint: str | pathlib.Path | None,
    device: str,
) -> tuple[list[Subject], dict[str, str]]:
    """Build what will be measured, and the reasons for what will not."""
    if qualities is not None and target_bpps is not None:
        raise UsageError("qualities and target_bpps exclude each other; give one")
    wanted: dict[str, Any] = {"device": device}
    if qualities is not None:
        wanted["settings"] = tuple(qualities)
    if target_bpps is not None:
        wanted.update(control="target_bpp", settings=tuple(target_bpps))
    chosen: list[Subject] = []
    for codec in codecs:
        if not isinstance(codec, str):
            chosen.append(codec)
        elif codec in ANCHORS:
            chosen.append(anchor(codec))
        else:
            model, _, own = codec.partition("@")
            chosen.append(
                PolycodecSubject(model, checkpoint=own or checkpoint, **wanted)
            )
    settings = dict(anchor_settings or {})
    for name in anchors:
        one = anchor(name)
        if name in settings:
            one = replace(one, settings=tuple(settings.pop(name)))
        chosen.append(one)
    if settings:
        raise UsageError(f"settings for anchors not asked for: {', '.join(settings)}")
    if not chosen or len({s.name for s in chosen}) < len(chosen):
        raise UsageError(
            "expected at least one codec or anchor, each once; found "
            f"{[s.name for s in chosen]}"
        )
    reasons = {s.name: s.missing() for s in chosen}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    return [s for s in chosen if s.name not in skipped], skipped


def _check_reference(
    reference: str | None,
    subjects: Sequence[Subject],
    dashed: Sequence[curves.Curve],
) -> None:
    known = [s.name for s in subjects] + [c.name for c in dashed]
    if reference is not None and reference not in known:
        raise UsageError(
            f"the reference '{reference}' is not part of this run; expected one of "
            f"{', '.join(known)}; add it to the anchors or published curves"
        )


def _measure_all(
    subjects: Sequence[Subject],
    pictures: Sequence[datasets.Picture],
    log: measure.Log,
    reuse: Sequence[str | pathlib.Path],
    quiet: bool,
) -> list[measure.Row]:
    """Go through all pictures and settings; known results are not repeated."""
    known: dict[str, measure.Row] = {}
    for folder in reuse:
        known.update(measure.Log(pathlib.Path(folder) / "results.jsonl").rows)
    prints = {subject.name: measure.fingerprint(subject) for subject in subjects}
    total = len(pictures) * sum(len(subject.settings) for subject in subjects)
    rows: list[measure.Row] = []
    with progress.bar(total, quiet=quiet) as step:
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


def _overheads(rows: Sequence[measure.Row]) -> dict[str, Overhead]:
    """Compare real bytes with estimates, for codecs that have estimates."""
    table = {}
    for codec in {row.codec: None for row in rows if row.estimated_bpp is not None}:
        group = [r for r in rows if r.codec == codec and r.estimated_bpp]
        if not group:
            continue
        estimates = [r.estimated_bpp * r.width * r.height / 8 for r in group]
        pairs = list(zip(group, estimates, strict=True))
        beyond, worst = max((r.bytes - 1.006 * e - 40, r) for r, e in pairs)[:2]
        table[codec] = Overhead(
            percent=100 * (sum(r.bytes for r in group) / sum(estimates) - 1),
            beyond=beyond,
            worst=f"{worst.image} at {worst.setting:g}",
            pictures=len(group),
        )
    return table


def _environment() -> dict[str, Any]:
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
