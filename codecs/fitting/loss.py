# SPDX-License-Identifier: Apache-2.0
"""How far a fitted item is from its original, to be descended.

    l1, l2      mean error, mean squared error
    ssim        1 - SSIM, 11 taps, σ = 1.5                                    (NeRV)
    ms_ssim     1 - MS-SSIM, 5 taps, of as many of its five scales as fit  (HiNeRV)
    fft         mean |FFT(x̂) - FFT(x)| of real and imaginary parts, orthonormal, × 1440

The last is the high-frequency loss of HNeRV-Boost (arXiv 2402.18152, equation 9), whose
transform is not normalized: so its weight would depend on the size of frames, and 1440
is what it is at 1920x1080. Wang, Simoncelli, Bovik 2003, "Multiscale structural
similarity". These are for images; a sound takes l1 and l2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.errors import ModelError

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FULL = 1440.0


def window(taps: int, like: Tensor) -> Tensor:
    """A Gaussian of σ = 1.5, (taps,)."""
    at = torch.arange(taps, device=like.device, dtype=like.dtype) - (taps - 1) / 2
    bell = torch.exp(-at.square() / (2 * 1.5**2))
    return bell / bell.sum()


def similarities(x: Tensor, y: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """SSIM, and its part of contrast and structure, of (B, C, H, W) in [0, 1]."""
    channels, bell = x.shape[1], window(taps, x)
    across = bell.view(1, 1, 1, taps).expand(channels, 1, 1, taps)
    down = bell.view(1, 1, taps, 1).expand(channels, 1, taps, 1)

    def smooth(v: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(v, across, groups=channels), down, groups=channels)

    mx, my = smooth(x), smooth(y)
    xx, yy, xy = (
        smooth(x * x) - mx * mx,
        smooth(y * y) - my * my,
        smooth(x * y) - mx * my,
    )
    structure = (2 * xy + 0.03**2) / (xx + yy + 0.03**2)
    light = (2 * mx * my + 0.01**2) / (mx * mx + my * my + 0.01**2)
    return (light * structure).mean(), structure.mean()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """1 - SSIM; with fewer taps where the image is smaller than eleven."""
    return 1 - similarities(x, y, min(11, *x.shape[-2:]))[0]


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """1 - MS-SSIM, 5 taps, of the scales at which the window fits."""
    taps = min(5, *x.shape[-2:])
    scales, side = 1, min(x.shape[-2:])
    while scales < len(SCALES) and side // 2**scales >= taps:
        scales += 1
    total, product = sum(SCALES[:scales]), torch.ones((), device=x.device)
    for k in range(scales):
        if k:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        whole, structure = similarities(x, y, taps)
        part = whole if k == scales - 1 else structure
        product = product * part.clamp_min(1e-4) ** (SCALES[k] / total)
    return 1 - product


def fft(x: Tensor, y: Tensor) -> Tensor:
    """The high-frequency loss."""
    apart = torch.fft.fft2(x - y, norm="ortho")
    return FULL * torch.view_as_real(apart).abs().mean()


PARTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "fft": fft,
}


def distance(x: Tensor, y: Tensor, weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of the named parts, of items (B, C, *S) in [0, 1]."""
    for name in weights:
        if name not in PARTS:
            raise ModelError(f"no loss is called '{name}'; expected {', '.join(PARTS)}")
    return torch.stack([w * PARTS[name](x, y) for name, w in weights.items()]).sum()
