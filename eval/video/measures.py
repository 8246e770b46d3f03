# SPDX-License-Identifier: Apache-2.0
"""How far a decoded clip is from its original, each frame by itself, then the mean.

    psnr       of R, G, B, as papers on networks for one clip report it
    psnr_yuv   (6 PSNR of Y + PSNR of U + PSNR of V) / 8, as the video field does
    ms_ssim    of R, G, B

The two PSNRs differ by decibels and are never compared with one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polycodec.codecs.measures import image
from polycodec.codecs.measures.base import Measure, Measures, Unjudged
from polycodec.errors import InputError
from polycodec.eval.video.clip import pairs, planes_of, rgb


def psnr_rgb(original: np.ndarray, decoded: np.ndarray) -> float:
    """Mean over frames of the PSNR in dB of 8-bit RGB."""
    values = [image.psnr(rgb(a), rgb(b)) for a, b in pairs(original, decoded)]
    return float(np.mean(values))


def psnr_yuv(original: np.ndarray, decoded: np.ndarray) -> float:
    """Mean over frames of (6 Y + U + V) / 8, PSNRs in dB of the planes."""
    values = []
    for a, b in pairs(original, decoded):
        y, u, v = map(image.psnr, planes_of(a), planes_of(b))
        values.append((6 * y + u + v) / 8)
    return float(np.mean(values))


def ms_ssim(original: np.ndarray, decoded: np.ndarray) -> float:
    """Mean over frames of the MS-SSIM of 8-bit RGB; Unjudged for small frames."""
    values = []
    for a, b in pairs(original, decoded):
        value, reason = image.ms_ssim(rgb(a), rgb(b))
        if value is None:
            raise Unjudged(reason)
        values.append(value)
    return float(np.mean(values))


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape:
        raise InputError(
            f"the decoded clip does not match its original; expected {original.shape}, "
            f"found {decoded.shape}; the codec that decoded it is at fault"
        )


_ALL: dict[str, Any] = {"better": 1, "silent": True}
MEASURES = Measures(
    _check,
    Measure(
        *("psnr", "PSNR of RGB", "dB", 2),
        judge=lambda original, decoded, rate: psnr_rgb(original, decoded),
        rule="8-bit RGB, of each frame",
        **_ALL,
    ),
    Measure(
        *("psnr_yuv", "PSNR of YUV", "dB", 2),
        judge=lambda original, decoded, rate: psnr_yuv(original, decoded),
        rule="(6 Y + U + V) / 8 of 8-bit 4:2:0, of each frame",
        **_ALL,
    ),
    Measure(
        *("ms_ssim", "MS-SSIM", "", 4),
        judge=lambda original, decoded, rate: ms_ssim(original, decoded),
        packages=(("torchmetrics", "torchmetrics"),),
        rule=f"{image.MS_SSIM_RULE}, of each frame",
        **_ALL,
    ),
    Measure(
        *("ms_ssim_db", "MS-SSIM", "dB", 2),
        judge=lambda original, decoded, rate: ms_ssim(original, decoded),
        of_mean=("ms_ssim", image.decibel),
        **_ALL,
    ),
)
