# SPDX-License-Identifier: Apache-2.0
"""How much happens in a patch of a picture: the entropy of its grays, in bits.

    gray  0.2989 R + 0.587 G + 0.114 B, of 8 bits
    h_b   Σ of the patch exp(-½ ((gray - c_b) / 0.01)²)      32 c_b evenly in -1 … 1
    activity = -Σ_b p_b log2 p_b,  p = h / Σ h;  0 exactly where all grays are equal

Bins are 2/31 apart and narrow, as Control-GIC has them (Li et al. 2025, arXiv
2406.00758, section 3.2): grays midway count little. Weights are integers of a table, so
that sums do not depend on how a picture is cut; a flat patch is 0 here, where the soft
histogram may give it two bins.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BINS, SIGMA = 32, 0.01
UNIT = 1 << 14  # of the weights: 256 of them stay below 2^24
GRID = 256  # steps of a bit that activities are rounded to: what is alike stays alike


def weights(device: torch.device) -> Tensor:
    """Weights (32, 256) of grays in bins, whole numbers as float32."""
    gray = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    centres = torch.linspace(-1, 1, BINS, dtype=torch.float64)
    far = (gray - centres[:, None]) / SIGMA
    return (UNIT * torch.exp(-far.square() / 2)).round().float().to(device)


@torch.no_grad()
def activity(x: Tensor, side: int) -> Tensor:
    """Bits (B, 1, H/side, W/side) float32 of patches of x (B, 3, H, W) in [0, 1]."""
    with torch.autocast(x.device.type, enabled=False):
        r, g, b = x.float().clamp(0, 1).unbind(1)
        gray = (255 * (0.2989 * r + 0.587 * g + 0.114 * b)).round().long().clamp(0, 255)
        flat = gray[:, None].float()
        range_of = F.max_pool2d(flat, side) + F.max_pool2d(-flat, side)
        bins = (F.avg_pool2d(row[gray][:, None], side) for row in weights(x.device))
        total = torch.cat(list(bins), 1)  # means of whole numbers over 2^n: exact
        p = total.double() / total.double().sum(1, keepdim=True).clamp_min(1e-9)
        bits = -(p * p.clamp_min(1e-30).log2()).sum(1, keepdim=True)
        # Not flat: at least one step, however its grays fall between the bins.
        steps = (GRID * bits).round().clamp_min(1) / GRID
        return torch.where(range_of > 0, steps, 0.0).float()
