# SPDX-License-Identifier: Apache-2.0
"""One procedure, three coders.

An entropy model states its order of coding once, `y_hat = model.code(coder, y)`.
What `coder.code(value, prior)` does depends only on the coder handed in:

    RateEstimator   adds prior.bits(value + noise), returns the rounded value with
                    a straight-through gradient                       (training)
    RangeEncoder    rounds, records symbols and table indexes          (compress)
    RangeDecoder    reads the symbols back                           (decompress)

so training, encoding and decoding cannot disagree about the maths.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RateEstimator:
    """Counts bits while training; differentiable.

    `bits` is (B,): the estimated bits of each image of the batch. With ``noise``
    the rate is that of the value plus uniform noise; without, of the rounded one.
    """

    def __init__(self, batch: int, *, noise: bool = True) -> None:
        self.noise = noise
        self.parts: list[Tensor] = []
        self.batch = batch

    @property
    def bits(self) -> Tensor:
        """Bits per image so far, (B,) float32."""
        return torch.stack(self.parts).sum(dim=0)

    def code(self, value: Tensor, prior, shape=None) -> Tensor:
        """Add the cost of ``value`` (B, C, h, w); return it rounded."""
        residual = (value - prior.means).float()
        rounded = residual + (torch.round(residual) - residual).detach()
        noisy = residual + torch.rand_like(residual) - 0.5 if self.noise else rounded
        bits = prior.bits(noisy)
        out = rounded + prior.means
        if prior.where is not None:
            bits, out = bits * prior.where, out * prior.where
        self.parts.append(bits.flatten(1).sum(1))
        return out
