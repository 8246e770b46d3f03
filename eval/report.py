# SPDX-License-Identifier: Apache-2.0
"""The report of a run: plots as files, and one page to look at.

header    headline figures          what every kind writes alike
body      plots, samples, tables    what a kind writes itself
method    how it was measured, versions and settings
"""

from __future__ import annotations

import json
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from polycodec.eval.kind import Run
from polycodec.eval.page import page, plots
from polycodec.eval.result import replace_text


class Drawing(NamedTuple):
    """A figure and what stands below it on the page."""

    figure: Figure
    caption: str


class Report(ABC):
    """One run as a page."""

    def __init__(self, run: Run, result: Any) -> None:
        self.run, self.result, self.lead = run, result, result.lead

    @abstractmethod
    def draw(self) -> dict[str, Drawing]:
        """Return all figures of the run by name."""

    @abstractmethod
    def headline(self) -> tuple[str, Sequence[tuple[str, str]]]:
        """Return a sentence and the cards below it: (value, text)."""

    @abstractmethod
    def body(self, plots: dict[str, str]) -> list[str]:
        """Return the parts of the page between header and method.

        ``plots``: the drawings by name, ready for the page.
        """

    @abstractmethod
    def method(self) -> tuple[list[str], list[str]]:
        """Return sentences on how it was measured, and parts to stand at the end."""

    def about(self) -> dict[str, Any]:
        """Return what the page lists as versions and settings."""
        result = self.result
        return {"environment": result.environment, "codecs": result.versions}

    def write(self) -> pathlib.Path:
        """Write plots and page into the run's folder; returns the page's path."""
        drawn = {}
        for name, (figure, caption) in self.draw().items():
            figure.savefig(self.result.out / f"{name}.png", dpi=160, facecolor="white")
            figure.savefig(self.result.out / f"{name}.svg", facecolor="white")
            svg = plots.svg_for_page(figure, name, caption)
            drawn[name] = page.plot(svg, caption)
        title = f"{self.lead.label} on {self.result.dataset}"
        parts = [self._header(title), *self.body(drawn), *self._method()]
        target = self.result.out / "report.html"
        replace_text(target, page.document(title, parts))
        return target

    def _header(self, title: str) -> str:
        sentence, items = self.headline()
        return (
            f'<header><h1>{escape(title)}</h1><p class="lead">{escape(sentence)}</p>'
            f"{page.cards(items) if items else ''}</header>"
        )

    def _method(self) -> list[str]:
        sentences, parts = self.method()
        text = escape(json.dumps(self.about(), indent=1, default=str))
        return [
            "<h2>How this was measured</h2>",
            *[f"<p>{escape(sentence)}</p>" for sentence in sentences],
            page.details("Versions and settings", f"<pre>{text}</pre>"),
            *parts,
            f'<p class="note">{escape(self.result.created)}</p>',
        ]
