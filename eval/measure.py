# SPDX-License-Identifier: Apache-2.0
"""The measuring loop and its log: one line of JSON per file, subject and setting.

    key = (signal, subject, setting, what its bytes depend on)

A line is written and flushed as soon as it is known. When a run is started again, lines
with an equal key are taken from the log and nothing is coded twice; a changed version,
option, weight or sample changes the key. A row keeps the rule of every score beside it:
one that lacks a score, or has it by another rule, is measured again for that score.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.errors import CodecError, InputError
from polycodec.eval.datasets import check_all
from polycodec.eval.subjects import Coded, Decoded, Subject
from polycodec.plainjson import to_json
from polycodec.progress import bar

if TYPE_CHECKING:
    from polycodec.eval.kind import Kind, Run

RESULTS = "results.jsonl"  # the log's name in a run's folder


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known about one file, one subject and one setting."""

    key: str
    file: str
    codec: str
    kind: str
    control: str
    setting: float
    amount: float  # of signal: pixels of an image, seconds of speech
    rate: float  # bits per pixel, kbit/s
    bytes: int  # that make the rate
    file_bytes: int  # of everything that was written
    estimated_bits: float | None  # the model's own estimate, where it has one
    encode_seconds: float
    decode_seconds: float
    scores: dict[str, float | None]
    rules: dict[str, str]  # by which each score was taken
    notes: dict[str, str]  # why a score is None

    def lacks(self, rules: Mapping[str, str]) -> list[str]:
        """Return names in ``rules`` (name: rule) of which there is no such score."""
        return [name for name, rule in rules.items() if self.rules.get(name) != rule]


@dataclass(frozen=True)
class Trip:
    """One signal coded to real bytes and decoded from them."""

    subject: Subject
    setting: float
    signal: np.ndarray
    coded: Coded
    decoded: Decoded

    @classmethod
    def of(cls, subject: Subject, signal: np.ndarray, setting: float) -> Trip:
        """Code ``signal`` and decode it."""
        coded = subject.compress(signal, setting)
        return cls(subject, setting, signal, coded, subject.decompress(coded.data))

    def row(
        self, kind: Kind, file: str, key: str, names: Sequence[str], known: Row | None
    ) -> Row:
        """Take the measures ``names``; keep other scores of an earlier row."""
        scores, notes = kind.measures.score(self.signal, kind.heard(self), names)
        rules = kind.measures.rules(names)
        if known is not None:
            kept = {n: why for n, why in known.notes.items() if n not in names}
            scores, notes = {**known.scores, **scores}, {**kept, **notes}
            rules = {**known.rules, **rules}
        amount = kind.amount(self.signal)
        return Row(
            key=key,
            file=file,
            codec=self.subject.name,
            kind=self.subject.kind,
            control=self.subject.control,
            setting=float(self.setting),
            amount=amount,
            rate=kind.rate_of(self.coded.size, amount),
            bytes=self.coded.size,
            file_bytes=len(self.coded.data),
            estimated_bits=self.coded.estimated_bits,
            encode_seconds=self.coded.seconds,
            decode_seconds=self.decoded.seconds,
            scores=scores,
            rules=rules,
            notes=notes,
        )


def fingerprint(subject: Subject) -> str:
    """Digest everything except signal and setting that decides a subject's bytes."""
    about = {
        "name": subject.name,
        "control": subject.control,
        "versions": subject.versions(),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def naming(subject: Subject, setting: float, file: str) -> Iterator[None]:
    """Make errors say the subject, its setting and the file they are of."""
    where = f"{subject.name} at {subject.control} {setting:g} on {file}"
    try:
        yield
    except CodecError as error:
        # The class decides the exit code: keep it, and say where it happened.
        raise type(error)(f"{where}: {error}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{where} failed: {error}; expected bytes and the signal back; leave this "
            "codec or this file out"
        ) from error


class Log:
    """The results of a run on disk, and what earlier runs left there."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.rows = path, dict[str, Row]()
        if path.is_file():
            self._read()

    def add(self, row: Row) -> None:
        """Append one row, on disk before the call returns."""
        self.rows[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(asdict(row)) + "\n")

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            # A killed run left half a line: that measurement is made again.
            with self.path.open("r+b") as file:
                file.truncate(whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                fields: dict[str, Any] = json.loads(line)
                row = Row(**fields)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self.path}, line {number}, is not a result ({error}); expected "
                    "one JSON object per line, as this version writes it; remove the "
                    "line or the file"
                ) from error
            self.rows[row.key] = row


def earlier(folders: Sequence[str | pathlib.Path]) -> dict[str, Row]:
    """Return rows by key that evaluations left in ``folders``; they must be there."""
    known: dict[str, Row] = {}
    for folder in folders:
        path = pathlib.Path(folder) / RESULTS
        if not path.is_file():
            raise InputError(
                f"no results to reuse in {folder}; expected {RESULTS}; name the output "
                "folder of an earlier evaluation"
            )
        known.update(Log(path).rows)
    return known


def measure_all(run: Run) -> list[Row]:
    """Go through all files and settings; known results are not repeated."""
    log, known = Log(run.out / RESULTS), earlier(run.options.reuse or ())
    # Loads our codecs; then all that can be refused is refused before the long work.
    prints = {subject.name: fingerprint(subject) for subject in run.subjects}
    check_all(run.items, quiet=run.options.quiet)
    # Each once, however often it is named: means and intervals are of files.
    settings = {s.name: list(dict.fromkeys(s.settings)) for s in run.subjects}
    total = len(run.items) * sum(map(len, settings.values()))
    rows: list[Row] = []
    with bar(total, "measuring", quiet=run.options.quiet) as step:
        for item in run.items:
            signal = run.kind.taken(item, run.options)
            digest = item.digest(signal)
            for subject in run.subjects:
                for setting in settings[subject.name]:
                    step(f"{item.name} {subject.name} {setting:g}")
                    key = f"{digest}-{prints[subject.name]}-{setting:g}"
                    row = log.rows.get(key) or known.get(key)
                    lacks = list(run.rules) if row is None else row.lacks(run.rules)
                    if row is None or lacks:
                        with naming(subject, setting, item.name):
                            trip = Trip.of(subject, signal, setting)
                            row = trip.row(run.kind, item.name, key, lacks, row)
                    if log.rows.get(key) != row:
                        log.add(row)
                    # The same signal may have another name in this data set.
                    rows.append(replace(row, file=item.name))
    return rows
