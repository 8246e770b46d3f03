# SPDX-License-Identifier: Apache-2.0
"""A network of coordinates: any signal of one item, an image or a sound.

    position (x, y) or (t) in (-1, 1) ─ [Linear ─ sin(ω ·)] × depth ─ Linear ─► sample

Sitzmann et al. 2020, "Implicit neural representations with periodic activation
functions" (arXiv 2006.09661), and Dupont et al. 2021, "COIN: compression with implicit
neural representations" (arXiv 2103.03123), which sends its weights. Left out: COIN's
halves; weights are quantized and coded like those of every network here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.network import Network, Size
from polycodec.registry import register


@register("network/coordinates")
class Coordinates(Network):
    """Samples of their coordinates; all items are one signal of ``size``.

    ``width`` and ``depth``: of the hidden layers. ``omega``: ω of equation 6; of sounds
    ``first`` is what the first layer has instead, as section 4.2 does.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int = 28,
        *,
        depth: int = 3,
        omega: float = 30.0,
        first: float = 30.0,
    ) -> None:
        super().__init__(size, channels, width)
        self.omega = (first, *[omega] * (depth - 1))
        self.counts = size[1:] if size[0] == 1 else tuple(size)
        widths = [len(self.counts)] + [width] * depth
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.head = nn.Linear(width, channels)
        bound = 1 / widths[0]
        for layer in (*self.layers, self.head):
            assert isinstance(layer, nn.Linear)
            nn.init.uniform_(layer.weight, -bound, bound)
            bound = math.sqrt(6 / width) / omega

    def forward(self, at: Tensor, embedding: Tensor | None = None) -> Tensor:
        lines = [
            (2 * torch.arange(n, device=at.device) + 1) / n - 1 for n in self.counts
        ]
        if self.size[0] > 1:
            lines[0] = lines[0][at]
        x = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
        for layer, omega in zip(self.layers, self.omega, strict=True):
            x = torch.sin(omega * layer(x))
        x = 0.5 + 0.5 * self.head(x)
        return (x if self.size[0] > 1 else x[None]).movedim(-1, 1)
