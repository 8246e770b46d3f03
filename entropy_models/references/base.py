# SPDX-License-Identifier: Apache-2.0
"""What references promise: features of what is decoded, and of nothing else.

    slice 0   ▦▩      slice 1   ▦▩      slice i   ▦ first pass     ▩ second pass
              │                 │                 ▲
              └──── decoded ────┴───── before ────┤
                                  ▦ ── within ────┘  (what is known of this slice)

A reference is built for one slice. What it reads of earlier slices it computes once,
`before`; what it reads of the slice at hand it computes for each pass, `within`. All of
it is exact arithmetic: a decoder computes the same integers (`entropy_models/exact`).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.positions import Positions, gather, scatter
from polycodec.errors import ModelError
from polycodec.registry import build, find, named


@dataclass
class State:
    """What is known while a slice is coded.

    phi: (B, F, h, w) of the side information; decoded: earlier slices, (B, C_j, h, w);
    current: this one, (B, C, h, w), zero where ``known``, (h, w) bool, is not set.
    half: of it, that is coded now.
    """

    phi: Tensor
    decoded: Sequence[Tensor]
    current: Tensor
    known: Tensor
    half: int = 0

    @property
    def before(self) -> Tensor:
        """All earlier slices side by side, (B, ΣC_j, h, w)."""
        return torch.cat(list(self.decoded), dim=1)

    def place(self, where: Positions, values: Tensor) -> None:
        """Take over ``values`` (B, C, 1, n) at the positions of a pass."""
        self.current = scatter(self.current, where, values)
        self.known = self.known | where.mask


class Reference(nn.Module, abc.ABC):
    """Base of `reference/*`, built as (before, channels, features, **options).

    before: channels of all earlier slices together; channels: of the slice; features:
    of phi. ``width``: channels of the result. ``once``: whether the result is of
    earlier slices alone, (B, width, h, w) by `before`; otherwise it is of a pass,
    (B, width, 1, n) by `within`.
    """

    once: ClassVar[bool]
    width: int

    @classmethod
    def applies(cls, before: int, half: int, **options: Any) -> bool:
        """Whether there is something to look at in pass ``half`` (0 or 1)."""
        return before > 0 if cls.once else half > 0

    def before(self, state: State) -> Tensor:
        """The result for all positions, (B, width, h, w)."""
        raise NotImplementedError

    def within(self, state: State, where: Positions) -> Tensor:
        """The result at the positions of a pass, (B, width, 1, n)."""
        raise NotImplementedError


class References(nn.ModuleList):
    """The references of one slice, built of names and options: those that apply.

    ``plan``: the numbers of those that each pass looks at.
    """

    def __init__(
        self,
        references: Sequence[Mapping[str, Any] | str],
        *,
        before: int,
        channels: int,
        features: int,
        passes: int,
    ) -> None:
        super().__init__()
        self.plan: list[list[int]] = [[] for _ in range(passes)]
        sizes = {"before": before, "channels": channels, "features": features}
        if isinstance(references, (str, Mapping)):
            raise ModelError(f"references is {references!r}; expected a list of them")
        for reference in references:
            name, given = named("reference", reference)
            if stated := sorted(sizes.keys() & given.keys()):
                raise ModelError(
                    f"{name} is given {', '.join(stated)}, which the model says of "
                    "each slice; leave that out"
                )
            kind = cast("type[Reference]", find(name))
            halves = [h for h in range(passes) if kind.applies(before, h, **given)]
            if not halves:
                continue
            for half in halves:
                self.plan[half].append(len(self))
            self.append(build(name, **sizes, **given))

    def __iter__(self) -> Iterator[Reference]:
        return cast("Iterator[Reference]", super().__iter__())

    def widths(self) -> list[int]:
        """Channels of the results of each pass, side by side."""
        every = [part.width for part in self]
        return [sum(every[k] for k in numbers) for numbers in self.plan]

    def before(self, state: State) -> dict[int, Tensor]:
        """Results of those that read earlier slices alone, by number."""
        return {k: part.before(state) for k, part in enumerate(self) if part.once}

    def within(
        self, half: int, state: State, before: dict[int, Tensor], where: Positions
    ) -> dict[int, Tensor]:
        """Results for a pass, (B, width, 1, n) each, by number."""
        return {
            k: gather(before[k], where) if part.once else part.within(state, where)
            for k, part in enumerate(self)
            if k in self.plan[half]
        }
