# SPDX-License-Identifier: Apache-2.0
"""One-dimensional layers of exact length that know how far they look.

    conv   T ──► T / stride          output o looks at  o·stride - left ...
    up     T ──► T · stride          o·stride - left + kernel - 1
    reach(lo, hi)   first and last input position that outputs lo..hi depend on

Causal layers look only back: all of a convolution's padding stands on the left, all
that a transposed one is cut by is cut from the right. Lengths are exact for odd
strides too. Padding is zeros, not the reflection that is usual in this field: a
reflected start shows the first frames their future, and codecs run these layers on
blocks of a signal whose surroundings are given, where reflection would mean nothing.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.base import Context, SpeechTransform
from polycodec.errors import ModelError


class Reaching(nn.Module, abc.ABC):
    """A layer that knows how far it looks; others work point by point."""

    @abc.abstractmethod
    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        """First and last input position that outputs lo..hi depend on."""


class Normed(nn.Module):
    """A convolution over time of weights g v / |v|, the norm over all but axis 0.

    Stored as torch's `weight_norm` stores it, whose modules cannot be pickled.
    Salimans, Kingma 2016 (arXiv 1602.07868).
    """

    def __init__(self, layer: nn.Conv1d | nn.ConvTranspose1d) -> None:
        super().__init__()
        self.stride, self.up = layer.stride, isinstance(layer, nn.ConvTranspose1d)
        self.bias = layer.bias
        v = layer.weight.detach()
        g = torch.norm_except_dim(v, 2, 0)
        factors = nn.ParameterDict({"original0": g, "original1": v})
        self.parametrizations = nn.ModuleDict({"weight": factors})

    @property
    def weight(self) -> Tensor:
        """g v / |v|."""
        factors: Any = self.parametrizations["weight"]
        weight: Tensor = torch._weight_norm(factors["original1"], factors["original0"])
        return weight

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return F.conv_transpose1d(x, self.weight, self.bias, self.stride)
        return F.conv1d(x, self.weight, self.bias, self.stride)


class Conv(Reaching):
    """Convolution (B, C, T) -> (B, C', T/stride) with weight norm, zeros around."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        total = kernel - stride
        self.right = 0 if causal else total // 2
        self.left = total - self.right
        self.conv = Normed(nn.Conv1d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (self.left, self.right)))

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        first = lo * self.stride - self.left
        return first, hi * self.stride - self.left + self.kernel - 1


class Up(Reaching):
    """Transposed convolution (B, C, T) -> (B, C', T·stride), kernel 2·stride."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, *, causal: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        self.right = stride if causal else stride // 2
        self.left = stride - self.right
        layer = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.conv = Normed(layer)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)  # (B, C', (T + 1)·stride)
        return y[..., self.left : y.shape[-1] - self.right]

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        if math.isinf(lo) or math.isinf(hi):
            return lo, hi
        first = -(-(lo + self.left - 2 * self.stride + 1) // self.stride)
        return first, (hi + self.left) // self.stride


class Chain(Reaching, nn.Sequential):
    """Layers one after the other."""

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        for layer in reversed(self):
            if isinstance(layer, nn.GroupNorm):  # its statistics are of all time
                return -math.inf, math.inf
            if isinstance(layer, Reaching):
                lo, hi = layer.reach(lo, hi)
        return lo, hi


class WaveformTransform(SpeechTransform):
    """A pair of such layers, whose contexts follow from them."""

    g_a: Reaching
    g_s: Reaching

    def contexts(self) -> tuple[Context | None, Context | None]:
        hop = self.hop
        lo, hi = self.g_a.reach(0, 0)  # samples that latent 0 looks at
        analysis = _frames(-lo / hop, (hi - hop + 1) / hop)
        lo, hi = self.g_s.reach(0, hop - 1)  # latents that its samples look at
        return analysis, _frames(-lo, hi)


def _frames(left: float, right: float) -> Context | None:
    if math.isinf(left) or math.isinf(right):
        return None
    return max(0, math.ceil(left)), max(0, math.ceil(right))


def check_sizes(what: str, **sizes: int | Iterable[int]) -> None:
    """Refuse widths, strides and counts below 1, by name."""
    for name, value in sizes.items():
        values = [value] if isinstance(value, int) else list(value)
        if not values or min(values) < 1:
            raise ModelError(
                f"{what}: {name} is {value}; expected whole numbers from 1 upwards; "
                "correct the config"
            )
