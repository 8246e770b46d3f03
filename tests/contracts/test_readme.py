# SPDX-License-Identifier: Apache-2.0
"""The README's examples run, its commands exist.

Each bash or python block follows a comment: `<!-- run -->`, and this file runs it in
a folder with a photograph, or `<!-- not run: reason -->`.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re

import pytest
from examples import RUN, blocks, check_marks, commands

from polycodec.codecs import zoo

soundfile = pytest.importorskip("soundfile")

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks(ROOT / "README.md")
CARDS = sorted((ROOT / "codecs" / "weights").glob("*.json"))


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_terms_of_what_weights_learned_from_are_said_where_their_licence_is(path):
    card = json.loads(path.read_text(encoding="utf-8"))
    said = " ".join(README.split("## License", 1)[1].split())
    assert card["license"] in said and len(card["training_data"]) > 50
    for terms in ("research", "non-commercial"):
        assert terms not in card["training_data"] or terms in said


def test_every_block_says_whether_it_runs():
    assert sum(mark == RUN for mark, _, _ in BLOCKS) >= 4
    check_marks(ROOT / "README.md")


def test_the_blocks_run_in_their_order(cli, album, monkeypatch):
    # Unpacked once: each command of a user has a process, here loading took most time.
    monkeypatch.setattr(zoo, "load", functools.cache(zoo.load))
    for mark, language, text in BLOCKS:
        if mark != RUN:
            continue
        if language == "python":
            exec(compile(text, "README.md", "exec"), {})
            continue
        for words in commands(text):
            assert words[0] == "polycodec"
            code, _, err = cli(*words[1:])
            told = re.sub(r"^polycodec: 2 of 2 files  .*\n", "", err)
            assert (code, told) == (0, ""), words
    assert (album / "unpacked" / "2019" / "a.png").is_file()
    assert (album / "back.png").is_file()
    assert soundfile.info(album / "back.wav").frames == 16000
    assert soundfile.info(album / "part.wav").frames == 8000


def test_commands_that_do_not_run_here_exist_and_take_these_options(cli):
    for _, language, text in BLOCKS:
        for words in commands(text) if language == "bash" else ():
            if words[0] != "polycodec":
                continue
            code, out, _ = cli(words[1], "--help")
            assert code == 0, words
            for option in (w for w in words[2:] if re.match(r"--?[a-z]", w)):
                assert re.search(rf"(^|\s|,){option}\b", out), (words, option)


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    marked = README.split("<!-- test command -->")[1].split("```")[1]
    assert "<!-- test command -->" in script
    assert commands(marked.removeprefix("bash\n")) == [["make", "test"]]
