# SPDX-License-Identifier: Apache-2.0
"""No side information: every latent under the learned density of its channel.

    y ──[coder: p_c(y), one density per channel]── ŷ

Nothing is computed while decoding, so it is the fastest model and the yardstick
that hyperpriors are measured against. Ballé, Minnen, Singh, Hwang, Johnston 2018
(arXiv 1802.01436), "factorized prior".
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polycodec.cuda import TableSet
from polycodec.entropy_models.factorized import FactorizedPrior
from polycodec.entropy_models.priors import Factorized
from polycodec.registry import register


@register("entropy/factorized")
class FactorizedModel(nn.Module):
    """Independent latents; ``hidden``: widths of the small net of each density."""

    stride = 1  # nothing coarser than y is coded

    def __init__(self, channels: int, *, hidden: Sequence[int] = (3, 3, 3)) -> None:
        super().__init__()
        self.channels = channels
        self.prior_y = FactorizedPrior(channels, tuple(hidden))
        self.tables: dict[str, TableSet] = {}

    def code(self, coder, y: Tensor | None, size: tuple[int, int, int]) -> Tensor:
        """Code y (B, M, h, w), or decode it when None. ``size`` is (B, h, w)."""
        batch, h, w = size
        prior = Factorized(self.prior_y, self.tables.get("y"))
        return coder.code(y, prior, (batch, self.channels, h, w))

    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""
        self.tables = {"y": self.prior_y.freeze_tables()}
