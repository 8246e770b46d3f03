# SPDX-License-Identifier: Apache-2.0
"""Tables as text: figures, aligned columns for a terminal, Markdown for a file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Cells of a table; every row has as many as the header.

    ``left``: how many columns are text, to the left; the others are figures.
    """

    header: list[str]
    rows: list[list[str]]
    left: int = 1


class Section(NamedTuple):
    """A table under a title, with what must be known to read it.

    ``folded``: pages open it when its title is pressed.
    """

    title: str
    table: Table
    note: str = ""
    folded: bool = True


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Format a figure; what does not exist is a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def plural(count: int, thing: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{count} {thing}{'s' if count != 1 else ''}"


def aligned(table: Table) -> list[str]:
    """Return lines of even columns."""
    every = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < table.left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line: names of files, say."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def markdown(sections: Sequence[Section]) -> list[str]:
    """Return the lines of sections in Markdown."""
    lines = []
    for title, (header, rows, left), note, _ in sections:
        lines += [f"## {escaped(title)}", "", *([escaped(note), ""] if note else [])]
        rule = [":--"] * left + ["--:"] * (len(header) - left)
        cells = [list(map(escaped, row)) for row in (header, *rows)]
        every = [cells[0], rule, *cells[1:]]
        lines += ["| " + " | ".join(row) + " |" for row in every] + [""]
    return lines
