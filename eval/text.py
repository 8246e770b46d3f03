# SPDX-License-Identifier: Apache-2.0
"""Tables as text: figures, aligned columns for a terminal, Markdown for a file."""

from __future__ import annotations

import math
from typing import NamedTuple


class Table(NamedTuple):
    """Cells of a table; every row has as many as the header."""

    header: list[str]
    rows: list[list[str]]


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Format a figure; what does not exist is a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def plural(count: int, thing: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{count} {thing}{'s' if count != 1 else ''}"


def aligned(table: Table, left: int = 1) -> list[str]:
    """Return lines of even columns; the first ``left`` to the left, figures right."""
    every = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]


def markdown(table: Table) -> list[str]:
    """Return the lines of a Markdown table."""
    rule = "|" + " --- |" * len(table.header)
    lines = ["| " + " | ".join(row) + " |" for row in (table.header, *table.rows)]
    return [lines[0], rule, *lines[1:]]
