# SPDX-License-Identifier: Apache-2.0
"""Which positions of a latent a pass codes, and in what order.

    half 0, the anchors  ▦ ▩ ▦ ▩      half 1, the rest      index: rows, then columns
                         ▩ ▦ ▩ ▦

Positions are computed, not searched for: a search (`nonzero`) would make the host wait
for the device in the middle of decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """Some positions of a (h, w) plane.

    mask: (h, w) bool. index: (n,) int64, row · w + column, ascending.
    """

    mask: Tensor
    index: Tensor

    @classmethod
    def everywhere(
        cls, height: int, width: int, device: torch.device | None = None
    ) -> Positions:
        """All positions."""
        mask = torch.ones(height, width, dtype=torch.bool, device=device)
        return cls(mask, torch.arange(height * width, device=device))

    @classmethod
    def checkerboard(
        cls, height: int, width: int, half: int, device: torch.device | None = None
    ) -> Positions:
        """Positions whose row + column is even (``half`` 0) or odd (1).  # BITSTREAM"""
        rows = torch.arange(height, device=device).view(-1, 1)
        cols = torch.arange(width, device=device).view(1, -1)
        mask = (rows + cols) % 2 == half
        k = torch.arange((height * width + 1 - half) // 2, device=device)
        # Every second place; where rows have even lengths, each begins on the other.
        first = half if width % 2 else (2 * k // width + half) % 2
        return cls(mask, 2 * k + first)

    def __len__(self) -> int:
        return self.index.shape[0]


def gather(x: Tensor, where: Positions) -> Tensor:
    """The positions in x (B, C, h, w), in order: (B, C, 1, n)."""
    return x.flatten(2).index_select(2, where.index).unsqueeze(2)


def scatter(x: Tensor, where: Positions, values: Tensor) -> Tensor:
    """A copy of x (B, C, h, w) with ``values`` (B, C, 1, n) at the positions."""
    flat = x.to(values.dtype).flatten(2)
    new = values.squeeze(2)
    return flat.scatter(2, where.index.expand(new.shape), new).view(x.shape)
