# SPDX-License-Identifier: Apache-2.0
"""Folders: what is there already, other formats, info and verify of all in them."""

from __future__ import annotations

import json
import pathlib

import pytest
from PIL import Image


@pytest.fixture
def weights(tiny_checkpoint):
    return "--checkpoint", tiny_checkpoint


@pytest.fixture
def packed(cli, tree, weights) -> pathlib.Path:
    """The folder of three photographs, encoded."""
    assert cli("encode", tree, "-o", "packed", *weights)[0] == 0
    return pathlib.Path("packed")


def times(folder: pathlib.Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("*.*")}


def test_a_second_run_does_what_is_not_there_yet(cli, tree, packed, weights):
    before = times(packed)
    code, out, err = cli("encode", tree, "-o", packed, *weights)
    assert code == 3 and out == "" and err.count("exists already") == 3
    (packed / "2019" / "b.plc").unlink()
    again = ("encode", tree, "-o", packed, "--skip-existing", *weights)
    code, out, err = cli(*again)
    assert code == 0 and out.count("\n") == 1 and "b.plc" in out
    assert err.count("a.plc exists already") == err.count("c.plc exists already") == 1
    after = times(packed)
    assert after.keys() == before.keys()
    assert {n for n in after if after[n] != before[n]} == {"b.plc"}
    code, out, err = cli(*again, "--json")  # nothing is left to do: no error
    left = [json.loads(line)["left_out"] for line in out.splitlines()]
    assert code == 0 and sum("exists already" in reason for reason in left) == 3


def test_decoding_leaves_out_what_is_there_too(cli, packed, weights):
    assert cli("decode", packed, "-o", "back", *weights)[0] == 0
    before = times(pathlib.Path("back"))
    code, out, _ = cli("decode", packed, "-o", "back", "--skip-existing", *weights)
    assert code == 0 and out == "" and times(pathlib.Path("back")) == before


def test_a_folder_is_decoded_to_another_format(cli, packed, weights):
    code, _, err = cli("decode", packed, "-o", "back", "--format", "webp", *weights)
    assert code == 0 and err.count("WebP is lossy") == 3
    made = {p.relative_to("back").as_posix() for p in pathlib.Path("back").rglob("*.*")}
    assert made == {"a.webp", "2019/b.webp", "2019/c.webp"}
    assert Image.open("back/a.webp").format == "WEBP"
    code, _, err = cli("decode", packed, "-o", "gone", "--format", "gif", *weights)
    assert code == 2 and "'gif'" in err and not pathlib.Path("gone").exists()


@pytest.mark.parametrize("command", ["info", "verify"])
def test_all_files_of_a_folder_are_looked_at(cli, packed, command):
    (packed / "notes.txt").write_text("no image")
    code, out, err = cli(command, packed, "--json")
    left, *rows = map(json.loads, out.splitlines())
    assert code == 0 and err == ""
    assert left == {"input": "packed/notes.txt", "left_out": "not a .plc file"}
    names = [pathlib.Path(row["input"]).as_posix() for row in rows]
    assert sorted(names) == [f"packed/{n}.plc" for n in ("2019/b", "2019/c", "a")]
    for row in rows:
        assert row["bytes"] == pathlib.Path(row["input"]).stat().st_size


def test_a_damaged_file_of_a_folder_is_named_and_the_others_are_checked(cli, packed):
    path = packed / "2019" / "b.plc"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    code, out, err = cli("verify", packed)
    assert code == 4 and out.count(": whole") == 2
    assert "1 of 3 inputs failed" in err and "b.plc: " in err and "corrupt" in err
