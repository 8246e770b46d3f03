# SPDX-License-Identifier: Apache-2.0
"""Codes are directions in a few dimensions, learned by gradient.

    y = A r (8 numbers);   i = argmax_k cos(y, e_k);   step = B e_i
    loss = |sg(y) - e_i|² + 0.25 |y - sg(e_i)|²        means over the dimensions

The look-up compares unit vectors, the step and the loss use lengths as they are.
No running means, no restarts. Yu et al. 2022, "Vector-quantized image modeling with
improved VQGAN" (arXiv 2110.04627); Kumar et al. 2023, "High-fidelity audio
compression with improved RVQGAN" (arXiv 2306.06546). Those start from random
projections; here an encoder may be trained first, so a start from its latents exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.quantizers.projected import ProjectedQuantizer, Stage
from polycodec.registry import register

LLOYD_STEPS = 10


class FactorizedStage(Stage):
    """K learned points, chosen by their direction."""

    white = False

    def __init__(
        self, channels: int, width: int, size: int, weights: tuple[float, float]
    ) -> None:
        super().__init__(channels, width)
        self.size, self.weights = size, weights
        self.vectors = nn.Parameter(torch.randn(size, width))

    def choose(self, y: Tensor) -> Tensor:
        """The code of greatest cosine."""
        return (y @ F.normalize(self.vectors, dim=1).T).argmax(1)

    def point(self, index: Tensor) -> Tensor:
        """Rows of the codebook."""
        return F.embedding(index, self.vectors)

    def loss(self, y: Tensor, point: Tensor) -> Tensor:
        """Codebook and commitment, each a mean over the dimensions."""
        codebook = (y.detach() - point).square().mean(1)
        commitment = (y - point.detach()).square().mean(1)
        return self.weights[0] * codebook + self.weights[1] * commitment

    def start(self, y: Tensor) -> None:
        """Codes are a sample of the rows, then means of the rows that choose them."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(y), generator=generator).to(y.device)
        self.vectors.copy_(y[order.repeat(-(-self.size // len(y)))[: self.size]])
        for _ in range(LLOYD_STEPS):
            index = self.choose(y)
            count = torch.bincount(index, minlength=self.size).to(y)
            sums = torch.zeros_like(self.vectors).index_add_(0, index, y)
            chosen = count > 0
            self.vectors[chosen] = sums[chosen] / count[chosen, None]


@register("quantizer/factorized")
class FactorizedQuantizer(ProjectedQuantizer):
    """``levels`` of ``codes`` points in ``width`` dimensions each.

    ``codes``: one number for all levels or one for each. ``codebook`` and
    ``commitment`` weigh the two losses.
    """

    stage: ClassVar[type[FactorizedStage]] = FactorizedStage

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 8,
        codes: int | Sequence[int] = 256,
        width: int = 8,
        codebook: float = 1.0,
        commitment: float = 0.25,
    ) -> None:
        sizes = (codes,) * levels if isinstance(codes, int) else tuple(codes)
        weights = (codebook, commitment)
        super().__init__(
            channels, [self.stage(channels, width, k, weights) for k in sizes]
        )
