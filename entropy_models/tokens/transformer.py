# SPDX-License-Identifier: Apache-2.0
"""Tokens under a small causal transformer, exact on every device.

Two layers over the last 64 columns of tokens (trunk.py) give g; what
walk.py makes of it, adapting, is the same as in `tokens-adaptive`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from polycodec.entropy_models.exact import layer as exact
from polycodec.entropy_models.exact.attention import Past
from polycodec.entropy_models.tokens.learned import LearnedTokens, unit_of
from polycodec.entropy_models.tokens.trunk import Transformer
from polycodec.entropy_models.tokens.walk import G_TOP
from polycodec.registry import register


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
    """Keys and values of the last columns of B sequences. See `Context`."""

    def __init__(self, trunk: Transformer, batch: int, sizes: tuple[int, ...]) -> None:
        self.trunk = trunk
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
