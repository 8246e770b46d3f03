# SPDX-License-Identifier: Apache-2.0
"""A small causal transformer whose output is the same bits on every machine.

    column ─► Σ_l E_l[code] ─► (attention, two layers with ReLU) x N ─► g

Attention and layers are exact (entropy_models/exact). There is no normalisation of x:
layers snap their inputs. Whether columns come all at once or one by one makes no
difference, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.attention import (
    BIAS_STEP,
    BIAS_TOP,
    CausalAttention,
    Past,
    on_grid,
)
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.tokens.network import Trunk

EMBED_STEP, EMBED_TOP = 2.0**-8, 2047  # BITSTREAM: float16 holds them exactly


class Layer(nn.Module):
    """Attention, then two exact layers with ReLU between; both are added to x."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.attention = CausalAttention(channels, heads, window)
        self.up = ExactConv2d(channels, 2 * channels)
        self.down = ExactConv2d(2 * channels, channels)

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Returns x' and what to go on from."""
        out, ahead = self.attention(x, past)
        x = x + out
        return x + self.down(torch.relu(self.up(x))), ahead


class Transformer(Trunk):
    """Columns (B, L, 1 + S) to g (B, S, L D): see `Trunk`."""

    lead = 1

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        width: int,
        channels: int,
        layers: int,
        heads: int,
        window: int,
    ) -> None:
        super().__init__()
        shape = (len(sizes), max(sizes) + 1, channels)
        self.embed = nn.Parameter(0.3 * torch.randn(shape))
        self.layers = nn.ModuleList(
            Layer(channels, heads, window) for _ in range(layers)
        )
        self.head = ExactConv2d(channels, len(sizes) * width)

    def forward(self, columns: Tensor) -> Tensor:
        return self.go_on(columns[..., :-1], self.nothing())[0]

    def nothing(self) -> list[Past | None]:
        """What to go on from before the first column."""
        return [None] * len(self.layers)

    def go_on(
        self, columns: Tensor, past: Sequence[Past | None]
    ) -> tuple[Tensor, list[Past]]:
        """g (B, S, L D) after each of columns (B, L, S), and what to go on from."""
        parts = (self.embed[i][plane] for i, plane in enumerate(columns.unbind(1)))
        x, ahead = sum(parts, self.embed.new_zeros(())).mT.unsqueeze(2), []
        for layer, before in zip(self.layers, past, strict=True):
            x, after = layer(x, before)
            ahead.append(after)
        return self.head(x).squeeze(2).mT, ahead

    @torch.no_grad()
    def snap(self) -> None:
        """Put on their grids what no exact layer holds."""
        self.embed.copy_(on_grid(self.embed, EMBED_STEP, EMBED_TOP))
        for layer in cast("Iterable[Layer]", self.layers):
            bias = layer.attention.bias
            bias.copy_(on_grid(bias, BIAS_STEP, BIAS_TOP))
