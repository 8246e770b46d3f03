# SPDX-License-Identifier: Apache-2.0
"""What bad input gets: one line, the exit code of its kind, nothing written."""

from __future__ import annotations

import errno
import pathlib
import sys

import pytest
from PIL import Image

from polycodec.cli.failure import explain
from polycodec.errors import InputError


def refused(answer: tuple[int, str, str], code: int, *words: str) -> None:
    """Check exit code, that stderr is the one line, and the words in it."""
    found, out, err = answer
    assert (found, out) == (code, ""), err
    assert err.startswith("polycodec: error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err


def files(folder: pathlib.Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


RUN_IN_BASH = "import subprocess, sys; subprocess.run(['bash', '-c', sys.argv[1]])"

USAGE = [
    (("encode", "photo.png", "-q", 101), "from 0 to 100"),
    (("encode", "photo.png", "-q", -1), "from 0 to 100"),
    (("encode", "photo.png", "-q", "nan"), "from 0 to 100"),
    (("encode", "photo.png", "-q", "good"), "-q"),
    (("encode", "photo.png", "-q", 5, "--min-psnr", 30), "exclude each other"),
    (("encode", "photo.png", "--target-size", "5 apples"), "is no size"),
    (("encode", "photo.png", "--target-bpp", "-1"), "at least 0"),
    (("encode", "photo.png", "--device", "tpu"), "auto, cpu or cuda"),
    (("encode", "photo.png", "--alpha", "gone"), "lossless or codec"),
    (("encode", "photo.png", "--qality", 5), "--qality"),
    (("encode",), "IN"),
    (("encode", "photo.png", "-", "-o", "x"), "one stream"),
    (("decode", "photo.png", "--region", "1,2,3"), "X,Y,W,H"),
    (("decode", "photo.png", "--region", "0,0,0,5"), "X,Y,W,H"),
    (("unknown",), "unknown"),
    (("eval", "--anchors", "jpeg"), "--output"),
]


@pytest.mark.parametrize(("args", "word"), USAGE)
def test_usage(cli, photo, args, word):
    before = files(photo.parent)
    refused(cli(*args), 2, word)
    assert files(photo.parent) == before


def bad_inputs(folder: pathlib.Path) -> dict[str, tuple[bytes | None, str]]:
    png = (folder / "photo.png").read_bytes()
    Image.new("CMYK", (8, 8)).save(folder / "cmyk.jpg")
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    return {
        "missing.png": (None, "no such file"),
        "empty.png": (b"", "empty"),
        "text.png": (b"This is no image.", "no image"),
        "cut.png": (png[: len(png) // 2], "cut"),
        "cmyk.jpg": (None, "CMYK"),
        "moving.webp": (None, "animation"),
    }


def test_inputs(cli, photo, tiny_checkpoint):
    folder = photo.parent
    for name, (data, word) in bad_inputs(folder).items():
        if data is not None:
            (folder / name).write_bytes(data)
        before = files(folder)
        refused(cli("encode", name, "--checkpoint", tiny_checkpoint), 3, name, word)
        assert files(folder) == before


def test_outputs(cli, photo, tiny_checkpoint, tmp_path):
    weights = ("--checkpoint", tiny_checkpoint)
    refused(cli("encode", photo, "-o", "no/x.plc", *weights), 3, "does not exist")
    refused(cli("encode", photo, photo, "-o", "no/x", *weights), 3, "does not exist")
    (tmp_path / "photo.plc").write_bytes(b"precious")
    refused(
        cli("encode", photo, *weights),
        3,
        "exists already",
        "name another output with -o",
    )
    refused(
        cli("encode", photo, "-o", "photo.plc", *weights),
        *(3, "exists already", "--force"),
    )
    assert (tmp_path / "photo.plc").read_bytes() == b"precious"
    assert files(tmp_path) == {"photo.png", "photo.plc"}
    assert cli("encode", photo, "--force", *weights)[0] == 0
    assert (tmp_path / "photo.plc").read_bytes() != b"precious"


def test_models(cli, photo, tiny_checkpoint, tmp_path):
    refused(cli("encode", photo, "-m", "image/defualt"), 5, "image/defualt")
    refused(cli("encode", photo, "--checkpoint", tmp_path), 5, "export")
    bad = tmp_path / "w.safetensors"
    bad.write_bytes(b"no weights")
    refused(cli("encode", photo, "--checkpoint", bad), 5, "w.safetensors")
    assert not (tmp_path / "photo.plc").exists()


@pytest.fixture
def plc(cli, photo, tiny_checkpoint, tmp_path) -> bytes:
    cli("encode", photo, "--checkpoint", tiny_checkpoint)
    data = (tmp_path / "photo.plc").read_bytes()
    (tmp_path / "photo.plc").unlink()
    return data


def damaged(data: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "future": (data[:4] + b"\x04" + data[5:], "version 4"),
        "cut": (data[:-3], "cut"),
        "flipped": (data[:-3] + bytes([data[-3] ^ 1]) + data[-2:], "chunk"),
        "other": (b"\x89PNG" + data[4:], "not a .plc file"),
        "empty": (b"", "empty.plc"),
    }


def test_bitstreams(cli, plc, tiny_checkpoint, tmp_path):
    for name, (data, word) in damaged(plc).items():
        file = tmp_path / f"{name}.plc"
        file.write_bytes(data)
        before = files(tmp_path)
        refused(cli("verify", file), 4, word)
        refused(cli("decode", file, "--checkpoint", tiny_checkpoint), 4, word)
        assert files(tmp_path) == before


def test_other_weights(cli, plc, tiny_checkpoint, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from polycodec.codecs.stored import load_codec

    file, other = tmp_path / "p.plc", tmp_path / "other.safetensors"
    file.write_bytes(plc)
    with safe_open(tiny_checkpoint, "pt") as weights:
        tensors = {key: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
        tensors["rates.gain.log_scale"] += 0.25
        save_file(tensors, other, weights.metadata())
    load_codec(other)  # weights of another digest, but weights
    refused(cli("decode", file, "--checkpoint", other), 5, "digest")


def test_region_outside(cli, plc, tiny_checkpoint, tmp_path):
    (tmp_path / "p.plc").write_bytes(plc)
    args = ("decode", "p.plc", "--checkpoint", tiny_checkpoint)
    refused(cli(*args, "--region", "60,0,40,20"), 2, "80x72")
    assert files(tmp_path) == {"photo.png", "p.plc"}


def test_a_failed_batch_leaves_no_empty_folder(cli, tiny_checkpoint, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "x.png").write_bytes(b"no")
    code, out, err = cli("encode", "in", "-o", "out", "--checkpoint", tiny_checkpoint)
    assert (code, out) == (3, "") and len(err.splitlines()) == 3
    assert not (tmp_path / "out").exists()


def test_train_says_which_key_is_wrong(cli, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "data: {train: x, crob: 64}\nrun: {out: r, steps: 1}"
    )
    refused(cli("train", "c.yaml"), 2, "crob", "crop")
    refused(cli("train", "missing.yaml"), 3, "missing.yaml")
    assert not (tmp_path / "r").exists()  # run.out: nothing was begun


def test_a_reader_that_went_away_gets_no_message(process):
    # The reading end is closed long before anything is written.
    script = f"{sys.executable} -m polycodec schema | true"
    done = process(script, python=("-c", RUN_IN_BASH))
    assert (done.stdout, done.stderr) == (b"", b"")


def test_what_the_machine_refuses_has_a_name():
    full = OSError(errno.ENOSPC, "No space left on device", "out.plc")
    assert explain(full)[0] == 3 and "No space left" in explain(full)[1]
    assert explain(MemoryError()) == explain(RuntimeError("can't allocate memory: 1"))
    assert explain(MemoryError())[0] == InputError.exit_code
    missing = ModuleNotFoundError("no", name="lightning.fabric")
    assert explain(missing)[0] == 2 and "polycodec[train]" in explain(missing)[1]
    code, message = explain(ValueError("x\ny"))
    assert code == 1 and message.startswith("unexpected ValueError: x y; ")
    assert "--debug" in message


def test_no_memory_while_reading_is_no_damage(cli, photo, tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("polycodec.codecs.files.image.read._read", full)
    refused(cli("encode", photo), 3, "out of memory", "ulimit -v")
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    monkeypatch.setattr("polycodec.codecs.files.speech.read._backend", full)
    refused(cli("encode", "a.wav"), 3, "out of memory")
