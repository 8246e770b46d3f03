# SPDX-License-Identifier: Apache-2.0
"""Tokens under a small causal transformer, the same bits on every machine.

    column ─► Σ_l E_l[code] ─► (attention, two layers with ReLU) x N ─► g

Attention and layers are exact (entropy_models/exact). There is no normalisation of x:
layers snap their inputs. Whether columns come all at once or one by one makes no
difference, to the bit. What walk.py makes of g, adapting, is the same as in
`tokens-adaptive`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact import layer as exact
from polycodec.entropy_models.exact.attention import (
    BIAS_STEP,
    BIAS_TOP,
    CausalAttention,
    Past,
    on_grid,
)
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.tokens.learned import LearnedTokens, unit_of
from polycodec.entropy_models.tokens.network import Trunk
from polycodec.entropy_models.tokens.walk import G_TOP
from polycodec.registry import register

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


@register("entropy/tokens-transformer")
class TransformerTokens(LearnedTokens[Transformer]):
    """``sizes``: tokens of each level; ``width``: numbers that stand for a token in the
    output; ``channels``, ``layers``, ``heads``, ``window``: of the transformer.

    `certificates` says, after `fit`, why its layers are exact.
    """

    rate = 3e-3

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        width: int = 16,
        channels: int = 128,
        layers: int = 2,
        heads: int = 4,
        window: int = 64,
    ) -> None:
        super().__init__(sizes, width)
        self.options = {
            "width": width,
            "channels": channels,
            "layers": layers,
            "heads": heads,
            "window": window,
        }
        self.trunk = self._trunk()
        self.certificates: list[exact.Certificate] = []

    def update(self) -> None:
        """Make a model that was not fitted usable: it then says nothing."""
        super().update()
        if not all(layer.frozen for layer in exact.exact_layers(self.trunk).values()):
            self.trunk.eval().snap()
            self.certificates = exact.freeze(self.trunk)

    def _trunk(self) -> Transformer:
        return Transformer(self.sizes, **self.options)

    def _context(self, batch: int) -> TransformerContext:
        return TransformerContext(self.trunk, batch, self.sizes)

    def _freeze(self, trunk: Transformer, typical: torch.Tensor) -> np.ndarray:
        trunk.eval().snap()
        unit = unit_of(trunk(typical).flatten(0, 1))
        scale = torch.from_numpy(1 / unit)
        trunk.head.weight.mul_(scale.view(-1, 1, 1, 1))
        trunk.head.bias.mul_(scale)
        exact.observe(trunk, True)
        trunk(typical)
        exact.observe(trunk, False)
        self.certificates = exact.freeze(trunk)
        self.trunk = trunk
        return unit


class TransformerContext:
    """Keys and values of the last columns, on the host. See `Context`."""

    def __init__(self, trunk: Transformer, batch: int, sizes: tuple[int, ...]) -> None:
        near = trunk.embed.device.type == "cpu"
        self.trunk = trunk if near else copy.deepcopy(trunk).cpu()
        self.past: Sequence[Past | None] = trunk.nothing()
        self.shape = (batch, len(sizes), -1)
        self.column = torch.full((batch, len(sizes), 1), max(sizes))

    @torch.no_grad()
    def next(self) -> np.ndarray:
        """g of the next column, (B, L, D)."""
        g, self.past = self.trunk.go_on(self.column, self.past)
        g = torch.floor(g[:, 0] + 0.5).clamp(-G_TOP, G_TOP)
        return g.view(self.shape).numpy().astype(np.int64)

    def push(self, column: np.ndarray) -> None:
        """Remember the newest column."""
        self.column = torch.from_numpy(column)[..., None]
