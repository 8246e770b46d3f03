# SPDX-License-Identifier: Apache-2.0
"""A distance that looks at edges and structure, a substitute for LPIPS.

    1 - MS-SSIM(x, x̂)  +  Σ_s mean |∇x_s - ∇x̂_s| / 3          x_s at 1, 1/2, 1/4

LPIPS is what Control-GIC trains with (Zhang et al. 2018, arXiv 1801.03924): distances
of features of a network of classes, whose weights this project does not have. This is
no estimate of it, and is called LPIPS nowhere. MS-SSIM: `codecs.fitting.loss`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.fitting.loss import ms_ssim

SCALES = 3


def perceptual(x: Tensor, x_hat: Tensor) -> Tensor:
    """The distance of pictures (B, 3, H, W) in [0, 1], differentiable in both."""
    with torch.autocast(x.device.type, enabled=False):
        x, x_hat = x.float(), x_hat.float()
        total = ms_ssim(x, x_hat)
        for _ in range(SCALES):
            for axis in (2, 3):
                apart = x.diff(dim=axis) - x_hat.diff(dim=axis)
                total = total + apart.abs().mean() / SCALES
            x, x_hat = F.avg_pool2d(x, 2), F.avg_pool2d(x_hat, 2)
        return total
