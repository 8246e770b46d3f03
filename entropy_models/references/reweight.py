# SPDX-License-Identifier: Apache-2.0
"""Context reweighting: the channels of a captured context look at one another.

    n = norm(c),  q k v = W n     A = softmax(q kᵀ / 2^r)  (C, C), over all positions
    o = norm(W A v)               c + o + o · sigmoid(W σ(W o))       σ: hard swish

After MLICv2, Jiang et al. 2025 (arXiv 2504.19119), equation 8; its gate has a 3 x 3 for
each channel too, which features of single positions do not have here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.functions import FunctionTable
from polycodec.entropy_models.exact.linear import MOST_POSITIONS
from polycodec.entropy_models.exact.norm import ChannelNorm
from polycodec.entropy_models.exact.window import WindowAttention


class Reweighting(nn.Module):
    """(B, C, h, w) or (B, C, 1, n) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.after = ChannelNorm(channels), ChannelNorm(channels)
        self.qkv = ExactConv2d(channels, 3 * channels)
        self.attention = WindowAttention(MOST_POSITIONS)
        self.mix = ExactConv2d(channels, channels)
        self.gate = nn.ModuleList(ExactConv2d(channels, channels) for _ in range(2))
        self.sigmoid = FunctionTable(torch.sigmoid)

    def forward(self, c: Tensor) -> Tensor:
        # The rows of this attention are channels, positions are what is summed over.
        q, k, v = self.qkv(self.norm(c)).flatten(2).chunk(3, dim=1)
        o = self.after(self.mix(self.attention(q, k, v).view(c.shape)))
        up, down = self.gate
        return c + o + o * self.sigmoid(down(hard_swish(up(o))))
