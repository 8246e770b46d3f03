# SPDX-License-Identifier: Apache-2.0
"""The networks of side information: h_a makes z of y, h_s features φ of ẑ.

                  h_a                                  h_s
    plain         conv3, conv3 ↓2, conv3 ↓2            1x1 ↑2, conv3, 1x1 ↑2, conv3
    MLIC++'s      conv3 twice, ↓2, conv3, conv3 ↓2     conv3, conv3 ↑2, twice, conv3

Ballé et al. 2018 (arXiv 1802.01436); the deep pair is that of MLIC++ (Jiang, Wang 2023,
arXiv 2307.15421), h_s with hard swish in place of GELU. h_s is exact when frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.errors import ModelError


class HyperAnalysis(nn.Sequential):
    """h_a: (B, M, h, w) -> z (B, N, ceil(h/4), ceil(w/4)); ordinary floats."""

    def __init__(self, M: int, N: int) -> None:
        super().__init__(
            nn.Conv2d(M, N, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(N, N, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(N, N, 3, 2, 1),
        )


class HyperSynthesis(nn.Module):
    """h_s: ẑ (B, N, h/4, w/4) -> features φ (B, F, h, w); exact when frozen."""

    def __init__(self, N: int, features: int) -> None:
        super().__init__()
        self.up1 = ExactConv2d(N, 4 * N, 1)  # (B, 4N, h/4, w/4)
        self.mid = ExactConv2d(N, N, 3)  # (B, N, h/2, w/2)
        self.up2 = ExactConv2d(N, 4 * N, 1)
        self.out = ExactConv2d(N, features, 3)  # (B, F, h, w)

    def forward(self, z_hat: Tensor, size: tuple[int, int]) -> Tensor:
        t = F.relu(F.pixel_shuffle(self.up1(z_hat), 2))
        t = F.relu(self.mid(t))
        t = F.relu(F.pixel_shuffle(self.up2(t), 2))
        return F.relu(self.out(t[..., : size[0], : size[1]]))


class DeepAnalysis(nn.Sequential):
    """h_a of five convolutions: (B, M, h, w) -> (B, N, ceil(h/4), ceil(w/4))."""

    def __init__(self, M: int, N: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(M, N, 3, 1, 1)]
        for stride in (1, 2, 1, 2):
            layers += [nn.GELU(), nn.Conv2d(N, N, 3, stride, 1)]
        super().__init__(*layers)


class DeepSynthesis(nn.Module):
    """h_s of five convolutions, the second and fourth ↑2: (B, N, ...) -> (B, F, h, w).

    ``widths``: behind each of them, F the last.
    """

    def __init__(self, N: int, widths: Sequence[int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        sizes = [(N, a), (a, 4 * b), (b, c), (c, 4 * d), (d, e)]
        self.layers = nn.ModuleList(ExactConv2d(i, o, 3) for i, o in sizes)

    def forward(self, z_hat: Tensor, size: tuple[int, int]) -> Tensor:
        t = z_hat
        for i, layer in enumerate(self.layers):
            if i == 4:
                t = t[..., : size[0], : size[1]]
            t = layer(hard_swish(t) if i else t)
            t = F.pixel_shuffle(t, 2) if i in (1, 3) else t
        return t


def hyper_pair(
    M: int, N: int, features: int, synthesis: Sequence[int]
) -> tuple[nn.Module, nn.Module]:
    """h_a and h_s; ``synthesis``: widths of MLIC++'s h_s, none for the plain pair."""
    if not synthesis:
        return HyperAnalysis(M, N), HyperSynthesis(N, features)
    if len(synthesis) != 5 or synthesis[-1] != features:
        raise ModelError(
            f"the hyper synthesis has widths {list(synthesis)}; expected five, the "
            f"last of them the {features} features"
        )
    return DeepAnalysis(M, N), DeepSynthesis(N, synthesis)
