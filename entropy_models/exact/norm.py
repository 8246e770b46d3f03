# SPDX-License-Identifier: Apache-2.0
"""Normalisation over the channels of each position.

    S = Σ x,  V = C Σ x² - S²       whole, of x in its own step
    y = (C x - S) / √(V + ε') · γ + β

Sums are exact, square root and division correctly rounded: the same everywhere. γ and β
are multiples of 2^-12. Ba, Kiros, Hinton 2016 (arXiv 1607.06450).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.grid import GridLayer, on_grid
from polycodec.errors import ModelError

EPSILON = 2.0**-17  # BITSTREAM: of the variance
STEP, TOP = 2.0**-12, 2**15 - 1  # BITSTREAM: of γ and β


class ChannelNorm(GridLayer):
    """x (B, C, ...) -> the same shape, float32; every position for itself."""

    def __init__(self, channels: int, *, input_bits: int = 14) -> None:
        super().__init__(input_bits)
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            (x,) = self.take(x.float())
            step = self.input_step[0].double() if self.frozen else 1.0
            x = x / step
            total = x.sum(1, keepdim=True)
            spread = self.channels * x.square().sum(1, keepdim=True) - total.square()
            spread = spread.clamp_min(0) + EPSILON * (self.channels / step) ** 2
            out = (self.channels * x - total) / torch.sqrt(spread)
            shape = (-1, *[1] * (x.dim() - 2))
            weight, bias = (p.view(shape) for p in (self.weight, self.bias))
            return (out * weight + bias).float()

    @torch.no_grad()
    def freeze(self) -> None:
        for values in (self.weight, self.bias):
            values.copy_(on_grid(values, STEP, TOP))
        super().freeze()

    def integers(self) -> dict[str, Tensor]:
        """Also weight_int and bias_int (C,) int16, multiples of 2^-12."""
        both = {"weight_int": self.weight, "bias_int": self.bias}
        own = {k: (v.detach() / STEP).to(torch.int16) for k, v in both.items()}
        return super().integers() | own

    @torch.no_grad()
    def load_integers(self, integers: dict[str, Tensor]) -> None:
        super().load_integers(integers)
        for values, name in ((self.weight, "weight_int"), (self.bias, "bias_int")):
            if name in integers:
                if integers[name].shape != values.shape:
                    raise ModelError(f"{name} of a norm has another number of channels")
                values.copy_(integers[name].double() * STEP)

    def bound(self) -> float:
        return float((self.channels * self.top(0)) ** 2)
