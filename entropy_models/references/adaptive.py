# SPDX-License-Identifier: Apache-2.0
"""S2LIC's contexts: channels of the slices before, and reads anywhere in them.

    x = slices < i

    channels   a = σ conv3 σ conv3 x           b = near x
    inter      a = near x                      b = conv5 attention x

               result = layer( a · S(b) + b · C(a) )        near, S, C: see `gates`

    attention  q = W x ─┬─ offsets of a coarse grid, clipped
                        │        └─► reads of x between its positions ─ k, v
                        └─ softmax q·k ─ v

Both are computed once for a slice and serve both of its passes. S2LIC, Wang et al. 2024
(arXiv 2403.14471), of which the order of coding and the widths of results and heads are
published (its model file), but no layer: the branches, gates and attention are those of
its figure. What the figure does not say is chosen here: inner widths (as many channels
as there are before the slice, where no ``inner`` is given), the layer of the result
(conv3 for channels, 1x1 for inter), the grid and reach of the reads, and that offsets
come of a 5 x 5 for each channel, as in deformable attention (Xia et al. 2022, arXiv
2201.00520). GELU is hard swish here.

Reads are bilinear on a grid of 1/16 (`exact/bilinear`): offsets are clipped, not put
through tanh, and snapped, so that every decoder reads the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.bilinear import BilinearRead
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.window import WindowAttention
from polycodec.entropy_models.references.base import Reference, State
from polycodec.entropy_models.references.gates import Crossed, Near
from polycodec.errors import ModelError
from polycodec.registry import register


@register("reference/adaptive-channels")
class AdaptiveChannels(Reference):
    """``width``: of the result; ``inner``: of the branches, None: as many as before."""

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 64,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        inner, self.width = inner or before, width
        self.conv1 = ExactConv2d(before, inner, 3)
        self.conv2 = ExactConv2d(inner, inner, 3)
        self.near, self.crossed = Near(before, inner), Crossed(inner)
        self.out = ExactConv2d(inner, width, 3)

    def before(self, state: State) -> Tensor:
        x = state.before
        a = hard_swish(self.conv2(hard_swish(self.conv1(x))))
        return self.out(self.crossed(a, self.near(x)))


class DeformableAttention(nn.Module):
    """Every position asks reads of the map, each where it likes: (B, C, h, w) to inner.

    ``head``: channels of one head, which divide ``inner``; ``reads``: along a side of
    the grid at most; ``reach``: how far a read may move, in positions.
    """

    def __init__(
        self, channels: int, inner: int, head: int, reads: int, reach: float
    ) -> None:
        super().__init__()
        if inner % head or reads < 1:
            raise ModelError(
                f"heads of {head} of {inner} channels, {reads} reads along a side; "
                "expected a divisor, and 1 or more"
            )
        self.head, self.reads, self.reach = head, reads, reach
        self.q = ExactConv2d(channels, inner)
        self.deep = ExactConv2d(inner, inner, 5, groups=inner)
        self.move = ExactConv2d(inner, 2)
        self.read = BilinearRead()
        self.kv = ExactConv2d(channels, 2 * inner)
        self.attention = WindowAttention(head)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x)
        rows, columns = self._places(hard_swish(self.deep(q)))
        seen = self.read(x, rows, columns).unsqueeze(2)  # (B, C, 1, m)
        k, v = (self._heads(part) for part in self.kv(seen).chunk(2, dim=1))
        out = self.attention(self._heads(q), k, v)  # (B, heads, h w, head)
        return out.mT.flatten(1, 2).unflatten(2, x.shape[2:])

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of the reads, (B, m) each: a coarse grid, moved."""
        moved = self.move(x).clamp(-self.reach, self.reach)
        grid = []
        for size in x.shape[2:]:
            stride = -(-size // self.reads)
            grid.append(torch.arange(stride // 2, size, stride, device=x.device))
        rows, columns = torch.meshgrid(*grid, indexing="ij")
        own = moved[:, :, rows, columns]  # (B, 2, a, b)
        rows, columns = (
            (at + by).flatten(1)
            for at, by in zip((rows, columns), own.unbind(1), strict=True)
        )
        return rows, columns

    def _heads(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, heads, positions, head)."""
        return x.flatten(2).unflatten(1, (-1, self.head)).mT


@register("reference/adaptive-inter")
class AdaptiveInter(Reference):
    """``width``: of the result; ``inner``: of the branches, None: as many as before.

    ``head``, ``reads``, ``reach``: of `DeformableAttention`.
    """

    once = True

    def __init__(
        self,
        before: int,
        channels: int,
        features: int,
        *,
        width: int = 32,
        inner: int | None = None,
        head: int = 32,
        reads: int = 16,
        reach: float = 4.0,
    ) -> None:
        super().__init__()
        inner, self.width = inner or before, width
        self.attention = DeformableAttention(before, inner, head, reads, reach)
        self.conv = ExactConv2d(inner, inner, 5)
        self.near, self.crossed = Near(before, inner), Crossed(inner)
        self.out = ExactConv2d(inner, width)

    def before(self, state: State) -> Tensor:
        x = state.before
        b = self.conv(self.attention(x))
        return self.out(self.crossed(self.near(x), b))
