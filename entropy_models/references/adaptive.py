# SPDX-License-Identifier: Apache-2.0
"""Deformable attention over the slices before: each position chooses where to look.

    x = slices < i ─ q = W x ─┬─ offsets of a coarse grid, clipped
                              │        └─► reads of x between its positions ─ k, v
                              └─ q·k ─ softmax ─ v ─ features

Reads are bilinear on a grid of 1/16 (`exact/bilinear`): offsets are clipped, not put
through tanh, and snapped, so that every decoder reads the same numbers. S2LIC, Wang et
al. 2024 (arXiv 2403.14471), its global-inter context; deformable attention: Xia et al.
2022 (arXiv 2201.00520).
"""

from __future__ import annotations

import torch
from torch import Tensor

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.bilinear import BilinearRead
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.window import WindowAttention
from polycodec.entropy_models.references.base import Reference, State
from polycodec.errors import ModelError
from polycodec.registry import register


@register("reference/adaptive")
class AdaptiveReference(Reference):
    """``width``: of the result; ``inner``: of queries, keys and values, each, which
    ``heads`` divide; ``reads``: along a side of the grid at most; ``reach``: how far a
    read may move, in positions."""

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 32,
        inner: int = 32,
        heads: int = 2,
        reads: int = 16,
        reach: float = 4.0,
    ) -> None:
        super().__init__()
        if inner % heads or reads < 1:
            raise ModelError(
                f"{heads} heads of {inner} channels, {reads} reads along a side; "
                "expected a divisor, and 1 or more"
            )
        self.width, self.heads, self.reads, self.reach = width, heads, reads, reach
        self.q = ExactConv2d(before, inner)
        self.deep = ExactConv2d(inner, inner, 5, groups=inner)
        self.move = ExactConv2d(inner, 2)
        self.read = BilinearRead()
        self.kv = ExactConv2d(before, 2 * inner)
        self.attention = WindowAttention(inner // heads)
        self.out = ExactConv2d(inner, width, 5)

    def before(self, state: State) -> Tensor:
        x = state.before
        q = self.q(x)
        rows, columns = self._places(hard_swish(self.deep(q)))
        seen = self.read(x, rows, columns).unsqueeze(2)  # (B, K, 1, m)
        k, v = (self._heads(part) for part in self.kv(seen).chunk(2, dim=1))
        out = self.attention(self._heads(q), k, v)  # (B, heads, h w, inner / heads)
        return self.out(out.mT.flatten(1, 2).unflatten(2, x.shape[2:]))

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of the reads, (B, m) each: a coarse grid, moved."""
        moved = self.move(x).clamp(-self.reach, self.reach)
        grid = []
        for size in x.shape[2:]:
            stride = -(-size // self.reads)
            at = torch.arange(stride // 2, size, stride, device=x.device)
            grid.append(at)
        rows, columns = torch.meshgrid(*grid, indexing="ij")
        own = moved[:, :, rows, columns]  # (B, 2, a, b)
        rows, columns = (
            (at + by).flatten(1)
            for at, by in zip((rows, columns), own.unbind(1), strict=True)
        )
        return rows, columns

    def _heads(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, heads, positions, C / heads)."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).mT
