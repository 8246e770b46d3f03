# SPDX-License-Identifier: Apache-2.0
"""Reading a map between its positions, on a grid of 1/16.

    (r, c) = (r0 + a/16, c0 + b/16)
    out = Σ (16 - a or a) (16 - b or b) x[r0 or r0 + 1, c0 or c0 + 1] / 256

Whole weights, whole values, gathered by whole indexes: no sampler of a library decides.
Beyond the edge stands the edge. For deformable attention, Xia et al. 2022 (arXiv
2201.00520).
"""

from __future__ import annotations

import torch
from torch import Tensor

from polycodec.entropy_models.exact.grid import GridLayer
from polycodec.entropy_models.exact.layer import snapped

PLACES = 16  # BITSTREAM: places between two positions


class BilinearRead(GridLayer):
    """x (B, C, h, w) at rows and columns (B, n): (B, C, n) float32.

    rows, columns: in positions of x, any float; differentiable, also where frozen.
    """

    def __init__(self, *, input_bits: int = 14) -> None:
        super().__init__(input_bits)

    def forward(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            (x,) = self.take(x)
            (r0, a), (c0, b) = (
                self._split(at.to(x.dtype), size)
                for at, size in ((rows, x.shape[2]), (columns, x.shape[3]))
            )
            flat, width, out = x.flatten(2), x.shape[3], x.new_zeros(())
            for r, u in ((r0, 1 - a), (r0 + 1, a)):
                for c, v in ((c0, 1 - b), (c0 + 1, b)):
                    r_in, c_in = r.clamp_max(x.shape[2] - 1), c.clamp_max(width - 1)
                    index = (r_in * width + c_in).unsqueeze(1)
                    index = index.expand(-1, x.shape[1], -1)
                    out = out + flat.gather(2, index) * (u * v).unsqueeze(1)
            return out.float()

    def _split(self, at: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Whole positions int64 and what is beyond them, 0 … 1."""
        at = at.clamp(0, size - 1)
        if self.frozen:
            at = snapped(at, at.new_tensor(1 / PLACES), 0, PLACES * size)
        whole = torch.floor(at.detach())
        return whole.long(), at - whole

    def bound(self) -> float:
        return float(self.top(0) * PLACES**2)
