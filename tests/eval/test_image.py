# SPDX-License-Identifier: Apache-2.0
"""Evaluation: known figures, real bytes, resumed runs, a page that stands alone."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("bjontegaard", reason="needs the eval extra")
pytest.importorskip("matplotlib", reason="needs the eval extra")
pytest.importorskip("torchmetrics", reason="needs the eval extra")

from pages import Page
from signals import photo

from polycodec.codecs import zoo
from polycodec.codecs.transforms.rate import Levels
from polycodec.errors import InputError, UsageError
from polycodec.eval.image.anchors import ANCHORS
from polycodec.eval.image.kind import KIND
from polycodec.eval.image.subjects import ImageCodec
from polycodec.eval.machine import machine
from polycodec.eval.measure import fingerprint
from polycodec.eval.run import evaluate
from polycodec.eval.subjects import Coded, Decoded, Subject, code_digest

RATES = [0.1, 0.2, 0.4, 0.8, 1.6]
QUALITIES = [28.0, 30.5, 33.0, 35.5, 38.0]


class RoundingCodec(Subject):
    """A codec of the tests: rounds pixels to a step and stores them as PNG."""

    kind, control = "codec", "quality"
    name = label = "test/rounding"

    def __init__(self, settings=(4, 8, 16, 32, 64)):
        self.settings = settings
        self.calls = 0

    def missing(self):
        return None

    def versions(self):
        return {"version": 1}

    def compress(self, picture, setting):
        self.calls += 1
        step = 512 / setting
        rounded = np.clip(np.round(picture / step) * step, 0, 255).astype(np.uint8)
        memory = io.BytesIO()
        Image.fromarray(rounded).save(memory, "PNG")
        data = memory.getvalue()
        return Coded(data, 0.01, 8 * (len(data) - 30))

    def decompress(self, data):
        return Decoded(np.array(Image.open(io.BytesIO(data)).convert("RGB")), 0.01)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    for seed in range(2):
        Image.fromarray(photo(seed)).save(place / f"{seed}.png")
    return place


# --- our own codecs --------------------------------------------------------------


def test_our_codecs_are_measured_through_their_files(monkeypatch):
    """The file interface is replaced by one that stores the PNG it is given."""
    from polycodec.codecs.files import api

    asked, loaded = [], []

    class Codec:
        kind = "image"

        def __init__(self, name, device, checkpoint):
            loaded.append((name, device, checkpoint))
            self.digest = str(checkpoint).encode()

        def eval(self):
            return self

    def store(source, target, **options):
        asked.append({key: options[key] for key in options if key != "codec"})
        assert isinstance(options["codec"], Codec)
        target.write_bytes(source.read_bytes())
        return types.SimpleNamespace(seconds=0.5, estimated_bpp=1.25)

    monkeypatch.setattr(
        zoo, "load", lambda name, device, checkpoint: Codec(name, device, checkpoint)
    )
    monkeypatch.setattr(api, "encode", store)
    monkeypatch.setattr(api, "decode", store)
    subject = ImageCodec("image/test", checkpoint="runs/a", device="cpu")
    coded = subject.compress(photo(0), 40)
    decoded = subject.decompress(coded.data)
    assert coded.seconds == 0.5 and coded.estimated_bits == 1.25 * 180 * 200
    assert np.array_equal(decoded.signal, photo(0)) and decoded.seconds == 0.5
    assert asked == [{"quality": 40}, {}]
    assert loaded == [("image/test", "cpu", "runs/a")]  # once
    other = ImageCodec("image/test", checkpoint="runs/b", device="cpu")
    other.name = subject.name
    assert fingerprint(other) != fingerprint(subject)


def test_results_depend_on_all_code_and_on_the_device_that_ran(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: types.SimpleNamespace(submodule_search_locations=[tmp_path]),
    )
    seen = {code_digest()}
    for name in ("a.py", "a.h", "a.cpp", "a.cu", "a.kernels"):
        (tmp_path / name).write_bytes(b"1")
        seen.add(code_digest())
    (tmp_path / "a.cu").write_bytes(b"2")
    seen.add(code_digest())
    assert len(seen) == 7
    subject = ImageCodec("image/test", device="auto")
    subject._loaded = types.SimpleNamespace(digest=b"weights")
    assert subject.versions()["device"] == str(zoo.resolve_device("auto")) != "auto"


# --- runs ------------------------------------------------------------------------

SMALL = {"jpeg": (5, 20, 60, 90), "webp": (5, 30, 60, 90)}


def test_a_run_measures_files_and_resumes_without_coding_again(folder, tmp_path):
    codec = RoundingCodec()
    out = tmp_path / "out"
    options = {
        "codecs": [codec],
        "anchors": list(SMALL),
        "anchor_settings": SMALL,
        "report": False,
    }
    first = evaluate(folder, out=out, **options)
    lines = (out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * (5 + 4 + 4) and codec.calls == 10
    point = first.curve("test/rounding").points[0]
    rows = [r for r in first.rows if r.codec == codec.name and r.setting == 4]
    mean = sum(row.scores["psnr"] for row in rows) / 2
    assert point.scores["psnr"].value == pytest.approx(mean)
    assert rows[0].rate == 8 * rows[0].bytes / (180 * 200)
    jpeg = [r for r in first.rows if r.codec == "jpeg"]
    assert jpeg[0].scores["ms_ssim"] is not None
    similarity, db = (point.scores[n].value for n in ("ms_ssim", "ms_ssim_db"))
    assert db == pytest.approx(-10 * math.log10(1 - similarity))  # of the mean
    # Killed in the middle of a line: that one is measured again, others are not.
    (out / "results.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    second = evaluate(folder, out=out, **options)
    assert codec.calls == 10
    assert second.curve("test/rounding") == first.curve("test/rounding")
    assert len((out / "results.jsonl").read_text().splitlines()) == len(lines)
    # Another version is another codec: nothing of it is taken from the log.
    codec.versions = lambda: {"version": 2}
    evaluate(folder, out=out, **options)
    assert codec.calls == 20
    # Another folder may take what this one knows.
    evaluate(folder, out=tmp_path / "other", reuse=[out], **options)
    assert codec.calls == 20


def test_a_codec_of_ours_is_measured_by_its_real_files(
    folder, tmp_path, tiny_checkpoint
):
    result = evaluate(
        folder,
        out=tmp_path / "out",
        codecs=["image/default"],
        checkpoint=tiny_checkpoint,
        qualities=(10, 90),
        anchors=["jpeg"],
        anchor_settings={"jpeg": (50,)},
        device="cpu",
        report=False,
    )
    name = f"image/default@{tiny_checkpoint}"
    rows = [row for row in result.rows if row.codec == name]
    assert [row.setting for row in rows] == [10, 90, 10, 90]
    assert all(0 < row.estimated_bits < 8 * row.bytes for row in rows)
    assert result.overheads[name].images == 4
    assert "needs 4" in result.comparisons["psnr"][name]["jpeg"].reason


def test_a_run_writes_its_tables_and_json(folder, tmp_path):
    out = tmp_path / "out"
    result = evaluate(
        folder,
        out=out,
        codecs=[RoundingCodec()],
        anchors=["jpeg"],
        anchor_settings={"jpeg": SMALL["jpeg"]},
        report=False,
    )
    written = json.loads((out / "run.json").read_text())
    assert written["files"] == ["0.png", "1.png"]
    assert written["versions"]["jpeg"]["options"]["subsampling"] == "4:4:4"
    against = written["comparisons"]["psnr"]["test/rounding"]["jpeg"]
    assert against["rate_akima"] == pytest.approx(
        result.comparisons["psnr"]["test/rounding"]["jpeg"].rate_akima
    )
    assert result.per_image["test/rounding"]["jpeg"].keys() == {"0.png", "1.png"}
    over = result.overheads["test/rounding"]
    # 30 bytes above the estimate: within 40 bytes + 0.6 %, so at most -10 beyond.
    assert over.beyond <= -10 and over.images == 10
    table = (out / "table.md").read_text()
    assert "| JPEG | 90 |" in table and "optimize True" in table
    assert f"| processor | {machine()['processor'][:5]}" in table.replace("\\", "")
    assert "evaluate(" in written["environment"]["command"]
    said = result.summary().splitlines()
    assert said[0] == "photos: 2 images"
    assert sum(line.startswith("JPEG ") for line in said) == 4
    assert any(re.match(r"test/rounding against JPEG: [−+]\d", line) for line in said)


def test_what_was_not_measured_is_not_compared(folder, tmp_path):
    """Without PSNR no verdict about PSNR; a setting counts once however often named."""
    options = {"anchors": ["jpeg", "webp"], "measures": ["ms_ssim"], "report": False}
    settings = {"jpeg": (50, 50.0), "webp": (50,)}
    options |= {"codecs": [], "anchor_settings": settings}
    result = evaluate(folder, out=tmp_path / "out", **options)
    assert set(result.comparisons) == {"ms_ssim_db"}
    assert result.cards() == [] and result.drawings({}) == {}
    assert "PSNR" not in result.summary() and "PSNR" not in result.markdown()
    assert [point.files for point in result.curve("jpeg").points] == [2]


def test_rates_of_a_measure_are_of_the_files_that_it_judged(folder, tmp_path):
    """A picture too small for MS-SSIM changes no BD-rate by MS-SSIM."""
    options = {"codecs": [], "anchors": list(SMALL), "anchor_settings": SMALL}
    options |= {"report": False}

    def by_ms_ssim(out):
        found = evaluate(folder, out=tmp_path / out, **options).comparisons
        return found["ms_ssim_db"]["webp"]["jpeg"].rate_akima

    alone = by_ms_ssim("alone")
    Image.fromarray(photo(7)[:40, :40]).save(folder / "small.png")
    assert by_ms_ssim("beside") == pytest.approx(alone)


def test_codecs_are_compared_over_the_files_that_all_of_them_have():
    """A measure that one codec lacks for one file leaves that file out for all."""
    from polycodec.eval import curves

    def row(codec, file, setting, score):
        scores = {"psnr": score, "ms_ssim": None if codec == "b" else 0.5}
        size = int(file) * setting
        fields = {"codec": codec, "file": file, "setting": setting, "bytes": size}
        fields |= {"file_bytes": size, "amount": 8.0, "scores": scores}
        times = {"encode_seconds": 1.0, "decode_seconds": 1.0}
        return types.SimpleNamespace(**fields, **times, estimated_bits=None)

    lost = {("a", "1", 2), ("b", "2", 4)}
    rows = [
        row(codec, file, setting, None if (codec, file, setting) in lost else 30.0 + k)
        for codec in "ab"
        for k, file in enumerate("123")
        for setting in (2, 4)
    ]
    about = {"label": "", "kind": "codec", "counts": ""}
    subjects = [types.SimpleNamespace(name=name, **about) for name in "ab"]
    rules, measures = dict.fromkeys(("psnr", "ms_ssim"), ""), KIND.measures.every
    run = types.SimpleNamespace(
        kind=KIND, rules=rules, measures=measures, subjects=subjects
    )
    a, b = curves.measured(run, rows)
    assert a.values("psnr") == b.values("psnr") == ([6.0, 12.0], [32.0, 32.0])
    assert a.points[0].rate == 4.0 and a.points[0].scores["psnr"].without == 2
    # What a measure never has for one codec takes nothing from the other.
    assert a.values("ms_ssim") == ([4.0, 8.0], [0.5, 0.5])
    assert b.values("ms_ssim") == ([], [])


def test_published_curves_of_another_set_are_said_to_be_left_out(folder, tmp_path):
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"kodak": []}))
    options = {"codecs": [], "anchors": ["jpeg"], "anchor_settings": {"jpeg": (50,)}}
    found = evaluate(
        folder, out=tmp_path / "out", published=path, report=False, **options
    )
    assert "none of 'photos'" in found.run.skipped["published curves"]


def test_a_report_below_its_files_is_not_measured(folder, tmp_path):
    options = {"codecs": [], "anchors": ["jpeg"], "anchor_settings": {"jpeg": (50,)}}
    (folder / "report").mkdir()
    Image.fromarray(photo(3)).save(folder / "report" / "psnr.png")
    found = evaluate(folder, out=folder / "report", report=False, **options)
    assert found.files == ["0.png", "1.png"]
    with pytest.raises(UsageError, match="-o"):
        evaluate(folder, out=folder, report=False, **options)


def test_exact_pictures_are_told(tmp_path):
    Image.new("RGB", (64, 64), (128, 128, 128)).save(tmp_path / "flat.png")
    options = {"codecs": [], "anchors": ["jpeg"], "anchor_settings": {"jpeg": (50, 90)}}
    found = evaluate(tmp_path / "flat.png", out=tmp_path / "o", report=False, **options)
    assert any("flat.png came back exactly 2 times" in f for f in found.facts())


def test_codecs_of_ours_are_told_apart():
    from polycodec.eval.options import EvalOptions
    from polycodec.eval.selection import select

    runs = ["image/default@a/v1.2", "image/default@b/v1.2", "image/default@a/v1.3"]
    options = EvalOptions(codecs=runs, anchors=[], qualities=(50,))
    labels = [subject.label for subject in select(KIND, options)[0]]
    assert len(set(labels)) == 3 and labels[2].endswith("(v1.3)")


def test_an_anchor_that_cannot_run_is_left_out_with_its_reason(
    folder, tmp_path, monkeypatch
):
    absent = replace(ANCHORS["webp"], library="jxl")
    monkeypatch.setitem(ANCHORS, "webp", absent)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = evaluate(
        folder, out=tmp_path, codecs=[RoundingCodec()], anchors=["webp"], report=False
    )
    assert "not installed" in result.run.skipped["webp"]
    assert [c.name for c in result.curves] == ["test/rounding"]


def test_a_codec_that_fails_is_named_with_picture_and_setting(folder, tmp_path):
    codec = RoundingCodec()
    codec.decompress = lambda data: Decoded(photo(0)[:5], 0.0)
    with pytest.raises(InputError, match=r"test/rounding at quality 4 on 0\.png"):
        evaluate(folder, out=tmp_path, codecs=[codec], anchors=[], report=False)


@pytest.mark.parametrize(
    "options",
    [
        {"anchors": ["jpeg", "jpeg"]},
        {"anchors": [], "codecs": []},
        {"anchors": ["jpeg"], "reference": "webp"},
        {"anchors": ["jpeg"], "anchor_settings": {"webp": (1, 2)}},
        {"qualities": [1], "target_bpp": [1]},
        {"qualities": [50, 150]},
        {"target_bpp": [0]},
        {"anchors": ["jpeg"], "limit": 0},
        {"anchors": ["jpeg"], "published_ids": ["balle2018"]},
    ],
)
def test_contradictions_are_usage_errors(folder, tmp_path, options):
    with pytest.raises(UsageError):
        evaluate(folder, out=tmp_path, **{"codecs": [], **options})


def test_all_files_are_checked_before_anything_is_coded(folder, tmp_path):
    """One error names what will not do; hours were spent before the first was met."""
    codec, options = RoundingCodec(), {"anchors": [], "report": False}
    for k in range(12):
        Image.fromarray(photo(1)).convert("LA").save(folder / f"odd{k:02d}.png")
    (folder / "odd00.png").write_bytes((folder / "1.png").read_bytes()[:900])
    with pytest.raises(InputError, match="and 2 more") as caught:
        evaluate(folder, out=tmp_path / "out", codecs=[codec], **options)
    said = str(caught.value).splitlines()
    assert len(said) == 11 and codec.calls == 0
    assert "odd00.png; the PNG is cut" in said[0] and "odd09.png has alpha" in said[9]


def test_codecs_of_other_signals_are_refused(folder, tmp_path):
    codec = RoundingCodec()
    with pytest.raises(UsageError, match="is a codec of speech; expected one of image"):
        evaluate(folder, out=tmp_path, codecs=[codec, "speech/default"], device="cpu")
    assert codec.calls == 0


# --- the page --------------------------------------------------------------------


def test_the_page_needs_nothing_outside_itself(folder, tmp_path):
    published = tmp_path / "published.json"
    entry = {"id": "old", "label": "An <old> codec", "bpp": RATES, "psnr": QUALITIES}
    published.write_text(json.dumps({"photos": [entry]}))
    out = tmp_path / "out"
    evaluate(
        folder,
        out=out,
        codecs=[RoundingCodec()],
        anchors=list(SMALL),
        anchor_settings=SMALL,
        published=published,
    )
    text = (out / "report.html").read_text()
    Page(text)
    assert "An <old>" not in text  # labels are escaped everywhere
    assert "<title>JPEG: " in text  # points say their numbers
    assert text.count('class="crop"') == 4  # original, ours, JPEG, WebP
    for name in ("psnr", "ms_ssim", "ms_ssim_db", "rate-difference"):
        assert (out / f"{name}.png").stat().st_size > 1000
        assert (out / f"{name}.svg").stat().st_size > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_names_of_files_are_text_in_tables_and_pages(folder, tmp_path):
    odd = "a|b *c* <i>_d_.png"
    (folder / "0.png").rename(folder / odd)
    out = tmp_path / "out"
    options = {"anchors": ["jpeg"], "anchor_settings": {"jpeg": SMALL["jpeg"]}}
    evaluate(folder, out=out, codecs=[RoundingCodec()], **options)
    rows = [r for r in (out / "table.md").read_text().splitlines() if r[:1] == "|"]
    (row,) = [r for r in rows if "a\\|b" in r]
    assert "\\*c\\* \\<i\\>" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 3  # two cells
    assert "<i>" not in (out / "report.html").read_text()


def test_a_codec_of_few_rates_is_measured_once_at_each(monkeypatch):
    for levels, wanted in ((1, (50.0,)), (3, (5, 31, 83))):
        monkeypatch.setattr(ImageCodec, "_codec", lambda self, n=levels: Levels(n))
        assert ImageCodec("image/any").settings == wanted
