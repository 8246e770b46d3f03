# SPDX-License-Identifier: Apache-2.0
"""The measuring loop and its log: one line of JSON per file, subject and setting.

    key = (signal, subject, setting, what its bytes depend on, rules that never vary)

A line is written and flushed as soon as it is known. When a run is started again, lines
with an equal key are taken from the log and nothing is coded twice; a changed version,
option, weight or sample changes the key. A row that lacks a score, or has it by another
rule, is measured again for that score alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from polycodec.errors import CodecError, InputError
from polycodec.eval.subjects import Coded, Decoded, Subject
from polycodec.progress import bar

if TYPE_CHECKING:
    from polycodec.eval.kind import Run

RESULTS = "results.jsonl"  # the log's name in a run's folder


@dataclass(frozen=True, kw_only=True)
class Row(ABC):
    """What is known about one file, one subject and one setting."""

    key: str
    codec: str
    kind: str
    control: str
    setting: float
    bytes: int  # that make the rate
    encode_seconds: float
    decode_seconds: float

    @classmethod
    @abstractmethod
    def of(
        cls, trip: Trip, file: str, key: str, names: Sequence[str], known: Any
    ) -> Row:
        """Take the measures ``names`` of a trip; ``known``: an earlier row of it."""

    @abstractmethod
    def named(self, file: str) -> Row:
        """Return the same row of a file by another name."""

    def lacks(self, rules: Mapping[str, str]) -> list[str]:
        """Return names in ``rules`` (name: rule) of which there is no such score."""
        return []


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

    def figures(self) -> dict[str, Any]:
        """Return what every kind's row says of it."""
        return {
            "codec": self.subject.name,
            "kind": self.subject.kind,
            "control": self.subject.control,
            "setting": float(self.setting),
            "bytes": self.coded.size,
            "encode_seconds": self.coded.seconds,
            "decode_seconds": self.decoded.seconds,
        }


def fingerprint(subject: Subject, rules: Mapping[str, Any]) -> str:
    """Digest everything except signal and setting that decides a result.

    ``rules``: what does beside name, control and versions of the subject.
    """
    about = {
        "name": subject.name,
        "control": subject.control,
        "versions": subject.versions(),
        **rules,
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


AnyRow = TypeVar("AnyRow", bound=Row)


class Log(Generic[AnyRow]):
    """The results of a run on disk, and what earlier runs left there.

    ``kind``: the dataclass of a line.
    """

    def __init__(self, path: pathlib.Path, kind: type[AnyRow]) -> None:
        self.path, self.kind = path, kind
        self.rows: dict[str, AnyRow] = {}
        if path.is_file():
            self._read()

    def add(self, row: AnyRow) -> None:
        """Append one row, on disk before the call returns."""
        self.rows[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

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
                row = self.kind(**fields)
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{self.path}, line {number}, is not a result ({error}); expected "
                    "one JSON object per line; remove the line or the file"
                ) from error
            self.rows[row.key] = row


def earlier(
    folders: Sequence[str | pathlib.Path], kind: type[AnyRow]
) -> dict[str, AnyRow]:
    """Return rows by key that evaluations left in ``folders``; they must be there."""
    known: dict[str, AnyRow] = {}
    for folder in folders:
        path = pathlib.Path(folder) / RESULTS
        if not path.is_file():
            raise InputError(
                f"no results to reuse in {folder}; expected {RESULTS}; name the output "
                "folder of an earlier evaluation"
            )
        known.update(Log(path, kind).rows)
    return known


def measure_all(run: Run) -> list[Any]:
    """Go through all files and settings; known results are not repeated."""
    kind, options = run.kind, run.options
    log = Log(run.out / RESULTS, kind.row)
    known = earlier(options.reuse, kind.row)
    prints = {s.name: fingerprint(s, kind.fixed_rules) for s in run.subjects}
    total = len(run.items) * sum(len(subject.settings) for subject in run.subjects)
    rows: list[Row] = []
    with bar(total, "measuring", quiet=options.quiet) as step:
        for item in run.items:
            signal = item.read()
            digest = item.digest(signal)
            for subject in run.subjects:
                for setting in subject.settings:
                    step(f"{item.name} {subject.name} {setting:g}")
                    key = f"{digest}-{prints[subject.name]}-{setting:g}"
                    row = log.rows.get(key) or known.get(key)
                    lacks = list(run.rules) if row is None else row.lacks(run.rules)
                    if row is None or lacks:
                        with naming(subject, setting, item.name):
                            trip = Trip.of(subject, signal, setting)
                            row = kind.row.of(trip, item.name, key, lacks, row)
                    if log.rows.get(key) != row:
                        log.add(row)
                    # The same signal may have another name in this data set.
                    rows.append(row.named(item.name))
    return rows
