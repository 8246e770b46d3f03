# SPDX-License-Identifier: Apache-2.0
"""A third kind of signal is a folder and a line: texts, measured like any other."""

from __future__ import annotations

import bz2
import json
import pathlib
import sys
import types
import zlib
from dataclasses import dataclass

import numpy as np
import pytest

from polycodec.codecs.measures.base import Measure, Measures
from polycodec.errors import UsageError
from polycodec.eval import kind as kinds
from polycodec.eval.datasets import Datasets, Item
from polycodec.eval.kind import Kind
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


def wrong(original, decoded, rate):
    """Characters that came back as others."""
    return float((original != decoded).sum())


class TextKind(Kind):
    name = "text"
    datasets = Datasets("poems", lambda data: [], TextFile, (".txt",), "text")
    codec, own = "text/zip", Zip
    anchors, default_anchors = {"bz2": Bz2()}, ("bz2",)
    measures = Measures(lambda *pair: None, Measure("wrong", "wrong", "", 0, -1, wrong))
    result = Evaluation
    control, options = "target_bpp", ("target_bpp",)
    rate, pace, method = ("bytes", 0), "s", "Each text by itself."
    logarithmic = intervals = False

    def amount(self, signal):
        return len(signal)

    def rate_of(self, size, amount):
        return size

    def published(self, run):
        return []


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
    found = evaluate(texts, out=out)
    lines = found.summary().splitlines()
    assert lines[0] == "texts: 2 texts"
    sizes = [len(zlib.compress((WORDS * k).encode(), 9)) for k in (1, 2)]
    point = next(p for p in found.curve("text/zip").points if p.setting == 9)
    assert point.rate == sum(sizes) / 2 and point.scores["wrong"].value == 0
    assert json.loads((out / "run.json").read_text())["dataset"] == "texts"
    assert len((out / "results.jsonl").read_text().splitlines()) == 2 * 3
    assert (out / "table.md").read_text().startswith("# texts: 2 texts, 20")
    assert "0.txt" not in (out / "report.html").read_text()


def test_options_of_other_kinds_are_refused(texts, tmp_path):
    with pytest.raises(UsageError, match="--target-kbps is for data sets of speech"):
        evaluate(texts, out=tmp_path, target_kbps=[6])
    with pytest.raises(UsageError, match="--show is for data sets of image"):
        evaluate(texts, out=tmp_path, show="0.txt")
    with pytest.raises(TypeError, match="colour"):
        evaluate(texts, out=tmp_path, colour="red")


@pytest.mark.parametrize("name", kinds.KINDS)
def test_every_kind_has_the_same_files(name):
    """One file name, one meaning: a reader of one kind finds the way in another."""
    folder = pathlib.Path(kinds.__file__).parent / name
    expected = {*["anchors", "datasets", "kind", "result", "samples", "subjects"]}
    assert {path.stem for path in folder.glob("*.py")} >= expected
