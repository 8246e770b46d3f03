# SPDX-License-Identifier: Apache-2.0
"""Attention in a window around each position, over the decoded half of the slice.

    5 x 5 around p:   x ─ norm ─ q k v ─ all 25 ask those that are known ─ 25 answers
                                             one layer over all 25 makes p's features

MLIC, Jiang et al. 2023 (arXiv 2211.07273); MLICv2 (arXiv 2504.19119) has rotary
positions in place of the table of biases: ``rotary``. Windows overlap, one for each
position; keys that are not decoded or not in the picture are hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d, neighbours
from polycodec.entropy_models.exact.norm import ChannelNorm
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.exact.rotary import Rotary
from polycodec.entropy_models.exact.window import WindowAttention
from polycodec.entropy_models.references.base import Reference, State
from polycodec.errors import ModelError
from polycodec.registry import register


@register("reference/local")
class LocalReference(Reference):
    """``width``: of the result; ``window``: side, odd; ``heads`` divide channels."""

    once = False
    at: Tensor
    offset: Tensor

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        window: int = 5,
        heads: int = 2,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        if channels % heads or window % 2 == 0:
            raise ModelError(
                f"{heads} heads of {channels} channels in windows of {window}; "
                "expected heads that divide the channels, and an odd window"
            )
        self.width, self.window, self.heads = width, window, heads
        self.norm = ChannelNorm(channels)
        self.qkv = ExactConv2d(channels, 3 * channels)
        self.attention = WindowAttention(channels // heads)
        self.fuse = ExactConv2d(channels * window**2, width)
        self.mix = ExactConv2d(width, width)
        at = torch.arange(window**2)
        at = torch.stack([at // window, at % window])  # row and column of each place
        away = at[:, :, None] - at[:, None] + window - 1
        span = 2 * window - 1
        self.register_buffer("at", at, persistent=False)
        self.register_buffer("offset", away[0] * span + away[1], persistent=False)
        self.turn = Rotary(channels // heads) if rotary else None
        self.bias = None if rotary else nn.Parameter(torch.zeros(heads, span * span))

    def within(self, state: State, where: Positions) -> Tensor:
        k = self.window**2
        qkv = self.qkv(self.norm(state.current))
        rows = neighbours(qkv, where, self.window)  # (B, n, k 3 C)
        parts = rows.unflatten(2, (k, 3, self.heads, -1))
        q, key, v = parts.permute(3, 0, 1, 4, 2, 5)  # (B, n, heads, k, C / heads)
        if self.turn is not None:
            q, key = (self.turn(part, *self.at) for part in (q, key))
        known = neighbours(state.known.to(qkv.dtype)[None, None], where, self.window)
        hidden = known.view(1, -1, 1, 1, k) == 0
        bias = 0.0 if self.bias is None else self.bias[:, self.offset]
        seen = self.attention(q, key, v, bias, hidden)
        # The k answers of a position are the input of one layer.
        fused = self.fuse(seen.flatten(2).mT.unsqueeze(2))  # (B, width, 1, n)
        return self.mix(hard_swish(fused))
