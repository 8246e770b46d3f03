# SPDX-License-Identifier: Apache-2.0
"""The site: every public name has an entry, and the examples of its pages run.

That entries lead to what they name is checked where the site is built, `make docs`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re

import pytest
from examples import ROOT, RUN, blocks, check_marks, commands

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
# adding-a-part.md has marks, and a test, of its own.
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name != "adding-a-part.md"]
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["polycodec", "polycodec.cuda"])
def test_every_public_name_has_an_entry(module):
    page = (REFERENCE / f"{module.split('.')[-1]}.md").read_text(encoding="utf-8")
    entries = re.findall(r"^::: (\S+)$", page, re.M)
    public = importlib.import_module(module).__all__
    assert sorted(entries) == sorted(f"{module}.{name}" for name in public)


def test_every_page_is_on_the_site():
    listed = re.findall(r"^ +- (\S+\.md)$", SITE, re.M)
    pages = {page.relative_to(ROOT).as_posix() for page in DOCS.rglob("*.md")}
    assert pages <= set(listed) and len(listed) == len(set(listed))


def test_tables_of_options_are_those_of_the_functions():
    place = REFERENCE / "options.py"
    found = importlib.util.spec_from_file_location("site_options", place)
    site = importlib.util.module_from_spec(found)
    found.loader.exec_module(site)
    page = (REFERENCE / "polycodec.md").read_text(encoding="utf-8")
    made = site.on_page_markdown(markdown=page, page=None, config=None, files=None)
    assert "{options" not in made
    row = (
        "| `tile`: int \\| None = `None` | Side of tiles in pixels, 0: none. | images |"
    )
    assert row in made.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_say_whether_they_run_and_run(page, cli, album):
    check_marks(page)
    names = {"__name__": page.stem}
    for mark, language, text in blocks(page):
        if mark == RUN and language == "python":
            exec(compile(text, page.name, "exec"), names)
        for words in commands(text) if mark == RUN and language == "bash" else ():
            assert cli(*words[1:])[0] == 0, words
