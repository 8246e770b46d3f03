# SPDX-License-Identifier: Apache-2.0
"""A codec's points over all files, one for each setting; a kind adds its figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from polycodec.eval.measure import Row

AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A codec's points, sorted by rate. ``kind``: codec, anchor or published."""

    name: str
    label: str
    kind: str
    points: tuple[Any, ...] = ()


def by_setting(rows: Iterable[AnyRow]) -> dict[float, list[AnyRow]]:
    """Group the rows of one codec."""
    groups: dict[float, list[AnyRow]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return groups
