# SPDX-License-Identifier: Apache-2.0
"""From what attention has seen to the features of a context.

    seen ─ conv k ─ W x + ffn x ─ reweighting ─ features
    ffn      1x1 ─ σ ─ 3x3 for each channel ─ σ ─ 1x1                   σ: hard swish

Widths, kernels and the layers between them are those of MLIC++ (Jiang, Wang 2023, arXiv
2307.15421), W of inter alone. A context of one half of a slice is computed
at the positions of that half: what a 3x3 finds at the others is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.functions import FunctionTable
from polycodec.entropy_models.exact.linear import MOST_POSITIONS
from polycodec.entropy_models.exact.norm import ChannelNorm
from polycodec.entropy_models.exact.positions import Positions, scatter
from polycodec.entropy_models.exact.window import WindowAttention


def among(layer: ExactConv2d, x: Tensor, where: Positions | None) -> Tensor:
    """A layer on a map (B, C, h, w); or of positions (B, C, 1, n), on them alone."""
    if where is None:
        return layer(x)
    full = x.new_zeros((*x.shape[:2], *where.mask.shape))
    return layer.at(scatter(full, where, x), where)


class FeedForward(nn.Module):
    """1x1, 3x3 for each channel, 1x1: ``inputs`` to ``hidden`` to ``width``."""

    def __init__(self, inputs: int, hidden: int, width: int) -> None:
        super().__init__()
        self.up = ExactConv2d(inputs, hidden)
        self.near = ExactConv2d(hidden, hidden, 3, groups=hidden)
        self.down = ExactConv2d(hidden, width)

    def forward(self, x: Tensor, where: Positions | None = None) -> Tensor:
        """x: (B, C, h, w), or (B, C, 1, n) of the positions ``where``."""
        x = among(self.near, hard_swish(self.up(x)), where)
        return self.down(hard_swish(x))


class Gated(nn.Module):
    """x · sigmoid(ffn(norm x)): the gate of MLICv2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.deep = FeedForward(channels, channels, channels)
        self.sigmoid = FunctionTable(torch.sigmoid)

    def forward(self, x: Tensor, where: Positions | None = None) -> Tensor:
        return x * self.sigmoid(self.deep(self.norm(x), where))


class Reweighting(nn.Module):
    """The channels of a context look at one another.

        n = norm(c),  q k v = W n     A = softmax(q kᵀ / 2^r)  (C, C), over positions
        o = norm(W A v)               c + o + o · sigmoid(ffn(norm o))

    MLICv2, Jiang et al. 2025 (arXiv 2504.19119), equation 8; 2^r is next to √positions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.after = ChannelNorm(channels), ChannelNorm(channels)
        self.qkv = ExactConv2d(channels, 3 * channels)
        self.attention = WindowAttention(MOST_POSITIONS)
        self.mix = ExactConv2d(channels, channels)
        self.gated = Gated(channels)

    def forward(self, c: Tensor, where: Positions | None = None) -> Tensor:
        # The rows of this attention are channels, positions are what is summed over.
        q, k, v = self.qkv(self.norm(c)).flatten(2).chunk(3, dim=1)
        o = self.after(self.mix(self.attention(q, k, v).view(c.shape)))
        return c + o + self.gated(o, where)


class Fusion(nn.Module):
    """What attention has seen, (B, ``inner``, h, w), to (B, ``width``, h, w).

    ``fused``: channels behind the convolution, None: width, and no W; ``feedforward``:
    of the layer behind it, 0: none; ``reweight``: see `Reweighting`.
    """

    def __init__(
        self,
        inner: int,
        width: int,
        *,
        kernel: int = 5,
        fused: int | None = None,
        feedforward: int = 0,
        reweight: bool = False,
    ) -> None:
        super().__init__()
        self.skip = ExactConv2d(fused, width) if fused else nn.Identity()
        fused = fused or width
        self.conv = ExactConv2d(inner, fused, kernel)
        self.deep = FeedForward(fused, feedforward, width) if feedforward else None
        self.reweight = Reweighting(width) if reweight else None

    def forward(self, seen: Tensor, where: Positions | None = None) -> Tensor:
        """With ``where``: (B, width, 1, n), at those positions only."""
        x = self.conv(seen) if where is None else self.conv.at(seen, where)
        out = self.skip(x)
        if self.deep is not None:
            out = out + self.deep(x, where)
        return out if self.reweight is None else self.reweight(out, where)
