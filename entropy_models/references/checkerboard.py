# SPDX-License-Identifier: Apache-2.0
"""Checkerboard context: one convolution of what the first pass has decoded.

He et al. 2021, "Checkerboard context model for efficient learned image compression"
(arXiv 2103.15306).
"""

from __future__ import annotations

from torch import Tensor

from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.references.base import Reference, State
from polycodec.registry import register


@register("reference/checkerboard")
class CheckerboardReference(Reference):
    """``width``: channels of the result; ``kernel``: odd, 5 as in the paper."""

    once = False

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        kernel: int = 5,
    ) -> None:
        super().__init__()
        self.width = width
        self.conv = ExactConv2d(channels, width, kernel)

    def within(self, state: State, where: Positions) -> Tensor:
        return self.conv.at(state.current, where)
