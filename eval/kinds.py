# SPDX-License-Identifier: Apache-2.0
"""The kinds of signals that can be measured: a folder each, and one line here."""

from __future__ import annotations

import importlib

from polycodec.eval.datasets import Dataset
from polycodec.eval.kind import Kind

KINDS = ("image", "speech")


def kinds() -> list[Kind]:
    """Return every kind; the first is taken where a data set tells nothing."""
    return [importlib.import_module(f"polycodec.eval.{k}.kind").KIND for k in KINDS]


def kind_of(dataset: Dataset) -> Kind:
    """Return the kind that most files of a data set are of."""
    return max(kinds(), key=lambda kind: kind.datasets.count(dataset))
