# SPDX-License-Identifier: Apache-2.0
"""What an evaluation must know of a kind of signal, and one run at work.

A kind is one object of one folder: it names its data sets, our codecs, the anchors and
the row of a result, and turns rows into its own result and report.
"""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polycodec.errors import UnknownNameError
from polycodec.eval.datasets import Datasets, Item
from polycodec.eval.measure import Row
from polycodec.eval.options import EvalOptions
from polycodec.eval.subjects import OwnCodec, Subject

if TYPE_CHECKING:
    from polycodec.eval.report import Report
    from polycodec.eval.result import Evaluation


@dataclass(frozen=True)
class Run:
    """One evaluation at work: what is measured, on what, and how."""

    kind: Kind
    options: EvalOptions
    out: pathlib.Path
    dataset: str
    items: Sequence[Item]
    subjects: Sequence[Subject]
    skipped: dict[str, str]  # what could not run, and why
    rules: Mapping[str, str]  # by name of a measure


class Kind(ABC):
    """A kind of signal as evaluations see it."""

    name: str  # "image"
    datasets: Datasets
    codec: str  # measured unless told
    own: type[OwnCodec]
    anchors: Mapping[str, Any]
    default_anchors: tuple[str, ...]
    rate: str  # the option that asks for rates, and our codecs' control for them
    options: tuple[str, ...]  # of EvalOptions, those that not every kind has
    row: type[Row]
    result: type[Evaluation]
    fixed_rules: Mapping[str, Any] = {}  # of measures that every row has

    def anchor(self, name: str) -> Any:
        """Find an anchor by name; unknown names list the nearest ones."""
        if name not in self.anchors:
            raise UnknownNameError.of("anchor", name, self.anchors)
        return self.anchors[name]

    def rules(self, options: EvalOptions) -> tuple[dict[str, str], dict[str, str]]:
        """Return rules of the measures to take by name, and why others are not."""
        return {}, {}

    @abstractmethod
    def published(self, run: Run) -> list[Any]:
        """Read what others published; refuse options that contradict each other."""

    @abstractmethod
    def report(self, run: Run, result: Any) -> Report:
        """Return the report of a result, not yet drawn."""
