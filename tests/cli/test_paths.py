# SPDX-License-Identifier: Apache-2.0
"""Names of outputs for one file, many files and trees; values as people write them."""

from __future__ import annotations

import os
import pathlib

import pytest

from polycodec.cli.batch import source_of
from polycodec.cli.values import parse_region, parse_size
from polycodec.codecs.files import jobs, kinds
from polycodec.codecs.files.jobs import plan
from polycodec.codecs.files.results import readable
from polycodec.errors import InputError, UsageError


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "b/1.png", "b/1.jpg", "b/deep/2.PNG", "b/.hidden/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "b" / "text.txt").touch()
    (tmp_path / "out").mkdir()


def planned(*inputs: str, output: str | None = None) -> dict[str, str]:
    jobs = plan(inputs, output, suffix=".plc", refuse=refuse).jobs
    return {pathlib.Path(j.input).as_posix(): j.output.replace("\\", "/") for j in jobs}


def refuse(name: str) -> str | None:
    return None if name.lower().endswith((".png", ".jpg")) else "no picture"


def left(*inputs: str) -> dict[str, str]:
    found = plan(inputs, "new", suffix=".plc", refuse=refuse).left
    return {pathlib.Path(name).as_posix(): reason for name, reason in found.items()}


def test_one_file():
    assert planned("a/1.png") == {"a/1.png": "a/1.plc"}
    assert planned("a/1.png", output="x.plc") == {"a/1.png": "x.plc"}
    assert planned("a/1.png", output="out") == {"a/1.png": "out/1.plc"}
    assert planned("a/1.png", output="new/") == {"a/1.png": "new/1.plc"}
    assert planned("-") == {"-": "-"}
    assert planned("a/1.png", output="-") == {"a/1.png": "-"}


def test_a_folder_is_mirrored_without_hidden_and_other_files():
    expected = {
        "b/1.png": "new/1.png.plc",  # 1.png and 1.jpg must not meet
        "b/1.jpg": "new/1.jpg.plc",
        "b/deep/2.PNG": "new/deep/2.plc",
    }
    assert planned("b", output="new") == expected
    assert planned("b/deep") == {"b/deep/2.PNG": "b/deep/2.plc"}


def test_many_inputs_keep_their_places_below_what_they_share():
    found = planned("a/1.png", "b/1.png", output="out")
    assert found == {"a/1.png": "out/a/1.plc", "b/1.png": "out/b/1.plc"}
    found = planned("b/1.png", "b/deep/2.PNG", output="out")
    assert found == {"b/1.png": "out/1.plc", "b/deep/2.PNG": "out/deep/2.plc"}
    assert planned("a", "b/deep", output="out") == {
        "a/1.png": "out/a/1.plc",
        "b/deep/2.PNG": "out/b/deep/2.plc",
    }
    # The same file twice is one file.
    assert planned("a/1.png", "a/1.png") == {"a/1.png": "a/1.plc"}
    assert planned("a/1.png", "a/../a/1.png") == {"a/1.png": "a/1.plc"}


def test_what_a_folder_holds_and_is_not_taken_has_a_reason(tmp_path):
    expected = {"b/.hidden": "hidden", "b/text.txt": "no picture"}
    assert left("b") == expected
    try:
        (tmp_path / "b/linked").symlink_to(tmp_path / "a")
        (tmp_path / "b/gone.png").symlink_to(tmp_path / "nowhere")
        os.mkfifo(tmp_path / "b/pipe.png")
    except (OSError, AttributeError):
        pytest.skip("no links or pipes here")
    (tmp_path / "b/.4.png").touch()
    assert left("b") == expected | {
        "b/linked": "a link to a folder; name it to take it too",
        "b/gone.png": "a broken link",
        "b/pipe.png": "no regular file",
        "b/.4.png": "hidden",
    }


def test_what_holds_no_signal_is_left_out_with_the_words_of_its_error(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(kinds.NO_SIGNAL, "scene", "a scene: see polycodec render")
    for kind, words in kinds.NO_SIGNAL.items():
        monkeypatch.setattr(jobs, "stored_kind", lambda path, kind=kind: kind)
        with pytest.raises(InputError, match=f"found 4 {words}, 1 hidden"):
            jobs.decoding(["b"], "out", format="png")
        with pytest.raises(InputError, match=f"holds {words}"):
            kinds.kind_named(kind)


def test_outputs_never_meet_and_never_replace_an_input(tmp_path):
    (tmp_path / "b/1.png.gif").touch()  # 1.png and 1.jpg keep their suffixes
    with pytest.raises(UsageError, match=r"would both become .*1\.png\.plc"):
        planned("b/1.png", "b/1.jpg", "b/1.png.gif")
    with pytest.raises(UsageError, match="is an input"):
        planned("a/1.png", output="a/1.png")
    (tmp_path / "a/1.plc").touch()
    with pytest.raises(UsageError, match=r"a/1\.plc is an input"):
        planned("a/1.plc")


def test_a_name_that_was_meant_as_the_output_is_asked_about():
    def made(name: str) -> bool:
        return name.endswith(".plc")

    for names in (["a/1.png", "new.plc"], ["a/1.png", "b/1.png", "new.plc"]):
        with pytest.raises(UsageError, match=r"did you mean -o new\.plc\?"):
            plan(names, None, suffix=".plc", refuse=refuse, made=made)
    with pytest.raises(UsageError, match=r"no such file; did you mean -o back\.gif\?"):
        plan(["a/1.png", "back.gif"], None, suffix=".plc", refuse=refuse)
    # One wrong name among many is one failure among many.
    names = ["a/1.png", "b/1.png", "wrong.png"]
    assert len(plan(names, None, suffix=".plc", refuse=refuse, made=made).jobs) == 3


def test_names_of_the_standard_streams_are_streams():
    assert planned("/dev/stdin", output="/dev/stdout") == {"-": "-"}
    assert planned("a/1.png", output="/dev/fd/1") == {"a/1.png": "-"}


def test_refusals():
    with pytest.raises(InputError, match="nothing to do in the folder out; found no f"):
        planned("out")
    jobs = planned("out", "a", output="new")  # among others it is one failure
    assert jobs["out"] and jobs["a/1.png"]
    with pytest.raises(InputError, match="nothing to do in the folder out; check"):
        source_of("out")
    with pytest.raises(InputError, match="does not exist"):
        planned("b", output="no/such")
    with pytest.raises(UsageError, match="is a file"):
        planned("b", output="a/1.png")
    with pytest.raises(UsageError, match="one stream"):
        planned("a/1.png", "b/1.png", output="-")
    with pytest.raises(UsageError, match="folder"):
        planned("b", output="-")


def test_sizes():
    for text, size in {
        "4096": 4096,
        "50kB": 50_000,
        "50 KB": 50_000,
        "1.5MB": 1_500_000,
        ".5k": 500,
        "64KiB": 65_536,
        "2GB": 2_000_000_000,
        "7B": 7,
    }.items():
        assert parse_size(text) == size, text
    for text in ("", "kB", "-5", "5 apples", "1e3", "0", "0.2", "nan", "5kBB"):
        with pytest.raises(UsageError):
            parse_size(text)


def test_regions():
    assert parse_region("1,2,3,4") == parse_region(" 1, 2, 3, 4 ") == (1, 2, 3, 4)
    for text in ("", "1,2,3", "1,2,3,4,5", "-1,2,3,4", "1,2,0,4", "a,b,c,d"):
        with pytest.raises(UsageError):
            parse_region(text)


def test_bytes_for_people():
    sizes = (0, 999, 1000, 45_231, 999_999, 1_500_000, 2 * 10**9)
    expected = ["0 B", "999 B", "1.00 kB", "45.2 kB", "1000 kB", "1.50 MB", "2.00 GB"]
    assert [readable(size) for size in sizes] == expected
