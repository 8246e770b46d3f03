# SPDX-License-Identifier: Apache-2.0
"""Attention within windows: softmax over the positions around each one.

    s = q·k / 2^r + bias      w = 2^s, whole, from a table      out = Σ w v / Σ w

A window is whatever the caller gathers: keys that are outside of the picture or not yet
decoded are hidden, and a window that hides all gives 0. Scores are exact, so the
weights are; sums are whole; one division is the same everywhere.

Vaswani et al. 2017 (arXiv 1706.03762); overlapping windows in a checkerboard: MLIC,
Jiang et al. 2023 (arXiv 2211.07273).
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from polycodec.entropy_models.exact import softmax
from polycodec.entropy_models.exact.grid import GridLayer, on_grid
from polycodec.entropy_models.exact.layer import looked_up

SCORE_BITS, VALUE_BITS = 10, 12
BIAS_STEP, BIAS_TOP = 2.0**-10, 2**14  # BITSTREAM
MOST_KEYS = 1 << 16  # of one window


class WindowAttention(GridLayer):
    """q (..., n, d), k (..., m, d), v (..., m, e) -> (..., n, e) float32.

    ``width``: d at most. Scores are log2 of weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__(SCORE_BITS, SCORE_BITS, VALUE_BITS)
        self.width = width

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | float = 0.0,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """bias, hidden: expand to (..., n, m); bias in bits, by its grid of 2^-10."""
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = self.take(q, k, v)
            if not self.frozen:
                return self._trained(q, k, v, bias, hidden)
            assert k.shape[-2] <= MOST_KEYS and k.shape[-1] <= self.width, k.shape
            added = on_grid(torch.as_tensor(bias).double(), BIAS_STEP, BIAS_TOP)
            score = q @ k.mT * shift_of(q) + added.to(q.device)
            step = self.input_step[2].double()
            weight = softmax.weights(score, hidden)
            out = softmax.mean(weight @ (v / step), weight.sum(-1, keepdim=True))
            parts = (q.float(), k.float(), v.float(), bias, hidden)
            near = functools.partial(self._trained, *parts)
            return looked_up((out * step).float(), near, q, k, v)

    def _trained(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | float,
        hidden: Tensor | None,
    ) -> Tensor:
        return softmax.shares(q @ k.mT * shift_of(q) + bias, hidden) @ v

    def bound(self) -> float:
        """Of the scores in their finest unit, or of the weighted values."""
        step = float(self.input_step[0] * self.input_step[1])
        step *= 2.0 ** -round(math.log2(self.width) / 2)
        score = self.top(0) * self.top(1) * self.width * step + BIAS_STEP * BIAS_TOP
        score /= min(step, BIAS_STEP) if step else BIAS_STEP
        return max(score, float(softmax.WEIGHT_TOP * self.top(2) * MOST_KEYS))


def shift_of(q: Tensor) -> float:
    """The power of two next to 1 / √d, d the last axis."""
    return 2.0 ** -round(math.log2(q.shape[-1]) / 2)
