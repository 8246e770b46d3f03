# SPDX-License-Identifier: Apache-2.0
"""A network that tells pictures from decoded ones, patch by patch.

    x ─ conv4 ↓2 ─ { conv4 ↓2, norm } × (layers - 1) ─ conv4, norm ─ conv4 ─ logits

Leaky ReLU of 0.2 between; each logit is of a patch of x. Isola et al. 2017, "Image-to-
image translation with conditional adversarial networks" (PatchGAN, arXiv 1611.07004),
as Control-GIC has it: 2 layers of 64 filters, batch norm, first weights of N(0, 0.02).
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.train.adversary import Judged

SLOPE, LAYERS = 0.2, 2


class PatchDiscriminator(nn.Module):
    """One network; x (B, 3, H, W) in [0, 1]."""

    def __init__(self, filters: int = 64) -> None:
        super().__init__()
        widths = [filters * min(2**k, 8) for k in range(LAYERS + 1)]
        stages: list[nn.Module] = [nn.Conv2d(3, filters, 4, 2, 1)]
        for k, (a, b) in enumerate(pairwise(widths), 1):
            conv = nn.Conv2d(a, b, 4, 2 if k < LAYERS else 1, 1, bias=False)
            stages.append(nn.Sequential(conv, nn.BatchNorm2d(b)))
        self.stages = nn.ModuleList(stages)
        self.last = nn.Conv2d(widths[-1], 1, 4, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> list[Judged]:
        """Logits and features of x."""
        x, features = 2 * x - 1, []
        for stage in self.stages:
            x = F.leaky_relu(stage(x), SLOPE)
            features.append(x)
        return [(self.last(x), features)]
