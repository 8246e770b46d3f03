# SPDX-License-Identifier: Apache-2.0
"""Videos on the command line: recognised, cut into parts, said, refused."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import types

import pytest
from PIL import Image

from polycodec.cli.values import parse_frames
from polycodec.codecs.fitting import fit as fitting
from polycodec.codecs.fitting.kept import write_kept
from polycodec.errors import UsageError
from tests.clips import read_clip, same, write_clip

pytest.importorskip("av")


def test_a_second_interrupt_says_what_is_kept(cli, tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "clip.mkv", frames=3)
    advance = fitting.Fit._advance

    def step(fit):
        advance(fit)
        if fit.step == 2:
            os.kill(os.getpid(), signal.SIGINT)  # heard by the fit
        if fit.step == 2 and fit.plan.stopped.is_set():
            write_kept(fit, fit.plan.kept)
            os.kill(os.getpid(), signal.SIGINT)  # by nobody

    monkeypatch.setattr(fitting.Fit, "_advance", step)
    given = ("-m", "video/nerv-small", "--effort", 9)
    # In the background of a shell it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = cli("encode", clip, "-o", "clip.plc", *given)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and "clip.plc.fit0 keeps the fit, --resume goes on" in err
    assert [p.name for p in tmp_path.glob("clip.plc*")] == ["clip.plc.fit0"]


def test_a_clip_there_and_back_and_a_part_of_it(cli, tmp_path, tiny_checkpoint):
    clip = write_clip(tmp_path / "clip.mkv", sound="flac")
    model = ("--checkpoint", tiny_checkpoint)
    code, out, err = cli("encode", clip, "--gop", 4, *model)
    assert code == 0 and "10 frames" in out and " fps" in out, err
    assert "its sound is copied (flac" in err
    code, out, _ = cli("info", "clip.plc")
    assert code == 0 and "48x32, frames 10, gop 4" in out and "sound 1" in out
    assert cli("verify", "clip.plc")[0] == 0
    assert cli("decode", "clip.plc", "-o", "back.mkv", *model)[0] == 0
    part = ("--frames", "5:7", "--json")
    code, out, _ = cli("decode", "clip.plc", "-o", "part.mkv", *part, *model)
    assert code == 0 and json.loads(out)["frames"] == 2
    whole = read_clip(tmp_path / "back.mkv")[1]
    assert same(read_clip(tmp_path / "part.mkv")[1], whole[5:7])
    code, _, err = cli("decode", "clip.plc", "-o", "c.mkv", "--frames", "5:11", *model)
    assert code == 2 and "inside 0:10" in err and not (tmp_path / "c.mkv").exists()
    code, _, err = cli("encode", clip, "--as", "film")
    assert code == 2 and "as is 'film'; expected image or video or sound" in err


def test_a_folder_of_frames_is_a_video_where_asked(cli, tmp_path, tiny_checkpoint):
    (tmp_path / "f").mkdir()
    for k in (1, 2, 10):
        Image.new("RGB", (20, 20), (9 * k, 9, 9)).save(tmp_path / "f" / f"{k}.png")
    model = ("--checkpoint", tiny_checkpoint)
    code, out, err = cli("encode", "f", "--as", "video", *model)
    assert code == 0 and "f -> f.plc" in out and "3 frames" in out, err
    (tmp_path / "g").mkdir()
    assert cli("decode", "f.plc", "-o", "g/%02d.png", *model)[0] == 0
    assert sorted(p.name for p in (tmp_path / "g").iterdir()) == [
        "00.png",
        "01.png",
        "02.png",
    ]
    red = [Image.open(tmp_path / "g" / f"{k:02d}.png").getpixel((9, 9)) for k in (0, 2)]
    assert len(red) == 2


def test_a_pipe_of_y4m(cli, tmp_path, monkeypatch, tiny_checkpoint):
    y4m = {"codec": "rawvideo", "container": "yuv4mpegpipe"}
    clip = write_clip(tmp_path / "a.y4m", frames=3, **y4m)
    model = ("--checkpoint", tiny_checkpoint)

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = types.SimpleNamespace(buffer=Pipe(clip.read_bytes()))
    monkeypatch.setattr(sys, "stdin", pipe)
    code, _, err = cli("encode", "-", "-o", "p.plc", *model)
    assert code == 0, err
    assert cli("encode", "a.y4m", *model)[0] == 0
    assert (tmp_path / "p.plc").read_bytes() == (tmp_path / "a.plc").read_bytes()
    pipe.buffer = Pipe((tmp_path / "p.plc").read_bytes())
    assert cli("decode", "-", "-o", "p.y4m", *model)[0] == 0
    assert len(read_clip(tmp_path / "p.y4m")[1]) == 3


def test_frames_as_people_write_them():
    assert parse_frames("100:125") == (100, 125) and parse_frames(":") == (0, None)
    for text in ("5", "7:7", "a:b", "1.5:3", "-1:3"):
        with pytest.raises(UsageError, match="are no frames"):
            parse_frames(text)


def test_info_of_a_video_loads_no_torch(cli, loaded_by, tmp_path, tiny_checkpoint):
    write_clip(tmp_path / "a.mkv", frames=2)
    assert cli("encode", "a.mkv", "--checkpoint", tiny_checkpoint)[0] == 0
    assert not {"torch", "av"} & loaded_by("info", "a.plc")
