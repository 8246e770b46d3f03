# SPDX-License-Identifier: Apache-2.0
"""How far a decoded image is from its original: PSNR and MS-SSIM.

    PSNR = 10 log10(peak² / MSE),  MSE over all samples of one image, R, G, B alike
    MS-SSIM in dB = -10 log10(1 - MS-SSIM)

The figure of a data set is the mean over images of the per-image value, as the field
does it, not the PSNR of a mean MSE. MS-SSIM: Wang, Simoncelli, Bovik 2003, by
torchmetrics, with its original five weights and 11-tap Gaussian (sigma 1.5). Unlike
Wang's, its mean at the last scale takes in five pixels of reflected border on each
side: that moved JPEG by at most 0.013 dB at 768x512 pixels and 0.12 dB at 176x176.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polycodec.codecs.measures.base import Measure, Measures, Unjudged
from polycodec.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Identical images have no finite PSNR; this value keeps their mean finite.
PSNR_EXACT = 100.0
# Four halvings must leave 11 whole pixels for the window: 11 * 16. (Others floor
# differently and begin at 161; torchmetrics begins here.)
MS_SSIM_MIN_SIDE = 176
# About 150 bytes a pixel are needed at once: 2.4 GB here.
MS_SSIM_MAX_PIXELS = 16_000_000


def psnr(
    original: np.ndarray,
    decoded: np.ndarray,
    *,
    peak: float = 255.0,
    exact: float = PSNR_EXACT,
) -> float:
    """Return the PSNR in dB of two images of one shape, samples 0..``peak``.

    Identical images give ``exact``. Shapes that differ are an InputError.
    """
    _check(original, decoded)
    difference = np.subtract(original, decoded, dtype=np.float64)
    mse = float(np.mean(np.square(difference, out=difference)))
    return exact if mse == 0.0 else 10.0 * math.log10(peak**2 / mse)


def psnr_of_mse(mse: Tensor) -> Tensor:
    """Return the PSNR in dB of mean squared errors (...) of samples in [0, 1].

    For validation, which has the errors as tensors; infinite where the error is 0.
    """
    return -10 * mse.log10()


def ms_ssim(
    original: np.ndarray, decoded: np.ndarray
) -> tuple[float | None, str | None]:
    """Return the MS-SSIM (0..1) of two (H, W, 3) uint8 images.

    Returns the value and None, or None and the reason why there is no value. It is 1
    exactly for equal images, which rounding would have a little beside it.
    """
    _check(original, decoded)
    if {original.dtype, decoded.dtype} != {np.dtype(np.uint8)} or original.ndim != 3:
        raise InputError(
            "MS-SSIM needs 8-bit colour images; expected (H, W, 3) uint8, found "
            f"{original.shape} {original.dtype} and {decoded.dtype}; convert them "
            "before measuring"
        )
    height, width = original.shape[:2]
    if min(height, width) < MS_SSIM_MIN_SIDE:
        return None, f"{width}x{height} is below {MS_SSIM_MIN_SIDE} pixels a side"
    if height * width > MS_SSIM_MAX_PIXELS:
        return None, f"{width}x{height} is above {MS_SSIM_MAX_PIXELS} pixels"
    if np.array_equal(original, decoded):
        return 1.0, None
    import torch
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as measure,
    )

    planes = np.stack([decoded, original]).transpose(0, 3, 1, 2).astype(np.float32)
    pair = torch.from_numpy(planes / 255)  # (2, 3, H, W)
    return float(measure(pair[:1], pair[1:], data_range=1.0)), None


def decibel(similarity: float) -> float:
    """Return an MS-SSIM in dB; 1.0 becomes ``PSNR_EXACT``."""
    if similarity >= 1.0:
        return PSNR_EXACT
    return -10.0 * math.log10(1.0 - similarity)


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape:
        raise InputError(
            "the decoded image does not match its original; expected "
            f"{original.shape}, found {decoded.shape}; the codec that decoded it is at "
            "fault"
        )


def _similarity(original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    value, reason = ms_ssim(original, decoded)
    if value is None:
        raise Unjudged(reason)
    return value


MS_SSIM_RULE = (
    "RGB, 5 scales, 11-tap Gaussian, the last scale with its reflected border, 1 for "
    "equal pictures"
)
_BOTH: dict[str, Any] = {"better": 1, "silent": True}
MEASURES = Measures(
    _check,
    Measure(
        *("psnr", "PSNR", "dB", 2),
        judge=lambda original, decoded, rate: psnr(original, decoded),
        rule="8-bit RGB, of each image",
        **_BOTH,
    ),
    Measure(
        *("ms_ssim", "MS-SSIM", "", 4),
        judge=_similarity,
        packages=(("torchmetrics", "torchmetrics"),),
        rule=MS_SSIM_RULE,
        **_BOTH,
    ),
    Measure(
        *("ms_ssim_db", "MS-SSIM", "dB", 2),
        judge=_similarity,
        of_mean=("ms_ssim", decibel),
        **_BOTH,
    ),
)
