# SPDX-License-Identifier: Apache-2.0
"""Tokens without context: one table for each level, counted in training.

    level i:  f_i[v] / 2^15  =  how often token v of its codebook was seen

A codebook of 388 tokens costs its entropy, at most log2 388 = 8.6 bits, not 9. All
positions are one pass of the coder: the fastest model, and the yardstick of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.priors.categorical import Indexed
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.registry import register


@register("entropy/tokens-static")
class StaticTokens(TokenModel):
    """Order-0 tables; ``sizes`` and ``alike``: see `TokenModel`."""

    def __init__(
        self, *, sizes: Sequence[int], alike: Sequence[int] | None = None
    ) -> None:
        super().__init__(sizes, alike)

    def code_sequence(
        self, coder: Coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """All levels and positions in one pass, level by level."""
        book = torch.tensor(self.alike[: shape[1]], dtype=torch.int32).view(1, -1, 1)
        prior = Indexed(self.order0, book)
        return coder.code(codes, prior, shape)
