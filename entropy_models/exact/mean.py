# SPDX-License-Identifier: Apache-2.0
"""The mean of a map over its positions: a whole sum, and one division."""

from __future__ import annotations

import torch
from torch import Tensor

from polycodec.entropy_models.exact.grid import GridLayer

MOST_POSITIONS = 1 << 39  # of one map; no memory holds as many


class PlaneMean(GridLayer):
    """(B, C, h, w) -> (B, C, 1, 1) float32."""

    def __init__(self, *, input_bits: int = 14) -> None:
        super().__init__(input_bits)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            (x,) = self.take(x.float())
            if not self.frozen:
                return x.mean(dim=(2, 3), keepdim=True)
            step = self.input_step[0].double()
            total = (x / step).sum(dim=(2, 3), keepdim=True)
            return (total / (x.shape[2] * x.shape[3]) * step).float()

    def bound(self) -> float:
        return float(self.top(0) * MOST_POSITIONS)
