# SPDX-License-Identifier: Apache-2.0
"""Causal attention whose output is the same bits on every machine.

    w_j = 2^(q·k_j + b[i - j])  over the last W columns        out = Σ w_j v_j / Σ w_j

q, k, v and b are whole multiples of powers of two, so the scores are exact; a score's
distance from the largest becomes an integer weight by a table, the sums are whole
numbers below 2^53, and one division is correctly rounded everywhere.

Vaswani et al. 2017 (arXiv 1706.03762); positions as biases of the scores: Raffel et al.
2020 (arXiv 1910.10683).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact import softmax
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.grid import on_grid

QK_STEP, QK_TOP = 2.0**-5, 127  # BITSTREAM
V_STEP, V_TOP = 2.0**-7, 2047  # BITSTREAM
BIAS_STEP, BIAS_TOP = 2.0**-10, 2**14  # BITSTREAM

Past = tuple[Tensor, Tensor]  # keys and values of the last columns


class CausalAttention(nn.Module):
    """Heads of attention over the last ``window`` columns; x is (B, C, 1, S)."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = ExactConv2d(channels, 3 * channels)
        self.mix = ExactConv2d(channels, channels)
        # From heads for the newest column to heads that look at all alike.
        slope = 4.0 * 0.25 ** torch.arange(heads)
        self.bias = nn.Parameter(-slope[:, None] * torch.arange(window))

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Returns (B, C, 1, S) and the keys and values to go on from."""
        b, c, _, s = x.shape
        qkv = self.qkv(x).view(b, 3, self.heads, c // self.heads, s).mT
        q, k, v = (part.contiguous() for part in qkv.unbind(1))  # (B, h, S, c / h)
        q = q * 2.0 ** -round(math.log2(c // self.heads) / 2)
        if self.qkv.frozen:
            q, k = (on_grid(part, QK_STEP, QK_TOP) for part in (q, k))
            v = on_grid(v, V_STEP, V_TOP)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        out = self._attend(q, k, v).mT.reshape(b, c, 1, s)
        return self.mix(out), (k[:, :, 1 - self.window :], v[:, :, 1 - self.window :])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        newest, oldest = torch.arange(k.shape[2] - q.shape[2], k.shape[2]), k.shape[2]
        distance = newest[:, None] - torch.arange(oldest)
        hidden = (distance < 0) | (distance >= self.window)
        bias = self.bias[:, distance.clamp(0, self.window - 1)]
        if not self.qkv.frozen:
            return softmax.shares(q @ k.mT + bias, hidden) @ v
        score = q.double() @ k.mT.double() + bias.double()
        weight = softmax.weights(score, hidden)
        total = weight.sum(dim=-1, keepdim=True)
        return softmax.mean(weight @ v.double(), total).float()
