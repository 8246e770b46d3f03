# SPDX-License-Identifier: Apache-2.0
"""The command line on images: results, names of outputs, batches, streams."""

from __future__ import annotations

import json
import logging
import pathlib

import numpy as np
import pytest
from PIL import Image


def test_a_photo_becomes_a_file_and_a_photo_again(
    cli, photo, tiny_checkpoint, tmp_path
):
    code, out, err = cli("encode", photo, "--checkpoint", tiny_checkpoint, "-q", 70)
    made = tmp_path / "photo.plc"
    assert (code, err) == (0, "")
    assert (
        out.startswith(f"{photo} -> {made}  {made.stat().st_size} B") and "q 70" in out
    )
    code, out, err = cli(
        "decode", made, "-o", "back.png", "--checkpoint", tiny_checkpoint
    )
    assert (code, err) == (0, "")
    with Image.open("back.png") as back:
        assert back.size == (80, 72)


def test_json_is_one_object_for_each_input(cli, tree, tiny_checkpoint, tmp_path):
    code, out, _ = cli(
        "encode", tree, "-o", "o", "--json", "--psnr", "--checkpoint", tiny_checkpoint
    )
    left, *rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 3
    notes = str(tree / "notes.txt")
    assert left == {"input": notes, "left_out": "no image, no video and no speech"}
    for row in rows:
        size = pathlib.Path(row["output"]).stat().st_size
        assert row["bytes"] == size
        assert row["bpp"] == pytest.approx(8 * size / (80 * 72))
        assert 0 < row["estimated_bpp"] <= row["bpp"]
        assert {"input", "model", "seconds", "quality", "psnr", "notes"} <= set(row)


def test_a_folder_is_mirrored_there_and_back(cli, tree, tiny_checkpoint, tmp_path):
    code, out, err = cli(
        "encode", tree, "-o", "packed", "--checkpoint", tiny_checkpoint
    )
    left, total = err.splitlines()
    assert left.startswith("polycodec: left out ") and "notes.txt" in left
    assert total.startswith("polycodec: 3 of 3 files  ") and " % " in total
    made = {
        p.relative_to("packed").as_posix() for p in pathlib.Path("packed").rglob("*")
    }
    assert code == 0 and len(out.splitlines()) == 3
    assert made == {"a.plc", "2019", "2019/b.plc", "2019/c.plc"}
    code, out, _ = cli(
        "decode", "packed", "-o", "back", "--checkpoint", tiny_checkpoint
    )
    made = {p.relative_to("back").as_posix() for p in pathlib.Path("back").rglob("*.*")}
    assert code == 0 and made == {"a.png", "2019/b.png", "2019/c.png"}


def test_failures_are_listed_at_the_end_and_the_rest_is_done(
    cli, tree, tiny_checkpoint, tmp_path
):
    (tree / "bad.png").write_bytes(b"not an image")
    code, out, err = cli("encode", tree, "-o", "o", "--checkpoint", tiny_checkpoint)
    assert code == 3
    assert len(out.splitlines()) == 3
    _, total, first, second = err.splitlines()
    assert total.startswith("polycodec: 3 of 4 files")
    assert first == "polycodec: error: 1 of 4 inputs failed:"
    assert "bad.png" in second and "no image" in second
    assert len(list(pathlib.Path("o").rglob("*.plc"))) == 3


def test_streams(process, photo, tiny_checkpoint):
    made = process(
        "encode", "-", "--checkpoint", tiny_checkpoint, stdin=photo.read_bytes()
    )
    assert made.returncode == 0 and made.stdout.startswith(b"\x93PLC")
    assert made.stderr.startswith(b"- -> -")
    back = process("decode", "-", "--checkpoint", tiny_checkpoint, stdin=made.stdout)
    assert back.returncode == 0 and back.stdout.startswith(b"\x89PNG")


def test_region_decodes_a_part(cli, photo, tiny_checkpoint):
    cli("encode", photo, "-o", "p.plc", "--checkpoint", tiny_checkpoint)
    cli("decode", "p.plc", "-o", "whole.png", "--checkpoint", tiny_checkpoint)
    code, _, _ = cli(
        "decode", "p.plc", "-o", "part.png", "--region", "8,16,40,24",
        "--checkpoint", tiny_checkpoint,
    )  # fmt: skip
    whole = np.asarray(Image.open("whole.png"), dtype=int)
    part = np.asarray(Image.open("part.png"), dtype=int)
    assert code == 0 and part.shape == (24, 40, 3)
    assert np.abs(part - whole[16:40, 8:48]).max() <= 1


def test_target_size_is_kept(cli, photo, tiny_checkpoint, tmp_path):
    options = ("--force", "--checkpoint", tiny_checkpoint)
    cli("encode", photo, "-q", 0, *options)
    least = (tmp_path / "photo.plc").stat().st_size
    cli("encode", photo, "-q", 100, *options)
    most = (tmp_path / "photo.plc").stat().st_size
    wanted = (least + most) // 2
    code, _, _ = cli("encode", photo, "--target-size", wanted, *options)
    assert code == 0 and (tmp_path / "photo.plc").stat().st_size <= wanted


def test_info_and_verify(cli, photo, tiny_checkpoint):
    cli("encode", photo, "-o", "p.plc", "--checkpoint", tiny_checkpoint)
    size = pathlib.Path("p.plc").stat().st_size
    code, out, _ = cli("info", "p.plc", "--json")
    values = json.loads(out)
    assert code == 0 and values["bytes"] == size
    assert values["geometry"]["width"] == 80
    code, out, _ = cli("info", "p.plc")
    assert code == 0 and "80x72" in out and f"{values['bpp']:.3f} bpp" in out
    code, out, _ = cli("verify", "p.plc")
    assert code == 0 and out.startswith("p.plc: whole")


def test_info_and_verify_of_a_pipe(process, cli, photo, tiny_checkpoint, tmp_path):
    cli("encode", photo, "-o", "p.plc", "--checkpoint", tiny_checkpoint)
    data = (tmp_path / "p.plc").read_bytes()
    for command, word in (("info", b"80x72"), ("verify", b"-: whole")):
        done = process(command, "-", stdin=data)
        assert done.returncode == 0 and word in done.stdout, done.stderr
    assert process("verify", "-", stdin=data[:-1]).returncode == 4


def test_notes_stand_beside_the_line(cli, tmp_path, tiny_checkpoint):
    pixels = np.zeros((64, 64), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    cli("encode", "a.jpg", "--checkpoint", tiny_checkpoint)
    code, out, err = cli(
        "decode", "a.plc", "-o", "b.jpg", "--checkpoint", tiny_checkpoint
    )
    assert code == 0 and out.count("\n") == 1
    assert err == "polycodec: a.plc: JPEG is lossy: written at quality 95\n"


def test_a_config_becomes_a_run_a_codec_and_a_file(
    cli, photo, tiny_codec, tmp_path, monkeypatch
):
    pytest.importorskip("lightning", reason="needs the train extra")
    (tmp_path / "images").mkdir()
    for k in range(3):
        Image.open(photo).rotate(90 * k, expand=True).save(f"images/{k}.png")
    sections = {
        "codec": tiny_codec(),
        "data": {"train": "images", "cache": "cache", "crop": 64, "batch": 2},
        "run": {"out": "run", "steps": 2, "accelerator": "cpu"},
        "eval": {"images": 1, "size": 64, "qualities": [20, 80]},
    }
    # JSON is YAML.
    pathlib.Path("tiny.yaml").write_text(json.dumps(sections))
    assert cli("train", "tiny.yaml", "run.seed=3", "data.holdout=3")[0] == 0
    code, _, err = cli("train", "tiny.yaml")
    assert code == 3 and "--resume" in err
    code, _, err = cli("export", "run", "--install", "image/default")
    assert code == 5 and "ships with the package" in err
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code, out, err = cli("export", "run", "--install", "image/tiny", "--json")
    assert code == 0 and json.loads(out)["name"] == "image/tiny", err
    assert json.loads(cli("models", "--json")[1])[-1] == json.loads(out)
    assert cli("encode", photo, "-m", "image/tiny")[0] == 0
    code, _, err = cli("decode", "photo.plc", "-o", "b.png", "--checkpoint", "run")
    assert (code, err) == (0, "")


def test_evaluation_of_a_folder(cli, tree, tmp_path):
    for package in ("bjontegaard", "matplotlib", "torchmetrics"):
        pytest.importorskip(package, reason="needs the eval extra")
    (tree / "2019" / "c.jpg").unlink()
    code, out, err = cli(
        "eval", "--dataset", "photos", "--codec", "jpeg", "webp", "--anchors", "",
        "--limit", 1, "-o", "report",
    )  # fmt: skip
    assert code == 0, err
    assert "webp" in out.lower() and "jpeg" in out.lower()
    written = json.loads((tmp_path / "report" / "run.json").read_text())
    assert written["environment"]["command"].startswith(
        "polycodec eval --dataset photos --codec jpeg webp --anchors '' --limit 1"
    )


def test_evaluation_chooses_curves_and_picture_and_reuses(cli, tree, tmp_path):
    for package in ("bjontegaard", "matplotlib", "torchmetrics"):
        pytest.importorskip(package, reason="needs the eval extra")
    (tree / "2019" / "c.jpg").unlink()
    curve = {"label": "Of old", "bpp": [0.1, 0.5], "psnr": [20, 30]}
    both = [{"id": id_, **curve} for id_ in ("one", "two")]
    (tmp_path / "old.json").write_text(json.dumps({"photos": both}))
    own = ("eval", "--dataset", "photos", "--codec", "jpeg", "--anchors", "")
    own += ("--show", "a", "--published", "old.json", "--published-ids")
    code, _, err = cli(*own, "two", "-o", "first")
    assert code == 0, err
    written = json.loads((tmp_path / "first" / "run.json").read_text())
    assert [found["name"] for found in written["published"]] == ["two"]
    assert "a.png" in (tmp_path / "first" / "report.html").read_text()
    # The seconds tell a measurement that was taken over from one made again.
    assert cli(*own, "one", "-o", "second", "--reuse", "first")[0] == 0
    lines = [(tmp_path / d / "results.jsonl").read_bytes() for d in ("first", "second")]
    assert lines[0] and lines[0] == lines[1]
    for more, word in (
        (("two", "--reuse", "nowhere"), "nowhere"),
        (("two", "--show", "z"), "'z'"),
        (("three",), "three"),
    ):
        code, _, err = cli(*own, *more, "-o", "third")
        assert code in (3, 5) and word in err and not (tmp_path / "third").exists()


def test_models_lists_every_card(cli):
    from polycodec.codecs import zoo

    code, out, _ = cli("models", "--json")
    assert code == 0 and json.loads(out) == zoo.models()


def test_schema_is_the_one_of_the_config(cli):
    from polycodec.train.schema import json_schema

    code, out, _ = cli("schema")
    assert code == 0 and json.loads(out) == json_schema()


def test_debug_tells_what_is_done(cli, photo, tiny_checkpoint, caplog):
    weights = ("--checkpoint", tiny_checkpoint, "--force")
    with caplog.at_level(logging.DEBUG, "polycodec"):  # restores the level
        _, _, told = cli("encode", photo, "-o", "p.plc", "--debug", *weights)
        for words in (
            f"codecs.zoo: image/default of {tiny_checkpoint}, digest ",
            "on cpu; range coder: ",
            "codecs.files.image.encode: 80 x 72 rgb of 8 bits, no alpha, 1 tiles",
            "quality 50: ",
        ):
            assert words in told, (words, told)
        _, _, told = cli("decode", "p.plc", "-o", "b.png", "--debug", *weights)
        assert "p.plc: .plc version 2, images, by image/default" in told
        assert "80 x 72 at 0, 0 of 80 x 72: 1 of 1 tiles" in told
    logging.getLogger("polycodec").handlers.clear()
    assert cli("encode", photo, "-o", "p.plc", *weights)[2] == ""


def test_debug_shows_the_trace_and_its_absence_hides_it(process):
    plain = process("encode", "missing.png").stderr.decode()
    trace = process("encode", "missing.png", "--debug").stderr.decode()
    assert "Traceback" not in plain and "Traceback" in trace
