# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose result is the same bits on every machine.

    Σ w·x over a window, in the carrier that the layer's certificate names
    at(x, where)     the same at some positions only: half the positions cost half

On a device, and wherever float64 is needed, no library may use Winograd or FFT: those
transform their inputs through fractions. See `layer` for grids and bounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.exact.carrier import conv_by_matmul
from polycodec.entropy_models.exact.layer import (
    FLOAT32_LIMIT,
    FLOAT64_LIMIT,
    Certificate,
    ExactLayer,
    approximate,
    input_exponent,
    power_of_two,
    snapped,
)
from polycodec.entropy_models.exact.positions import Positions, gather
from polycodec.errors import ModelError


class ExactConv2d(ExactLayer, nn.Conv2d):
    """A convolution that can be frozen to exact arithmetic.

    Shapes as nn.Conv2d. ``input_bits`` counts the sign; ``weight_bits`` too.
    """

    bias: Tensor
    padding: tuple[int, int]
    input_step: Tensor
    peak: Tensor
    # Not biases: those of a channel without weights have units of their own.
    coarse = ("weight_int",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        input_bits: int = 14,
        weight_bits: int = 14,
    ) -> None:
        padding = kernel_size // 2
        super().__init__(
            *(in_channels, out_channels, kernel_size, stride, padding), groups=groups
        )
        self.input_bits, self.weight_bits = input_bits, weight_bits
        # BITSTREAM: the input grid, a power of two per channel; 0 while not frozen.
        self.register_buffer("input_step", torch.zeros(in_channels))
        self.register_buffer("peak", torch.zeros(in_channels), persistent=False)
        self._integers: dict[str, Tensor] = {}
        self._laid_out: dict[tuple, tuple[Tensor, Tensor]] = {}

    @property
    def frozen(self) -> bool:
        """Whether this layer computes on its grids."""
        return bool(self._integers)

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            peak = x.detach().abs().amax(dim=(0, 2, 3)).float()
            self.peak = torch.maximum(self.peak, peak)
        if not self.frozen or approximate():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            # Rounding an exact float64 sum to float32 is the same everywhere too.
            return exact_conv(self._snapped(x), self).float()

    def at(self, x: Tensor, where: Positions) -> Tensor:
        """The convolution of x (B, I, h, w) at the positions of ``where`` only.

        Returns (B, O, 1, n), rows first; stride 1. Half the positions cost half.
        """
        if not self.frozen:
            return gather(self(x), where)
        if approximate():
            return self._at(x, where, self._fast(x.device))
        with torch.autocast(x.device.type, enabled=False):
            return self._at(self._snapped(x), where, self.carrier(x.device))

    def _at(self, x: Tensor, where: Positions, dtype: torch.dtype) -> Tensor:
        rows = neighbours(x.to(dtype), where, self.kernel_size[0])
        weight, bias = self.laid_out(dtype, x.device, by_rows=True)
        if self.groups == 1:
            out = rows @ weight[0]
        else:
            taps = self.kernel_size[0] ** 2
            rows = rows.unflatten(2, (taps, self.groups, -1)).permute(0, 3, 1, 2, 4)
            out = (rows.flatten(3) @ weight).transpose(1, 2).flatten(2)
        return (out + bias).float().mT.unsqueeze(2)  # (B, O, 1, n)

    @staticmethod
    def _fast(device: torch.device) -> torch.dtype:
        """What autocast computes in; float32 without it."""
        on = torch.is_autocast_enabled(device.type)
        return torch.get_autocast_dtype(device.type) if on else torch.float32

    def laid_out(
        self, dtype: torch.dtype, device: torch.device, *, by_rows: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias of the frozen layer in a carrier, made once.

        ``by_rows``: the weight as (g, k k I / g, O / g), what one row of neighbours is
        multiplied with.
        """
        key = dtype, device, by_rows
        found = self._laid_out.get(key)
        if found is None:
            # Not of inference mode, which may be on now: autograd may use them later.
            with torch.inference_mode(False), torch.no_grad():
                weight, bias = (
                    p.detach().to(device, dtype) for p in (self.weight, self.bias)
                )
                if by_rows:
                    weight = weight.unflatten(0, (self.groups, -1)).flatten(3)
                    weight = weight.permute(0, 3, 2, 1).flatten(1, 2).contiguous()
            found = self._laid_out.setdefault(key, (weight, bias))
        return found

    def _snapped(self, x: Tensor) -> Tensor:
        top = self._input_top
        return snapped(x.float(), self.input_step.view(-1, 1, 1), -top, top)

    @torch.no_grad()
    def freeze(self) -> None:
        """Fix the grids of input, weight and bias from the observed peaks."""
        input_exp = input_exponent(self.peak, self._input_top)
        scaled = self.weight.double() * self._of_weights(power_of_two(input_exp))
        largest = scaled.abs().amax(dim=(1, 2, 3)).clamp_min(2.0**-40)
        # The largest weight of every output channel uses all its bits.
        weight_exp = torch.ceil(torch.log2(largest / self._weight_top))
        # Beside weights that are all nearly zero, the bias alone must fit float64.
        bias = self.bias.double().abs().clamp_min(2.0**-40)
        weight_exp = torch.maximum(weight_exp, torch.ceil(torch.log2(bias / 2**40)))
        grid = power_of_two(weight_exp)
        self.load_integers(
            {
                "weight_int": torch.round(scaled / grid.view(-1, 1, 1, 1)),
                "bias_int": torch.round(self.bias.double() / grid),
                "weight_exp": weight_exp,
                "input_exp": input_exp,
                "widths": torch.tensor([self.input_bits, self.weight_bits]),
            }
        )

    def integers(self) -> dict[str, Tensor]:
        """The layer as the integers that are stored with the weights.

        weight_int (O, I / groups, k, k) int16, bias_int (O,) int64, weight_exp (O,)
        int16 and input_exp (I,) int16: weights in units of 2^(weight_exp - input_exp).
        widths (2,) int16: bits of inputs and weights, signs counted.
        """
        return {k: v.clone() for k, v in self._integers.items()}

    @torch.no_grad()
    def load_integers(self, integers: dict[str, Tensor]) -> None:
        """Take over stored integers; the layer is frozen afterwards.

        Raises ModelError for integers outside their widths, or of other shapes.
        """
        dtypes = {
            "weight_int": torch.int16,
            "bias_int": torch.int64,
            "weight_exp": torch.int16,
            "input_exp": torch.int16,
            "widths": torch.int16,
        }
        kept = {k: integers[k].to(d) for k, d in dtypes.items()}
        rows, own = self.bias.shape, self.input_step.shape
        shapes = self.weight.shape, rows, rows, own, (2,)
        shaped = all(kept[k].shape == s for k, s in zip(dtypes, shapes, strict=True))
        if not (shaped and self._fit(kept, integers)):
            raise ModelError(
                f"integers of an exact layer {tuple(self.weight.shape)} do not fit "
                "their widths; the weights file is damaged: get it again"
            )
        input_bits, weight_bits = kept["widths"].tolist()
        self._integers, self._carrier, self._laid_out = kept, None, {}
        self.input_bits, self.weight_bits = input_bits, weight_bits
        grid, step = (power_of_two(kept[k]) for k in ("weight_exp", "input_exp"))
        weight = kept["weight_int"].double() * grid.view(-1, 1, 1, 1)
        self.weight.copy_(weight / self._of_weights(step))
        self.bias.copy_(kept["bias_int"].double() * grid)
        self.input_step.copy_(step)

    @staticmethod
    def _fit(kept: dict[str, Tensor], integers: dict[str, Tensor]) -> bool:
        """Whether nothing was cut off, and all is within widths that are sane."""
        same = all(bool((kept[k] == integers[k]).all()) for k in kept)
        small = max(int(kept[k].int().abs().max()) for k in ("weight_exp", "input_exp"))
        input_bits, weight_bits = kept["widths"].tolist()
        sane = 2 <= input_bits <= 48 and 2 <= weight_bits <= 16 and small <= 64
        largest = int(kept["weight_int"].int().abs().max())
        return same and sane and largest < 1 << (weight_bits - 1)

    @classmethod
    def regridded(
        cls, integers: dict[str, Tensor], grids: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        out, own = (
            power_of_two(integers[k].long() - grids[k].long())
            for k in ("weight_exp", "input_exp")
        )
        weight = integers["weight_int"].double()
        groups = len(own) // weight.shape[1]
        own = own.view(groups, 1, -1).expand(-1, len(weight) // groups, -1)
        weight = weight * out.view(-1, 1, 1, 1) / own.reshape(len(weight), -1, 1, 1)
        return {"weight_int": weight}

    def certificate(self, name: str = "") -> Certificate:
        """Bound every partial sum of every output channel, in its own units."""
        weight = self._integers["weight_int"].double().abs().sum(dim=(1, 2, 3))
        bias = self._integers["bias_int"].double().abs()
        worst = float((weight * self._input_top + bias).max())
        small = worst <= FLOAT32_LIMIT
        return Certificate(
            layer=name,
            bound=worst,
            carrier="float32" if small else "float64",
            limit=float(FLOAT32_LIMIT if small else FLOAT64_LIMIT),
            weight_bits=self.weight_bits,
            input_bits=self.input_bits,
        )

    def _of_weights(self, step: Tensor) -> Tensor:
        """Numbers of the inputs, (I,), beside their weights: (O, I / g, 1, 1)."""
        own = step.view(self.groups, 1, -1)
        own = own.expand(-1, self.out_channels // self.groups, -1)
        return own.reshape(self.out_channels, -1, 1, 1)

    @property
    def _input_top(self) -> int:
        return 2 ** (self.input_bits - 1) - 1

    @property
    def _weight_top(self) -> int:
        return 2 ** (self.weight_bits - 1) - 1


def exact_conv(x: Tensor, layer: ExactConv2d) -> Tensor:
    """Convolve grid values in the certified carrier; returns float32 or float64."""
    dtype = layer.carrier(x.device)
    x, (weight, bias) = x.to(dtype), layer.laid_out(dtype, x.device)
    if x.device.type == "cpu":
        sizes = layer.stride, layer.padding, layer.dilation, layer.groups
        return F.conv2d(x, weight, bias, *sizes)
    return conv_by_matmul(x, weight, bias, layer.stride[0], layer.padding[0])


def neighbours(x: Tensor, where: Positions, k: int) -> Tensor:
    """The k x k surroundings of each position in ``where``: (B, n, k k C).

    x: (B, C, h, w), zero outside. Positions are rows of memory here, so gathering is
    a copy of whole rows; unfolding first and selecting after took three times as long.
    """
    b, c, _, w = x.shape
    r = k // 2
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, r, r, r, r)).flatten(1, 2)
    row, column = where.index // w, where.index % w
    shift = torch.arange(k, device=x.device)
    rows = (row[:, None, None] + shift[:, None]) * (w + 2 * r)
    index = (rows + column[:, None, None] + shift).flatten()
    return padded.index_select(1, index).view(b, len(where), k * k * c)
