# SPDX-License-Identifier: Apache-2.0
"""What the documents name exists: links, files, commands, targets of make."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "cuda" / "FORMAT.md"]
)
# `codecs/files/` or `train/optim.py`: a path of this repository in backticks.
NAMED = re.compile(
    r"`((?:codecs|configs|cuda|docs|entropy_models|eval|polycodec|tests|train)/"
    r"[\w./-]*)`"
)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


def test_there_are_documents():
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "docs/architecture.md", "docs/adding-a-part.md"} <= names


@pages
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    for path in NAMED.findall(text):
        assert (ROOT / path).exists(), path


@pages
def test_no_merge_was_left_half_done(page):
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text("utf-8"), re.M)


@pages
def test_anchors_are_headings(page):
    for link, anchor in re.findall(
        r"\]\(([^):]*)#([^)]+)\)", page.read_text(encoding="utf-8")
    ):
        there = page.parent / link if link else page
        headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
        slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in slugs, anchor


@pages
def test_make_has_the_targets(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", page.read_text("utf-8"), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
