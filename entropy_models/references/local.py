# SPDX-License-Identifier: Apache-2.0
"""Attention in a window around each position, over the decoded half of the slice.

    5 x 5 around p:   x ─ norm ─ q k v ─ all 25 ask the 12 that are known ─ 25 answers
                                             one layer over all 25 makes p's features

MLIC, Jiang et al. 2023 (arXiv 2211.07273); MLICv2 (arXiv 2504.19119) has rotary
positions in place of the table of biases: ``rotary``. Windows overlap, one for each
position. Around a position of the second half every second place is of the first: only
those are keys, and hidden where they are not in the picture.
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
from polycodec.entropy_models.references.fusion import Reweighting
from polycodec.errors import ModelError
from polycodec.registry import register


@register("reference/local")
class LocalReference(Reference):
    """``width``: of the result; ``window``: side, odd; ``inner``: of queries, keys and
    values, each, as many as the slice has unless told; ``heads`` divide them;
    ``feedforward``: of the layer at the end, 0: none; ``reweight``: see `fusion`."""

    once = False
    keys: Tensor
    offset: Tensor

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        window: int = 5,
        inner: int | None = None,
        heads: int = 2,
        rotary: bool = False,
        feedforward: int = 0,
        reweight: bool = False,
    ) -> None:
        super().__init__()
        inner = channels if inner is None else inner
        if inner % heads or window % 2 == 0:
            raise ModelError(
                f"{heads} heads of {inner} channels in windows of {window}; "
                "expected heads that divide the channels, and an odd window"
            )
        self.width, self.window, self.heads = width, window, heads
        self.norm = ChannelNorm(channels)
        self.qkv = ExactConv2d(channels, 3 * inner)
        self.attention = WindowAttention(inner // heads)
        self.fuse = ExactConv2d(inner * window**2, width)
        self.mix = ExactConv2d(width, width)
        self.deep = nn.ModuleList()  # norm, 1x1, 1x1
        if feedforward:
            ends = ExactConv2d(width, feedforward), ExactConv2d(feedforward, width)
            self.deep.extend([ChannelNorm(width), *ends])
        self.reweight = Reweighting(width) if reweight else None
        at = torch.arange(window**2)
        at = torch.stack([at // window, at % window])  # row and column of each place
        keys = torch.arange(1, window**2, 2)  # row + column is odd
        away = at[:, :, None] - at[:, None, keys] + window - 1
        span = 2 * window - 1
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("offset", away[0] * span + away[1], persistent=False)
        self.turn = Rotary(inner // heads) if rotary else None
        self.bias = None if rotary else nn.Parameter(torch.zeros(heads, span * span))

    def within(self, state: State, where: Positions) -> Tensor:
        q, key, v = self._turned(self.qkv(self.norm(state.current)))
        q = self._windows(q, where)  # (B, n, heads, 25, C / heads)
        key, v = (self._windows(x, where)[..., self.keys, :] for x in (key, v))
        known = neighbours(state.known.to(q.dtype)[None, None], where, self.window)
        hidden = known[:, :, None, None, self.keys] == 0
        bias = 0.0 if self.bias is None else self.bias[:, self.offset]
        seen = self.attention(q, key, v, bias, hidden)
        # The answers of a position are the input of one layer.
        fused = self.fuse(seen.flatten(2).mT.unsqueeze(2))  # (B, width, 1, n)
        # MLIC++ mixes what is fused as it is, and adds a layer that is not linear.
        x = self.mix(fused if len(self.deep) else hard_swish(fused))
        if len(self.deep):
            norm, up, down = self.deep
            x = x + down(hard_swish(up(norm(x))))
        return x if self.reweight is None else self.reweight(x, where)

    def _turned(self, qkv: Tensor) -> list[Tensor]:
        """Queries, keys and values, (B, C, h, w), the first two by their positions."""
        q, key, v = qkv.chunk(3, dim=1)
        if self.turn is None:
            return [q, key, v]
        h, w = qkv.shape[2:]
        at = torch.arange(h * w, device=qkv.device)
        both = torch.cat([q, key], dim=1).flatten(2)
        heads = both.unflatten(1, (2 * self.heads, -1)).mT  # (B, 2 heads, h w, d)
        turned = self.turn(heads, at // w, at % w).mT.flatten(1, 2)
        return [*turned.unflatten(2, (h, w)).chunk(2, dim=1), v]

    def _windows(self, x: Tensor, where: Positions) -> Tensor:
        rows = neighbours(x, where, self.window)  # (B, n, 25 C)
        return rows.unflatten(2, (self.window**2, self.heads, -1)).transpose(2, 3)
