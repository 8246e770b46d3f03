# SPDX-License-Identifier: Apache-2.0
"""What is said: one table of commands, exit codes and messages, word for word.

``photo.png`` is a picture, ``photo.plc`` and ``talk.plc`` were made of signals,
``other`` is a folder of one text file, ``empty`` one of none.
"""

from __future__ import annotations

import pathlib
import shutil

import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "v1" / "files"

LONG = "0," * 500_000
TABLE: list[tuple[str, int, str]] = [
    # The habit of other tools: the second name is the output.
    (
        "decode photo.plc back.png",
        2,
        "back.png: no such file; did you mean -o back.png?",
    ),
    (
        "decode photo.plc photo.png",
        2,
        "photo.png: that is no input; did you mean -o photo.png?",
    ),
    (
        "encode photo.png out.plc",
        2,
        "out.plc: no such file; did you mean -o out.plc?",
    ),
    (
        "encode photo.png photo.plc",
        2,
        "photo.plc: that is no input; did you mean -o photo.plc?",
    ),
    # Nobody typed the name: no advice to replace it.
    (
        "encode photo.png",
        3,
        "photo.png: photo.plc exists already; name another output with -o, or leave "
        "such files out with --skip-existing",
    ),
    (
        "decode photo.plc",
        3,
        "photo.plc: photo.png exists already; name another output with -o, or leave "
        "such files out with --skip-existing",
    ),
    (
        "encode photo.png -o photo.plc",
        3,
        "photo.png: photo.plc exists already; use --force to replace it",
    ),
    # An input is never replaced.
    (
        "encode photo.png -o photo.png --force",
        2,
        "photo.png is an input, and would be replaced by what becomes of photo.png; "
        "name another output with -o",
    ),
    (
        "tokens talk.plc -o talk.plc --force",
        2,
        "talk.plc is an input, and would be replaced by what becomes of talk.plc; "
        "name another output with -o",
    ),
    # The name says another format.
    (
        "encode photo.png -o out.avif",
        2,
        "out.avif would be a .plc file under another format's name; name one that "
        "ends in .plc; a decoded file is written by decode",
    ),
    (
        "decode photo.plc -o out.gif",
        2,
        "cannot write images as '.gif'; expected one of .png, .jpg, .jpeg, .webp, "
        ".tif, .tiff, .avif, .ppm, .pgm, .pnm",
    ),
    (
        "decode talk.plc -o out.xyz",
        2,
        "cannot write speech as '.xyz'; expected one of .wav, .flac, .ogg, .oga, "
        ".opus, .mp3, .aif, .aiff",
    ),
    (
        "decode photo.plc --format docx",
        2,
        "no image, video or speech is written as 'docx'; see the README",
    ),
    # Folders.
    (
        "encode other",
        3,
        "nothing to do in the folder other; found 1 no image, no video and no "
        "speech; "
        "check the path",
    ),
    (
        "decode empty",
        3,
        "nothing to do in the folder empty; found no files; check the path",
    ),
    (
        "encode photo.png other -o -",
        2,
        "'-' is one stream; found 2 inputs; give one input, or a folder with -o",
    ),
    # Names cannot write on the terminal, values cannot fill it.
    ("info \x1b[31mred.plc", 3, r"no such file: \x1b[31mred.plc; check the path"),
    ("info gone\u202epng.plc", 3, r"no such file: gone\u202epng.plc; check the path"),
    (
        f"decode photo.plc -o x.png --region {LONG}",
        2,
        f"'{LONG[:699]} ... ; expected X,Y,W,H in pixels, for example 0,0,256,256",
    ),
]


@pytest.fixture
def folder(cli, photo, tmp_path) -> pathlib.Path:
    images = sorted(GOLDEN.glob("image-*.plc")) or sorted(GOLDEN.glob("*.plc"))
    speech = sorted(GOLDEN.glob("speech*.plc"))
    shutil.copy(images[0], tmp_path / "photo.plc")
    shutil.copy(speech[0], tmp_path / "talk.plc")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(("line", "code", "message"), TABLE, ids=lambda v: str(v)[:40])
def test_the_table(cli, folder, line, code, message):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found, out, err = cli(*line.split(" "))
    assert (found, out) == (code, ""), err
    head, tail = message.split(" ... ") if " ... " in message else (message, "")
    said = err.removeprefix("polycodec: error: ").removesuffix("\n")
    assert len(said) < 1100
    if tail:
        assert said.startswith(head) and said.endswith(tail)
    else:
        assert said == message
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
