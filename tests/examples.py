# SPDX-License-Identifier: Apache-2.0
"""Examples of documents: blocks of commands or of Python, and whether they run.

<!-- run -->                          here, in the page's order
<!-- not run: it needs a clip -->
<!-- run by docs/checks/a.py: x -->   by that check
"""

from __future__ import annotations

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(^<!--[^\n]*-->\n)?^```(bash|python)\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"<!-- (run|not run: .+|run by (\S+): \w+) -->\n")
RUN = "<!-- run -->\n"


def blocks(page: pathlib.Path) -> list[tuple[str, str, str]]:
    """The mark, the language and the text of each block; no mark is ""."""
    text = page.read_text(encoding="utf-8")
    return [(m[1] or "", m[2], m[3]) for m in BLOCK.finditer(text)]


def commands(text: str) -> list[list[str]]:
    """The words of the commands of a block."""
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [words for words in lines if words]


def check_marks(page: pathlib.Path) -> None:
    """Every block says whether it runs, and where."""
    for mark, _, text in blocks(page):
        found = MARK.fullmatch(mark)
        assert found, text
        assert not found[2] or page.name in (ROOT / found[2]).read_text("utf-8")
