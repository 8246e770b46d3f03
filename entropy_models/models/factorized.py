# SPDX-License-Identifier: Apache-2.0
"""No side information: every latent under the learned density of its channel.

    y ──[coder: p_c(y), one density per channel]── ŷ

Nothing is computed while decoding, so it is the fastest model and the yardstick
that hyperpriors are measured against. Ballé, Minnen, Singh, Hwang, Johnston 2018
(arXiv 1802.01436), "factorized prior".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.entropy_models.base import Coder, EntropyModel, Shape
from polycodec.entropy_models.priors.factorized import (
    FRESH_DEVIATION,
    Factorized,
    FactorizedPrior,
)
from polycodec.registry import register

# One density serves every rate, and the finest has latents some 4 times as large as the
# middle one. Too wide costs a fraction of a bit; outside the range a value costs 30.
WIDER = 4.0


@register("entropy/factorized")
class FactorizedModel(EntropyModel):
    """Independent latents; ``hidden``: widths of the small net of each density.

    ``levels``: of a codec of whole-number steps; every level has densities of its own.
    """

    def __init__(
        self, channels: int, *, hidden: Sequence[int] = (3, 3, 3), levels: int = 1
    ) -> None:
        super().__init__()
        self.channels, self.levels, self.hidden = channels, levels, tuple(hidden)
        self.prior_y = FactorizedPrior(levels * channels, self.hidden)

    @property
    def whole(self) -> bool:
        return True

    def code(
        self, coder: Coder, y: Tensor | None, size: Shape, *, rate: Any = None, **_: Any
    ) -> Tensor:
        """Any number of trailing sizes."""
        level = rate.level if self.levels > 1 else None
        prior = Factorized(self.prior_y, self.table("y"), level)
        return coder.code(y, prior, (size[0], self.channels, *size[1:]))

    @torch.no_grad()
    def initialise(self, deviation: Tensor) -> None:
        """Start densities anew, wider than channels: ``deviation`` (M,) or (L, M)."""
        wider = WIDER if self.levels == 1 else 1.0
        deviation = deviation.reshape(-1, self.channels)[-self.levels :].flatten()
        fresh = FactorizedPrior(self.prior_y.channels, self.hidden)
        self.prior_y.load_state_dict(fresh.state_dict())
        matrix = self.prior_y.matrices[0]  # (M, n, 1): scales its input
        factor = FRESH_DEVIATION / (wider * deviation.clamp_min(0.1))
        wanted = F.softplus(matrix) * factor.view(-1, 1, 1)
        matrix.copy_(wanted + torch.log(-torch.expm1(-wanted)))  # inverse softplus

    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""
        self.tables = {"y": self.prior_y.freeze_tables()}
