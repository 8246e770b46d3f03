# SPDX-License-Identifier: Apache-2.0
"""`polycodec eval` on sound: measure codecs and anchors, write the report.

evaluate("speech", codecs=["speech/default"], anchors=["opus"], out="runs/e")

out/results.jsonl   one line per file, codec and setting (resumable)
    run.json        settings, versions, curves, intervals
    table.md        the same for reading
    pesq_wb.svg ... plots
    report.html     one self-contained page, with players
"""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from polycodec.codecs.measures import speech as metrics
from polycodec.errors import UsageError
from polycodec.eval import selection
from polycodec.eval.image import result
from polycodec.eval.image.measure import RESULTS, Log, earlier, fingerprint, row_key
from polycodec.eval.image.run import environment
from polycodec.eval.speech import curves, tables
from polycodec.eval.speech import datasets as utterances
from polycodec.eval.speech.anchors import ANCHORS, DEFAULT_ANCHORS, anchor
from polycodec.eval.speech.measure import Row, measure
from polycodec.eval.speech.subjects import PolycodecSpeech, SpeechSubject
from polycodec.progress import bar

SOUND = selection.Catalogue(PolycodecSpeech, ANCHORS, anchor, "target_kbps")


@dataclass(frozen=True)
class SpeechEvaluation:
    """All that a run found out; ``run.json`` is this as JSON."""

    dataset: str
    files: list[str]
    seconds: float
    created: str
    environment: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    measures: dict[str, str]  # name: packages, versions, rule
    skipped: dict[str, str]  # anchors and measures that could not run, and why
    curves: list[curves.Curve]
    published: list[curves.Published]
    rows: list[Row]
    out: pathlib.Path

    def curve(self, name: str) -> curves.Curve:
        """Find a measured curve by name."""
        return next(c for c in self.curves if c.name == name)


def evaluate(
    dataset: str | pathlib.Path | Sequence[str | pathlib.Path] = "speech",
    *,
    out: str | pathlib.Path,
    codecs: Sequence[str | SpeechSubject] = ("speech/default",),
    anchors: Sequence[str] = DEFAULT_ANCHORS,
    qualities: Sequence[float] | None = None,
    target_kbps: Sequence[float] | None = None,
    anchor_settings: Mapping[str, Sequence[float]] | None = None,
    measures: Sequence[str] | None = None,
    checkpoint: str | pathlib.Path | None = None,
    device: str = "auto",
    published: str | pathlib.Path | None = None,
    data: str | pathlib.Path | None = None,
    limit: int | None = None,
    reuse: Sequence[str | pathlib.Path] = (),
    report: bool = True,
    quiet: bool = False,
) -> SpeechEvaluation:
    """Measure every codec and anchor on every utterance and write the report.

    ``codecs``: names of our codecs, ``name@checkpoint``, or objects that are a
    SpeechSubject. ``qualities`` or ``target_kbps`` are their settings;
    ``anchor_settings`` replaces an anchor's own. ``measures`` names those to take, all
    that are installed unless told. ``reuse`` names earlier output folders whose equal
    measurements may be taken. Anchors and measures that cannot run here are skipped
    with their reason; any other failure ends the run by name.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; expected at least 1 file")
    subjects, skipped = selection.select(
        SOUND,
        codecs,
        anchors,
        qualities=qualities,
        rates=target_kbps,
        anchor_settings=anchor_settings,
        checkpoint=checkpoint,
        device=device,
    )
    taken = [metric.name for metric in metrics.chosen(measures)]
    skipped |= metrics.skipped() if measures is None else {}
    name, files = utterances.open_dataset(dataset, data=data)
    files = files[:limit]
    log = Log(pathlib.Path(out) / RESULTS, Row)
    rows = _measure_all(subjects, files, log, reuse, taken, quiet)
    points = curves.published(published, taken) if published is not None else []
    found = _conclude(name, subjects, rows, points, skipped, taken, pathlib.Path(out))
    write(found)
    if report:
        from polycodec.eval.speech.report import write_report

        write_report(found, subjects, files)
    return found


def write(found: SpeechEvaluation) -> None:
    """Write ``run.json`` and ``table.md`` into the run's folder."""
    found.out.mkdir(parents=True, exist_ok=True)
    content = asdict(replace(found, rows=[]))
    content["out"] = str(found.out)
    text = json.dumps(result.finite(content), indent=1) + "\n"
    result.replace_text(found.out / "run.json", text)
    result.replace_text(found.out / "table.md", tables.markdown(found))


def _conclude(
    name: str,
    subjects: Sequence[SpeechSubject],
    rows: list[Row],
    points: list[curves.Published],
    skipped: dict[str, str],
    taken: Sequence[str],
    out: pathlib.Path,
) -> SpeechEvaluation:
    """Turn measured rows into curves."""
    files = {row.file: row.seconds for row in rows}
    return SpeechEvaluation(
        dataset=name,
        files=list(files),
        seconds=sum(files.values()),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        environment=environment(),
        versions={subject.name: dict(subject.versions()) for subject in subjects},
        measures=metrics.rules(taken),
        skipped=skipped,
        curves=[_curve(subject, rows, taken) for subject in subjects],
        published=points,
        rows=rows,
        out=out,
    )


def _curve(
    subject: SpeechSubject, rows: Sequence[Row], taken: Sequence[str]
) -> curves.Curve:
    own = [row for row in rows if row.codec == subject.name]
    about = (subject.name, subject.label, subject.kind, subject.counts)
    return curves.measured(*about, own, taken)


def _measure_all(
    subjects: Sequence[SpeechSubject],
    files: Sequence[utterances.Utterance],
    log: Log,
    reuse: Sequence[str | pathlib.Path],
    taken: Sequence[str],
    quiet: bool,
) -> list[Row]:
    """Go through all files and settings; known results are not repeated."""
    known = earlier(reuse, Row)
    prints = {subject.name: fingerprint(subject) for subject in subjects}
    rules = metrics.rules(taken)
    total = len(files) * sum(len(subject.settings) for subject in subjects)
    rows: list[Row] = []
    with bar(total, "measuring", quiet=quiet) as step:
        for file in files:
            samples = file.samples()
            digest = utterances.samples_digest(samples)
            for subject in subjects:
                for setting in subject.settings:
                    step(f"{file.name} {subject.name} {setting:g}")
                    key = row_key(digest, prints[subject.name], setting)
                    row = log.rows.get(key) or known.get(key)
                    lacks = taken if row is None else row.lacks(rules)
                    if row is None or lacks:
                        row = measure(
                            subject,
                            samples,
                            setting,
                            file=file.name,
                            key=key,
                            names=lacks,
                            known=row,
                        )
                    if log.rows.get(key) != row:
                        log.add(row)
                    rows.append(replace(row, file=file.name))
    return rows
