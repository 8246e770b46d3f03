# SPDX-License-Identifier: Apache-2.0
"""Guided selective compression: which values are not coded, as decoders know it too.

    what the densities are made of ─ 1x1 ─┐
    their numbers ────────────────────────┼─ conv3 ─ σ ─ conv3 ─ σ ─ 1x1 ─┐
    whether their deviation is 0.3 or more ┘                              ⊕ ─ > 0: coded
    how unsure they are ─ a slope and a threshold for each channel ───────┘

A value that is not coded is its mean, and costs nothing: its table says one symbol. The
networks are exact, and read what a decoder has before the pass; untrained, they code
what has a deviation of 0.3 or more. MLICv2, Jiang et al. 2025 (arXiv 2504.19119),
equations 11 to 13, of which no code is published.

While training every value is coded, and the networks learn by cross-entropy which of
them are not 0 (`penalty`); the densities are not moved by that. In the paper's last
stage (``joint``, from weights of the first) only coded values count, the others are
their means, and all else is trained on. The choice itself is a step without a gradient:
what these networks have learned stays as it is there, and how the paper moves them in
that stage it does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.exact.activations import hard_swish
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.priors.scales import LOG_STEP, SCALE_BINS, SCALE_MIN
from polycodec.entropy_models.references.fusion import among

THRESHOLD = math.log(0.3 / SCALE_MIN) / LOG_STEP  # the scale index of σ = 0.3
MISSED = 8.0  # how many values coded in vain one dropped value weighs


class Guidance(nn.Module):
    """Of one slice. ``inputs``: of each pass's network; ``raw``: numbers of densities;
    ``channels``: of the slice; ``width``: of the layers."""

    def __init__(self, inputs: list[int], raw: int, channels: int, width: int) -> None:
        super().__init__()
        self.sides = nn.ModuleList(ExactConv2d(i, width) for i in inputs)
        self.first = ExactConv2d(width + raw + channels, width, 3)
        self.second = ExactConv2d(width, width, 3)
        self.last = ExactConv2d(width, channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.lines = nn.ModuleList(
            ExactConv2d(channels, channels, groups=channels) for _ in inputs
        )
        for line in cast("Iterable[ExactConv2d]", self.lines):
            nn.init.ones_(line.weight)
            nn.init.constant_(line.bias, -THRESHOLD)

    def forward(
        self, half: int, given: Tensor, raw: Tensor, doubt: Tensor, where: Positions
    ) -> Tensor:
        """Logits (B, C, 1, n): above 0 a value is coded."""
        doubt = doubt.clamp(0, SCALE_BINS - 1)
        likely = (doubt >= THRESHOLD).to(doubt.dtype)
        x = torch.cat([self.sides[half](given), raw, likely], 1)
        x = hard_swish(among(self.first, x, where))
        x = hard_swish(among(self.second, x, where))
        return self.last(x) + self.lines[half](doubt)


def cross_entropy(logits: Tensor, value: Tensor) -> Tensor:
    """Of logits and whether values, means subtracted, round to another than 0."""
    coded = (value.abs() >= 0.5).to(logits.dtype)
    weight = 1 + (MISSED - 1) * coded
    return F.binary_cross_entropy_with_logits(
        logits.float(), coded.float(), weight.float()
    )
