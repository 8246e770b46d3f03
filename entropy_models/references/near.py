# SPDX-License-Identifier: Apache-2.0
"""Everything near, in one convolution: earlier slices and what is known of this one.

earlier slices ┐
this slice     ├─ conv k x k ─ relu ─ features
known or not   ┘
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.references.base import Reference, State
from polycodec.registry import register


@register("reference/near")
class NearReference(Reference):
    """``width``: channels of the result; ``kernel``: odd."""

    once = False

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 128,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.width = width
        # One more input channel says which positions of the slice are known.
        self.conv = ExactConv2d(before + channels + 1, width, kernel)

    @classmethod
    def applies(cls, before: int, half: int, **_: Any) -> bool:
        return True

    def within(self, state: State, where: Positions) -> Tensor:
        flag = state.known.to(state.current.dtype)
        flag = flag.expand(len(state.current), 1, *flag.shape)
        known = torch.cat([*state.decoded, state.current, flag], dim=1)
        return F.relu(self.conv.at(known, where))
