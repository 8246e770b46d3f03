# SPDX-License-Identifier: Apache-2.0
"""A third kind of signal is a folder and a line: texts, measured like any other."""

from __future__ import annotations

import bz2
import json
import pathlib
import sys
import types
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest

from polycodec.errors import UsageError
from polycodec.eval import kinds, text
from polycodec.eval.curves import Curve, by_setting
from polycodec.eval.datasets import Datasets, Item
from polycodec.eval.kind import Kind
from polycodec.eval.measure import Row
from polycodec.eval.result import Evaluation
from polycodec.eval.run import evaluate
from polycodec.eval.subjects import Coded, Decoded, OwnCodec, Subject

WORDS = "so much depends upon a red wheel barrow glazed with rain water " * 20


class TextFile(Item):
    def read(self):
        return np.frombuffer(self.path.read_bytes(), np.uint8)

    @staticmethod
    def digest(signal):
        return f"{zlib.crc32(signal.tobytes()):016x}"


class Zip(OwnCodec):
    settings = (1, 9)

    def versions(self):
        return {"zlib": zlib.ZLIB_VERSION}

    def compress(self, signal, setting):
        return Coded(zlib.compress(signal.tobytes(), int(setting)), 0.5)

    def decompress(self, data):
        return Decoded(np.frombuffer(zlib.decompress(data), np.uint8), 0.25)


@dataclass(frozen=True)
class Bz2(Subject):
    name: str = "bz2"
    label: str = "bzip2"
    kind: str = "anchor"
    control: str = "level"
    settings: tuple[float, ...] = (9,)

    def versions(self):
        return {}

    def compress(self, signal, setting):
        return Coded(bz2.compress(signal.tobytes(), int(setting)), 0.5)

    def decompress(self, data):
        return Decoded(np.frombuffer(bz2.decompress(data), np.uint8), 0.25)


@dataclass(frozen=True, kw_only=True)
class TextRow(Row):
    file: str
    wrong: int  # characters

    @classmethod
    def of(cls, trip, file, key, names, known):
        wrong = int((trip.signal != trip.decoded.signal).sum())
        return cls(key=key, file=file, wrong=wrong, **trip.figures())

    def named(self, file):
        return replace(self, file=file)


@dataclass(frozen=True, kw_only=True)
class TextEvaluation(Evaluation):
    @classmethod
    def of(cls, run, rows, published, about):
        curves = []
        for subject in run.subjects:
            own = by_setting(row for row in rows if row.codec == subject.name)
            points = [
                (at, sum(row.bytes for row in group)) for at, group in own.items()
            ]
            about_it = {"name": subject.name, "label": subject.label}
            curves.append(Curve(**about_it, kind=subject.kind, points=tuple(points)))
        return cls(curves=curves, published=[], **about)

    def title(self):
        return f"{self.dataset}: texts"

    def points(self, *, short=False):
        rows = [[c.label, str(at), str(n)] for c in self.curves for at, n in c.points]
        return text.Table(["codec", "setting", "bytes"], rows)

    def facts(self):
        return [f"{sum(row.wrong for row in self.rows)} wrong characters"]

    def sections(self):
        return text.markdown(self.points())


class TextKind(Kind):
    name = "text"
    datasets = Datasets("poems", lambda data: [], TextFile, (".txt",), "text")
    codec, own = "text/zip", Zip
    anchors, default_anchors = {"bz2": Bz2()}, ("bz2",)
    rate, options = "target_bpp", ("target_bpp",)
    row, result = TextRow, TextEvaluation

    def published(self, run):
        return []

    def report(self, run, result):
        raise NotImplementedError


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """A folder of texts, and the kind as a folder of eval/ would bring it."""
    module = types.ModuleType("polycodec.eval.text_kind.kind")
    module.KIND = TextKind()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, "text_kind"))
    (tmp_path / "texts").mkdir()
    for k in range(2):
        (tmp_path / "texts" / f"{k}.txt").write_text(WORDS * (k + 1))
    return tmp_path / "texts"


def test_a_third_kind_is_chosen_by_its_files_and_measured(texts, tmp_path):
    out = tmp_path / "out"
    found = evaluate(texts, out=out, report=False)
    lines = found.summary().splitlines()
    assert lines[0] == "texts: texts" and lines[-1] == "0 wrong characters"
    sizes = [len(zlib.compress((WORDS * k).encode(), 9)) for k in (1, 2)]
    assert dict(found.curve("text/zip").points)[9] == sum(sizes)
    assert json.loads((out / "run.json").read_text())["dataset"] == "texts"
    assert len((out / "results.jsonl").read_text().splitlines()) == 2 * 3
    assert (out / "table.md").read_text().startswith("# texts: texts, 20")


def test_options_of_other_kinds_are_refused(texts, tmp_path):
    with pytest.raises(UsageError, match="--measures is for data sets of speech"):
        evaluate(texts, out=tmp_path, measures=["mel"])
    with pytest.raises(UsageError, match="--show is for data sets of image"):
        evaluate(texts, out=tmp_path, show="0.txt")
    with pytest.raises(TypeError, match="colour"):
        evaluate(texts, out=tmp_path, colour="red")


@pytest.mark.parametrize("name", kinds.KINDS)
def test_every_kind_has_the_same_files(name):
    """One file name, one meaning: a reader of one kind finds the way in another."""
    folder = pathlib.Path(kinds.__file__).parent / name
    expected = "anchors curves datasets kind measure plots report result samples"
    expected = {*expected.split(), "subjects", "tables"}
    assert {path.stem for path in folder.glob("*.py")} >= expected
