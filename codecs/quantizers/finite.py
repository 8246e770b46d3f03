# SPDX-License-Identifier: Apache-2.0
"""Finite scalar quantization: a fixed grid, no codebook and no loss.

    y = A r (one number for each radix L_j)
    b_j = h tanh(y_j + s) - o,   h = (L-1)(1+ε)/2,   o = ½ for even L,   s = atanh(o/h)
    n_j = round(b_j) + ⌊L_j/2⌋,        code = n_1 + L_1 (n_2 + L_2 (n_3 + …))

The code is a number of mixed radix: 8·5·5·5 = 1000 codes, not a power of two. All
are in use by construction. Later levels have projections of their own for what is
left. Mentzer et al. 2024, "Finite scalar quantization" (arXiv 2309.15505).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polycodec.codecs.quantizers.projected import ProjectedQuantizer, Stage
from polycodec.errors import InputError
from polycodec.registry import register

MARGIN = 1e-3  # ε: the outermost points can be reached


class FiniteStage(Stage):
    """A grid of L_1 × L_2 × … points."""

    # tanh of a Gaussian of this deviation is nearly uniform
    spread = 0.9
    count: Tensor
    middle: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor
    places: Tensor

    def __init__(self, channels: int, radix: Sequence[int]) -> None:
        super().__init__(channels, len(radix))
        self.size = math.prod(radix)
        count = torch.tensor(radix)
        half = (count - 1) * (1 + MARGIN) / 2
        offset = torch.where(count % 2 == 0, 0.5, 0.0)
        places = torch.tensor([math.prod(radix[:j]) for j in range(len(radix))])
        # Constants of the options: rebuilt with the module, not stored with weights.
        for name, value in (
            ("count", count),
            ("middle", count // 2),
            ("reach", half),
            ("offset", offset),
            ("shift", torch.atanh(offset / half)),
            ("places", places),  # BITSTREAM
        ):
            self.register_buffer(name, value, persistent=False)

    def bound(self, y: Tensor) -> Tensor:
        """Into (-½ … L - ½) around the middle of each grid, in steps of it."""
        return torch.tanh(y + self.shift) * self.reach - self.offset

    def choose(self, y: Tensor) -> Tensor:
        """The nearest point of the grid, as a number of mixed radix."""
        digits = (y.round().long() + self.middle).clamp_min(0)
        return (torch.minimum(digits, self.count - 1) * self.places).sum(1)

    def point(self, index: Tensor) -> Tensor:
        """The digits of the code, around the middle."""
        digits = index[:, None] // self.places % self.count
        return (digits - self.middle).to(self.reach)


@register("quantizer/finite")
class FiniteQuantizer(ProjectedQuantizer):
    """``levels`` grids of ``radix`` points a dimension, [8, 5, 5, 5] is 1000 codes.

    A radix of 2 is refused: its threshold would lie in the tail of the tanh.
    """

    def __init__(
        self, channels: int, *, levels: int = 8, radix: Sequence[int] = (8, 6, 5)
    ) -> None:
        if not radix or min(radix) < 3 or math.prod(radix) > 1 << 20:
            raise InputError(
                f"radix is {list(radix)}; expected numbers of 3 or more whose product "
                "is at most 2^20"
            )
        super().__init__(
            channels, [FiniteStage(channels, tuple(radix)) for _ in range(levels)]
        )
