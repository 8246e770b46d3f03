# SPDX-License-Identifier: Apache-2.0
"""What an evaluation must know of a kind of signal, and one run at work.

A kind is one object of one folder: it names its data sets, our codecs, the anchors, the
measures and what a rate is. Measuring, curves, tables, plots and the page are written
once, for all of them.
"""

from __future__ import annotations

import functools
import importlib
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.errors import UnknownNameError, UsageError
from polycodec.eval.curves import published
from polycodec.eval.datasets import Dataset, Datasets, Item
from polycodec.eval.measure import Trip
from polycodec.eval.options import EvalOptions
from polycodec.eval.subjects import OwnCodec, Subject

if TYPE_CHECKING:
    from polycodec.codecs.measures.base import Measure, Measures
    from polycodec.eval.curves import Curve
    from polycodec.eval.result import Evaluation

KINDS = ("image", "video", "speech")  # a folder each


def kinds() -> list[Kind]:
    """Return every kind; the first is taken where a data set tells nothing."""
    return [importlib.import_module(f"polycodec.eval.{k}.kind").KIND for k in KINDS]


def kind_of(dataset: Dataset) -> Kind:
    """Return the kind that most files of a data set are of."""
    return max(kinds(), key=lambda kind: kind.datasets.count(dataset))


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

    @property
    def measures(self) -> list[Measure]:
        """What is shown: the measures taken, and those made of their means."""
        return self.kind.measures.shown(list(self.rules))


class Kind(ABC):
    """A kind of signal as evaluations see it."""

    name: str  # "image"
    datasets: Datasets
    codec: str  # measured unless told
    own: type[OwnCodec]
    anchors: Mapping[str, Any]
    default_anchors: tuple[str, ...]
    measures: Measures
    result: type[Evaluation]
    control: str  # the option that asks for rates, and our codecs' control for them
    options: tuple[str, ...]  # of EvalOptions, those that not every kind has
    rate: tuple[str, int]  # what rates are called, and their digits
    pace: str  # what seconds of coding for a share are called
    logarithmic: bool  # axis of rates, drawn over all of them then, not over ours
    intervals: bool  # whether tables and plots show those of the means
    method: str  # sentences for the page

    def anchor(self, name: str) -> Any:
        """Find an anchor by name; unknown names list the nearest ones."""
        if name not in self.anchors:
            raise UnknownNameError.of("anchor", name, self.anchors)
        return self.anchors[name]

    @abstractmethod
    def amount(self, signal: np.ndarray) -> float:
        """Return how much a signal is: pixels, seconds."""

    @abstractmethod
    def rate_of(self, size: float, amount: float) -> float:
        """Return the rate of ``size`` bytes."""

    def share(self, amount: float) -> float:
        """Return how much a file counts in mean rates and times: alike unless told."""
        return 1.0

    def taken(self, item: Item, options: EvalOptions) -> np.ndarray:
        """Read what is measured of a file: all of its signal unless told."""
        return item.read()

    def heard(self, trip: Trip) -> np.ndarray:
        """Return what is compared with the signal."""
        return trip.decoded.signal

    @abstractmethod
    def published(self, run: Run) -> list[Curve]:
        """Read what others published; refuse options that contradict each other."""

    @staticmethod
    def curves_in(
        options: EvalOptions, read: Callable[..., list[Curve]], expected: str
    ) -> list[Curve]:
        """Curves of ``--published`` by ``read(content, ids=...)``; none without a file.

        UsageError for curves that are named of no file.
        """
        path, ids = options.published, options.published_ids
        if path is not None:
            return published(path, functools.partial(read, ids=ids), expected)
        if ids is not None:
            raise UsageError(
                f"published curves {', '.join(ids)} of no file; name theirs "
                "(--published)"
            )
        return []

    @staticmethod
    def check_reference(run: Run, dashed: Sequence[Curve]) -> None:
        """UsageError for a reference that is no curve of this run."""
        reference = run.options.reference
        known = [s.name for s in run.subjects] + [c.name for c in dashed]
        if reference is not None and reference not in known:
            raise UsageError(
                f"the reference '{reference}' is not part of this run; expected one "
                f"of {', '.join(known)}; add it to the anchors or published curves"
            )
