# SPDX-License-Identifier: Apache-2.0
"""What a run found out, how it describes itself, and how it is stored.

result ──► summary, for a terminal     ──► run.json, table.md
"""

from __future__ import annotations

import json
import math
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from polycodec.atomic import atomic_write
from polycodec.eval import text
from polycodec.eval.curves import Curve

if TYPE_CHECKING:
    from polycodec.eval.kind import Run


@dataclass(frozen=True, kw_only=True)
class Evaluation(ABC):
    """All that a run found out; ``run.json`` is this as JSON, without the rows."""

    dataset: str
    created: str
    environment: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    skipped: dict[str, str]  # what could not run, and why
    curves: Sequence[Any]
    published: Sequence[Any]
    rows: Sequence[Any]
    out: pathlib.Path

    @property
    def lead(self) -> Any:
        """The curve a report is about: our first codec, or what came first."""
        return next((c for c in self.curves if c.kind == "codec"), self.curves[0])

    def curve(self, name: str) -> Any:
        """Find a curve by name."""
        every = [c for c in (*self.curves, *self.published) if isinstance(c, Curve)]
        return next(curve for curve in every if curve.name == name)

    @classmethod
    @abstractmethod
    def of(
        cls, run: Run, rows: list[Any], published: list[Any], about: dict[str, Any]
    ) -> Evaluation:
        """Turn measured rows into a result; ``about``: what every kind says."""

    @abstractmethod
    def title(self) -> str:
        """Say the data set and how much it holds."""

    @abstractmethod
    def points(self, *, short: bool = False) -> text.Table:
        """Return the means of every codec at every setting; ``short``: for a line."""

    @abstractmethod
    def facts(self) -> list[str]:
        """Return what is to be said below the means, a line each."""

    @abstractmethod
    def sections(self) -> list[str]:
        """Return the Markdown below the title."""

    def summary(self) -> str:
        """Return the short answer for a terminal: aligned means, then facts."""
        means = text.aligned(self.points(short=True))
        return "\n".join([self.title(), *means, *self.facts()])

    def markdown(self) -> str:
        """Return all tables of a run as Markdown."""
        title = f"# {self.title()}, {self.created}"
        return "\n".join([title, "", *self.sections()]) + "\n"

    def write(self) -> None:
        """Write ``run.json`` and ``table.md`` into the run's folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        content = asdict(replace(self, rows=[]))
        content["out"] = str(self.out)
        replace_text(
            self.out / "run.json", json.dumps(finite(content), indent=1) + "\n"
        )
        replace_text(self.out / "table.md", self.markdown())


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_write(path, force=True) as file:
        file.write(text.encode("utf-8"))


def finite(value: Any) -> Any:
    """Return data for JSON, which has no NaN: what does not exist becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
