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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.positions import Positions, scatter


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
