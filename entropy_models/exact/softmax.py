# SPDX-License-Identifier: Apache-2.0
"""Softmax in base 2 from a table: whole weights, sums in any order, one division.

    w_j = POWERS[⌊32 (max s - s_j)⌋]  ≈  2^18 · 2^(s_j - max s)       0 where hidden
    mean = Σ w_j v_j / Σ w_j

Scores s are exact float64 numbers, POWERS is `functions.power_table`. A row whose every
entry is hidden has weights of 0 and the mean 0, while training too.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from polycodec.entropy_models.exact.functions import POWER_BITS, UNIT, power_table

WEIGHT_TOP = 1 << POWER_BITS  # of the largest score


@functools.lru_cache(maxsize=16)
def _powers(device: torch.device) -> Tensor:
    # Not of inference mode, which may be on now: autograd may use them later.
    with torch.inference_mode(False):
        return torch.from_numpy(power_table()).double().to(device)


def weights(score: Tensor, hidden: Tensor | None = None, dim: int = -1) -> Tensor:
    """Whole float64 weights along ``dim``, 2^18 at the largest score.

    hidden: bool of a shape that expands to the scores', True where nothing is seen.
    """
    if hidden is not None:
        score = score.masked_fill(hidden, -math.inf)
    powers = _powers(score.device)
    top = score.amax(dim, keepdim=True).clamp_min(-(2.0**60))  # finite where all hide
    index = torch.floor((top - score) * UNIT).clamp_max(len(powers) - 1)
    found = powers[index.long()]
    return found if hidden is None else found.masked_fill(hidden, 0.0)


def shares(score: Tensor, hidden: Tensor | None = None, dim: int = -1) -> Tensor:
    """What training has in place of `weights` over their sum; differentiable."""
    if hidden is None:
        return torch.softmax(score * math.log(2), dim)
    # Not -inf: a row that hides all would have no number, and no gradient.
    seen = torch.softmax((score * math.log(2)).masked_fill(hidden, -1e4), dim)
    return seen.masked_fill(hidden, 0.0)


def mean(sums: Tensor, total: Tensor) -> Tensor:
    """Sums of weighted values over the sum of weights, 0 where that is 0; float64."""
    return sums / total.clamp_min(1.0)
