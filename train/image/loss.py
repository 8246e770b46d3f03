# SPDX-License-Identifier: Apache-2.0
"""What training minimises: bits per pixel + λ 255² MSE, every level alike."""

from __future__ import annotations

import torch
from torch import Tensor

BALANCE_POINT = 0.0067  # the λ whose level weighs 1


def rate_distortion(
    bits: Tensor, x_hat: Tensor, x: Tensor, lmbda: Tensor, balance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of w (bpp + λ 255² MSE) over the batch, bpp (B,), MSE (B,).

    w = (λ_mid/λ)^balance keeps every level's share of the loss alike: at the optimum
    both terms grow like the square root of λ.
    """
    bpp = bits / (x.shape[-1] * x.shape[-2])
    mse = (x_hat.float() - x).square().mean(dim=(1, 2, 3))
    weight = (BALANCE_POINT / lmbda) ** balance
    return (weight * (bpp + lmbda * 255**2 * mse)).mean(), bpp, mse


def draw_levels(count: int, top: float) -> Tensor:
    """Draw rate levels (B,) in 0 … top; 4 % fall exactly on either end.

    Gains are interpolated between knots, so the outermost ones would otherwise see
    half of the others' gradients, and -q 0 is where a file has the fewest bits.
    """
    margin = 0.04 * top
    return (torch.rand(count) * (top + 2 * margin) - margin).clamp(0, top)
