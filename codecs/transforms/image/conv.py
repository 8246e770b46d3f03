# SPDX-License-Identifier: Apache-2.0
"""The classic pair: four 5x5 convolutions of stride 2 with GDN between them.

    g_a   x ─ conv5 ↓2 ─ GDN ─ conv5 ↓2 ─ GDN ─ conv5 ↓2 ─ GDN ─ conv5 ↓2 ─ y
          H             H/2             H/4             H/8             H/16
    g_s   y ─ up5 ↑2 ─ IGDN ─ up5 ↑2 ─ IGDN ─ up5 ↑2 ─ IGDN ─ up5 ↑2 ─ x̂

    GDN    y_i = x_i / √(β_i + Σ_j γ_ij x_j²)          IGDN multiplies instead

Ballé, Laparra, Simoncelli 2017 (arXiv 1611.01704) for GDN; Ballé et al. 2018 (arXiv
1802.01436) and Minnen, Ballé, Toderici 2018 (arXiv 1809.02736) for the pair. Level
scales after every GDN (`rate.py`) let one set of weights serve all rates; they can be
left out (``scaled: false``), and the pair is then that of the papers.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.image.shortcuts import (
    ShortcutTransform,
    beside,
    through,
)
from polycodec.codecs.transforms.rate import RateScale
from polycodec.entropy_models.priors.scales import soft_clamp
from polycodec.registry import register

# Parameters v stand for max(v, bound)² - PEDESTAL. The square root makes small values
# learn slowly, the pedestal keeps the gradient of a zero from vanishing.
PEDESTAL = 2.0**-36
BETA_FLOOR = 1e-6


class GDN(nn.Module):
    """Divisive normalisation over the channels of (B, C, h, w); or its inverse."""

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        beta, gamma = torch.ones(channels), 0.1 * torch.eye(channels)
        self.beta = nn.Parameter((beta + PEDESTAL).sqrt())
        self.gamma = nn.Parameter((gamma + PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        # Squares and roots lose too much in bfloat16: always float32 here.
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            beta = _positive(self.beta, BETA_FLOOR)
            gamma = _positive(self.gamma, 0.0)[..., None, None]
            return (wide * self.factor(wide, gamma, beta)).to(x.dtype)

    def factor(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """What x (B, C, h, w) is multiplied by; gamma (C, C, 1, 1), beta (C,)."""
        norm = F.conv2d(x.square(), gamma, beta)
        return norm.sqrt() if self.inverse else norm.rsqrt()


class GDN1(GDN):
    """Without squares and roots: y_i = x_i / (β_i + Σ_j γ_ij |x_j|).

    Johnston, Eban, Gordon, Ballé 2019 (arXiv 1912.08771): the exponents that they found
    best among simple ones, cheaper on small devices.
    """

    def factor(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        norm = F.conv2d(x.abs(), gamma, beta)
        return norm if self.inverse else norm.reciprocal()


def _positive(v: Tensor, floor: float) -> Tensor:
    """The value >= ``floor`` that a stored parameter stands for."""
    bound = (floor + PEDESTAL) ** 0.5
    return soft_clamp(v, bound, float("inf")).square() - PEDESTAL


class Stack(nn.Module):
    """Convolutions with GDN and level scale between them: g_a, or g_s if ``up``.

    Linear shortcuts beside them, if asked for.
    """

    def __init__(
        self, widths: list[int], knots: int, shortcut: bool, *, up: bool
    ) -> None:
        super().__init__()
        inner = widths[1:-1]
        pairs = list(itertools.pairwise(widths))
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 5, 2, 2, 1) if up else nn.Conv2d(a, b, 5, 2, 2)
            for a, b in pairs
        )
        self.norms = nn.ModuleList(GDN(width, inverse=up) for width in inner)
        self.scales = nn.ModuleList(RateScale(width, knots) for width in inner)
        self.shortcuts = beside(shortcut, widths, [2] * len(pairs), up=up)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        stages = [partial(self._stage, i) for i in range(len(self.convs))]
        return through(stages, self.shortcuts, x, level)

    def _stage(self, i: int, x: Tensor, level: Tensor) -> Tensor:
        x = self.convs[i](x)  # (B, N, H/2, W/2), then H/4, H/8; at last (B, M, H/16)
        return x if i == len(self.norms) else self.scales[i](self.norms[i](x), level)


@register("transform/conv")
class ConvTransform(ShortcutTransform):
    """The pair g_a, g_s. ``width``: N of the papers; ``scaled``: level scales.

    ``shortcut``: linear wavelet shortcuts beside the convolutions (`shortcuts.py`).
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 128,
        scaled: bool = True,
        shortcut: bool = False,
        knots: int = 8,
    ) -> None:
        super().__init__(channels, 16)
        inner = [width] * 3
        levels = knots if scaled else 1
        g_a = Stack([3, *inner, channels], levels, shortcut, up=False)
        g_s = Stack([channels, *inner, 3], levels, shortcut, up=True)
        self.g_a, self.g_s = g_a, g_s
        self.ends = g_a.convs[-1], g_s.convs[-1]

    def reach(self) -> tuple[int, int]:
        """See :meth:`ImageTransform.reach`.

        A conv5 of stride 2 reaches 2 positions of its input, 1, 2, 4 and 8 pixels wide;
        an up5 reaches 1 of its input, 1, 1/2, 1/4 and 1/8 latents wide.
        """
        return 2 * (1 + 2 + 4 + 8), 2
