# SPDX-License-Identifier: Apache-2.0
"""How far a decoded picture is from its original: PSNR and MS-SSIM.

    PSNR = 10 log10(255² / MSE),  MSE over all pixels and R, G, B of one picture
    MS-SSIM in dB = -10 log10(1 - MS-SSIM)

Both are computed for each picture on its 8-bit decoded file. The figure of a
data set is the mean over pictures of the per-picture value, as the field does
it, not the PSNR of a mean MSE. MS-SSIM: Wang, Simoncelli, Bovik 2003, by
torchmetrics, with its original five weights and 11-tap Gaussian (sigma 1.5).
"""

from __future__ import annotations

import math

import numpy as np

from polycodec.errors import InputError

# Identical pictures have no finite PSNR; this value keeps their mean finite.
PSNR_EXACT = 100.0
# Four halvings must leave 11 whole pixels for the window: 11 * 16. (Others floor
# differently and begin at 161; torchmetrics begins here.)
MS_SSIM_MIN_SIDE = 176
# About 150 bytes a pixel are needed at once: 2.4 GB here.
MS_SSIM_MAX_PIXELS = 16_000_000
# Part of every stored result: results of other rules are not reused.
RULES = "psnr rgb 8 bit, per picture; ms-ssim torchmetrics rgb, 5 scales"


def psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    """Compute the RGB PSNR in dB of two (H, W, 3) uint8 pictures.

    Identical pictures give ``PSNR_EXACT``. Shapes that differ are an InputError.
    """
    _check(original, decoded)
    difference = original.astype(np.int32) - decoded.astype(np.int32)
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    if mse == 0.0:
        return PSNR_EXACT
    return 10.0 * math.log10(255.0**2 / mse)


def ms_ssim(
    original: np.ndarray, decoded: np.ndarray
) -> tuple[float | None, str | None]:
    """Compute the MS-SSIM (0..1) of two (H, W, 3) uint8 pictures.

    Returns the value and None, or None and the reason why there is no value.
    """
    _check(original, decoded)
    height, width = original.shape[:2]
    if min(height, width) < MS_SSIM_MIN_SIDE:
        return None, f"{width}x{height} is below {MS_SSIM_MIN_SIDE} pixels a side"
    if height * width > MS_SSIM_MAX_PIXELS:
        return None, f"{width}x{height} is above {MS_SSIM_MAX_PIXELS} pixels"
    import torch
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as measure,
    )

    with torch.inference_mode():
        value = measure(_tensor(decoded), _tensor(original), data_range=1.0)
    return float(value), None


def decibel(similarity: float | None) -> float | None:
    """Turn an MS-SSIM into dB; None stays None, 1.0 becomes ``PSNR_EXACT``."""
    if similarity is None:
        return None
    if similarity >= 1.0:
        return PSNR_EXACT
    return -10.0 * math.log10(1.0 - similarity)


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.dtype != decoded.dtype:
        raise InputError(
            "the decoded picture does not match its original; expected "
            f"{original.shape} {original.dtype}, found {decoded.shape} "
            f"{decoded.dtype}; the codec that decoded it is at fault"
        )
    if original.dtype != np.uint8 or original.ndim != 3:
        raise InputError(
            "metrics need 8-bit colour pictures; expected (H, W, 3) uint8, found "
            f"{original.shape} {original.dtype}; convert them before measuring"
        )


def _tensor(picture: np.ndarray):
    import torch

    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)[None] / 255.0  # (1, 3, H, W)
