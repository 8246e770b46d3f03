# SPDX-License-Identifier: Apache-2.0
"""The command line on sound: results, parts, pipes, batches, what bad input gets."""

from __future__ import annotations

import io
import json
import pathlib
import sys
import types

import numpy as np
import pytest
import soundfile

from polycodec.cli.values import parse_seconds
from polycodec.errors import UsageError


def talk(path: pathlib.Path, seconds: float = 12.5, rate: int = 16000, channels=1):
    """A file of slow tones; returns its path."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    x = 0.5 * np.sin(2 * np.pi * (3 + np.arange(channels)) * t)
    soundfile.write(path, x, rate)
    return path


@pytest.fixture(autouse=True)
def weights(sound_weights):
    """Every command finds the tiny codec."""
    return sound_weights


def test_sound_becomes_a_file_and_sound_again(cli, tmp_path):
    talk(tmp_path / "talk.flac", 2.5, 44100, 2)
    code, out, err = cli("encode", "talk.flac", "-q", 100)
    size = (tmp_path / "talk.plc").stat().st_size
    assert code == 0, err
    assert out.startswith("talk.flac -> talk.plc") and "kbps  q 100" in out
    lines = err.splitlines()
    assert len(lines) == 2 and "2 channels are mixed into one" in lines[0]
    assert "44100 Hz are coded at 16000 Hz" in lines[1]
    code, out, _ = cli("info", "talk.plc", "--json")
    values = json.loads(out)
    assert values["kind"] == "speech" and values["geometry"]["source_channels"] == 2
    assert values["kbps"] == pytest.approx(8 * size / 1000 / 2.5)
    assert cli("info", "talk.plc")[0] == cli("verify", "talk.plc")[0] == 0
    code, out, err = cli("decode", "talk.plc")
    assert (code, err) == (0, "") and "2.50 s of 44100 Hz" in out
    assert soundfile.info("talk.wav").frames == 110250
    assert cli("decode", "talk.plc", "-o", "talk.ogg")[0] == 0
    assert soundfile.info("talk.ogg").subtype == "VORBIS"


def test_json_of_sound(cli, tmp_path):
    talk(tmp_path / "a.wav")
    code, out, _ = cli("encode", "a.wav", "--json", "--target-kbps", 2)
    row, size = json.loads(out), (tmp_path / "a.plc").stat().st_size
    assert code == 0 and row["bytes"] == size and "bpp" not in row
    assert row["kbps"] == pytest.approx(8 * size / 1000 / 12.5) and row["kbps"] <= 2
    assert {"estimated_kbps", "seconds", "quality", "model", "notes"} <= set(row)
    code, out, _ = cli("decode", "a.plc", "--json", "-o", "b.wav", "--seconds", "10:")
    row = json.loads(out)
    assert row["duration"] == 2.5 and row["damaged"] == []


def test_targets(cli, tmp_path):
    talk(tmp_path / "a.wav")
    assert cli("encode", "a.wav", "--target-size", "3kB")[0] == 0
    assert (tmp_path / "a.plc").stat().st_size <= 3000
    for args, word in (
        (("--target-kbps", 0.001), "lowest rate"),
        (("--target-kbps", 3, "-q", 5), "exclude each other"),
        (("--min-psnr", 30), "is for images"),
        (("--channels", "five"), "mix or keep"),
    ):
        code, _, err = cli("encode", "a.wav", "--force", *args)
        assert code == 2 and word in err, err


def test_a_part_by_seconds(cli, tmp_path):
    talk(tmp_path / "a.wav")
    cli("encode", "a.wav")
    cli("decode", "a.plc", "-o", "whole.wav")
    code, out, _ = cli("decode", "a.plc", "-o", "part.wav", "--seconds", "9.5:10.25")
    assert code == 0 and "0.75 s" in out
    whole, part = soundfile.read("whole.wav")[0], soundfile.read("part.wav")[0]
    assert np.array_equal(part, whole[152000:164000])
    code, _, err = cli("decode", "a.plc", "-o", "x.wav", "--seconds", "12:13")
    assert code == 2 and "inside 0:12.500" in err


def test_seconds_as_people_write_them():
    assert parse_seconds("2.5:10") == (2.5, 10)
    assert parse_seconds(":3") == (0, 3) and parse_seconds(" 4: ") == (4, None)
    for text in ("", "5", "a:b", "3:2", "2:2", "-1:2", "1:2:3", "nan:1", "1e3:"):
        with pytest.raises(UsageError, match="A:B"):
            parse_seconds(text)


class Stdin(io.BytesIO):
    """Standard input as a pipe."""

    def seekable(self) -> bool:
        return False


def test_pipes_both_ways(cli, tmp_path, monkeypatch, weights):
    talk(tmp_path / "a.wav", 1.2)

    def piped(command: str, data: bytes) -> bytes:
        out = io.BytesIO()
        writer = io.TextIOWrapper(out, write_through=True)
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=Stdin(data)))
        monkeypatch.setattr(sys, "stdout", writer)
        code, _, err = cli(command, "-")
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        assert code == 0 and "- -> -" in err
        return out.getvalue()

    coded = piped("encode", (tmp_path / "a.wav").read_bytes())
    assert cli("encode", "a.wav")[0] == 0
    assert coded == (tmp_path / "a.plc").read_bytes()
    sound = piped("decode", coded)
    assert cli("decode", "a.plc", "-o", "b.wav")[0] == 0
    assert sound == (tmp_path / "b.wav").read_bytes()


def test_a_folder_of_sound(cli, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    talk(tmp_path / "in" / "a.wav", 0.3)
    talk(tmp_path / "in" / "deep" / "b.flac", 0.3)
    (tmp_path / "in" / "c.mp3").write_bytes(b"no sound at all")
    code, out, err = cli("encode", "in", "-o", "packed")
    assert code == 3 and len(out.splitlines()) == 2
    assert "1 of 3 inputs failed" in err and "c.mp3" in err
    code, out, _ = cli("decode", "packed", "-o", "back")
    assert code == 0
    made = {p.relative_to("back").as_posix() for p in pathlib.Path("back").rglob("*.*")}
    assert made == {"a.wav", "deep/b.wav"}


def test_a_damaged_file(cli, tmp_path):
    talk(tmp_path / "a.wav", 25)
    cli("encode", "a.wav")
    path = tmp_path / "a.plc"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, out, err = cli("decode", "a.plc", "-o", "b.wav")
    assert (code, out) == (4, "") and err.count("\n") == 1
    assert "chunk 2 of 3" in err and "intact seconds: 0.0 to 20.0" in err
    assert not (tmp_path / "b.wav").exists()
    code, _, err = cli("decode", "a.plc", "-o", "b.wav", "--salvage")
    assert code == 0 and "from second 20.0 to 25.0 is damaged" in err
    assert soundfile.info("b.wav").frames == 25 * 16000


def test_bad_sound_leaves_nothing(cli, tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    for name, word in (("nan.wav", "NaN"), ("gone.wav", "no such file")):
        code, out, err = cli("encode", name)
        assert (code, out) == (3, "") and word in err and err.count("\n") == 1
        assert not list(tmp_path.glob("*.plc"))


def test_info_and_verify_of_sound_load_no_torch(cli, loaded_by, tmp_path):
    talk(tmp_path / "a.wav", 0.2)
    cli("encode", "a.wav")
    for command in ("info", "verify"):
        loaded = loaded_by(command, "a.plc")
        assert "polycodec.cli.main" in loaded
        assert not loaded & {"torch", "soundfile", "av"}


def test_a_sound_that_grew_is_said(cli, tmp_path, sound_weights):
    soundfile.write(tmp_path / "still.flac", np.zeros(80000), 16000)
    code, _, err = cli("encode", "still.flac")
    assert code == 0 and "the file is larger than its source, " in err
    grown = (tmp_path / "still.plc").stat().st_size
    assert grown >= (tmp_path / "still.flac").stat().st_size
