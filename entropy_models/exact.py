# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose result is the same bits on every machine.

    floats that carry integers:   x = i · 2^-e  (|i| < 2^(a-1)),   w = k · 2^(e-s)
    then                           Σ w·x = 2^-s · Σ k·i  exactly,
    whatever the order of summation, if   Σ |k|·2^(a-1) + |b| <= 2^24   (float32)
                                                         or <= 2^53   (float64).

Everything between decoded integers and the next table index goes through these
layers. While training they are ordinary convolutions. `freeze` puts weights and
inputs on dyadic grids (per output and per input channel, from the largest input
seen in calibration) and picks the smallest carrier whose bound holds: that is the
layer's certificate. Each layer snaps its own input, so the bound needs no
knowledge of the layer before it.

Method: Ballé, Johnston, Minnen, "Integer networks for data compression with
latent-variable models" (ICLR 2019), with float carriers instead of int kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT32_LIMIT = 2**24
FLOAT64_LIMIT = 2**53


def snap(x: Tensor, step: Tensor | float, low: float, high: float) -> Tensor:
    """Round ``x`` to multiples of the power of two ``step``, halves upwards.

    ``low`` and ``high`` bound the multiple. Adding, flooring and scaling by a power
    of two are correctly rounded everywhere, so the result is the same everywhere.
    """
    return torch.floor(x / step + 0.5).clamp(low, high) * step


@dataclass(frozen=True)
class Certificate:
    """Why a layer is exact: the largest possible sum against its carrier's limit."""

    layer: str
    bound: float
    carrier: str
    limit: float
    weight_bits: int
    input_bits: int

    @property
    def holds(self) -> bool:
        """Whether no partial sum can leave the carrier's exact integers."""
        return self.bound <= self.limit


class ExactConv2d(nn.Conv2d):
    """A convolution that can be frozen to exact arithmetic.

    Shapes as nn.Conv2d. ``input_bits`` counts the sign; ``weight_bits`` too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        input_bits: int = 12,
        weight_bits: int = 8,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2
        )
        self.input_bits, self.weight_bits = input_bits, weight_bits
        # BITSTREAM: the input grid, 2^-e per channel; zero while not frozen.
        self.register_buffer("input_step", torch.zeros(in_channels))
        self.register_buffer("peak", torch.zeros(in_channels), persistent=False)
        self.observing = False

    @property
    def frozen(self) -> bool:
        """Whether this layer computes on its grids."""
        return bool(self.input_step[0] > 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            peak = x.detach().abs().amax(dim=(0, 2, 3)).float()
            self.peak = torch.maximum(self.peak, peak)
        if not self.frozen:
            return super().forward(x)
        high = 2 ** (self.input_bits - 1) - 1
        with torch.autocast(x.device.type, enabled=False):
            x = snap(x.float(), self.input_step.view(-1, 1, 1), -high, high)
            return exact_conv(x, self)

    @torch.no_grad()
    def freeze(self) -> None:
        """Fix the grids of input, weight and bias from the observed peaks."""
        high = 2 ** (self.input_bits - 1) - 1
        peak = self.peak.clamp_min(2.0**-6).double()
        step = torch.exp2(torch.ceil(torch.log2(peak / high)))
        scaled = self.weight.double() * step.view(1, -1, 1, 1)
        largest = scaled.abs().amax(dim=(1, 2, 3)).clamp_min(2.0**-40)
        top = 2 ** (self.weight_bits - 1) - 1
        # The largest weight of every output channel uses all its bits.
        grid = torch.exp2(torch.ceil(torch.log2(largest / top)))  # 2^-s
        weight = torch.round(scaled / grid.view(-1, 1, 1, 1)) * grid.view(-1, 1, 1, 1)
        self.weight.copy_((weight / step.view(1, -1, 1, 1)).float())
        self.bias.copy_((torch.round(self.bias.double() / grid) * grid).float())
        self.input_step.copy_(step.float())

    def certificate(self, name: str = "") -> Certificate:
        """Bound every partial sum of every output channel, in units of its grid."""
        scaled = self.weight.double() * self.input_step.double().view(1, -1, 1, 1)
        largest = scaled.abs().amax(dim=(1, 2, 3)).clamp_min(2.0**-40)
        top = 2 ** (self.weight_bits - 1) - 1
        grid = torch.exp2(torch.ceil(torch.log2(largest / top)))
        # A weight that rounds down may leave the grid looking finer than it is;
        # finer only makes the bound larger, never smaller.
        high = 2 ** (self.input_bits - 1)
        bound = scaled.abs().sum(dim=(1, 2, 3)) * high + self.bias.double().abs()
        worst = float((bound / grid).max())
        small = worst <= FLOAT32_LIMIT
        return Certificate(
            layer=name,
            bound=worst,
            carrier="float32" if small else "float64",
            limit=float(FLOAT32_LIMIT if small else FLOAT64_LIMIT),
            weight_bits=self.weight_bits,
            input_bits=self.input_bits,
        )


def exact_conv(x: Tensor, layer: ExactConv2d) -> Tensor:
    """Convolve grid values in the certified carrier; returns float32 or float64."""
    wide = carrier_of(layer, x.device) == torch.float64
    dtype = torch.float64 if wide else torch.float32
    weight, bias = layer.weight.to(dtype), layer.bias.to(dtype)
    return F.conv2d(x.to(dtype), weight, bias, layer.stride, layer.padding)


def carrier_of(layer: ExactConv2d, device: torch.device) -> torch.dtype:
    """Choose float32 only where it is certified and the backend keeps it whole."""
    if device.type != "cpu" or torch.get_float32_matmul_precision() != "highest":
        return torch.float64
    cached = getattr(layer, "_carrier", None)
    if cached is None:
        cached = getattr(torch, layer.certificate().carrier)
        layer._carrier = cached
    return cached
