# SPDX-License-Identifier: Apache-2.0
"""Measures of images: known figures, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from signals import photo

from polycodec.codecs.measures import image as measures
from polycodec.errors import InputError


def test_psnr_of_a_known_difference():
    a = np.full((10, 12, 3), 100, np.uint8)
    b = a.copy()
    b[..., 0] = 106  # MSE = 36 / 3 = 12, and 10 log10(65025 / 12) = 37.339
    assert measures.psnr(a, b) == pytest.approx(37.339, abs=1e-3)
    assert measures.psnr(b, a) == measures.psnr(a, b)  # no wrap-around of uint8
    assert measures.psnr(a, a) == measures.PSNR_EXACT


def test_psnr_of_other_peaks_and_of_equal_images():
    a = np.full((4, 5), 60_000, np.uint16)
    b = a + np.uint16(100)  # 20 log10(65535 / 100)
    assert measures.psnr(a, b, peak=65535) == pytest.approx(56.329, abs=1e-3)
    assert measures.psnr(a, a, peak=65535, exact=math.inf) == math.inf


def test_psnr_of_tensors_is_that_of_their_files():
    import torch

    x = torch.from_numpy(np.stack([photo(k) for k in range(2)])) / 255
    y = (x * 255 + torch.tensor([3.0, 9.0]).view(2, 1, 1, 1)).clamp(0, 255).round()
    found = measures.psnr_of_mse((x - y / 255).square().mean(dim=(1, 2, 3)))
    for k in range(2):
        pair = ((x[k] * 255).round().numpy().astype(np.uint8), y[k].numpy())
        assert float(found[k]) == pytest.approx(measures.psnr(*pair), abs=1e-3)


def test_ms_ssim_is_one_minus_nothing_for_equal_pictures_and_falls_with_noise():
    pytest.importorskip("torchmetrics", reason="needs the eval extra")
    a = photo(1)
    slightly = np.clip(a + np.random.default_rng(0).normal(0, 5, a.shape), 0, 255)
    much = np.clip(a + np.random.default_rng(0).normal(0, 40, a.shape), 0, 255)
    same, _ = measures.ms_ssim(a, a)
    near, _ = measures.ms_ssim(a, slightly.astype(np.uint8))
    far, _ = measures.ms_ssim(a, much.astype(np.uint8))
    assert same == 1.0
    assert same > near > far
    assert measures.decibel(0.99) == pytest.approx(20.0)


@pytest.mark.parametrize("seed", range(4))
def test_ms_ssim_of_equal_pictures_is_not_rounded(seed):
    pytest.importorskip("torchmetrics", reason="needs the eval extra")
    noise = np.random.default_rng(seed).integers(0, 256, (200, 190, 3), np.uint8)
    assert measures.ms_ssim(noise // 64 + 96, noise // 64 + 96) == (1.0, None)


def test_ms_ssim_needs_176_pixels_a_side():
    pytest.importorskip("torchmetrics", reason="needs the eval extra")
    small = photo(1, (175, 300))
    value, reason = measures.ms_ssim(small, small)
    assert value is None and "176" in reason
    assert measures.ms_ssim(photo(1, (176, 176)), photo(1, (176, 176)))[1] is None


def test_ms_ssim_says_when_a_picture_is_too_large(monkeypatch):
    monkeypatch.setattr(measures, "MS_SSIM_MAX_PIXELS", 180 * 200 - 1)
    value, reason = measures.ms_ssim(photo(1), photo(1))
    assert value is None and "above" in reason


def test_measures_refuse_pictures_of_other_shapes():
    with pytest.raises(InputError, match="expected"):
        measures.psnr(photo(0), photo(0)[1:])
    with pytest.raises(InputError, match="uint8"):
        measures.ms_ssim(photo(0) / 255, photo(0) / 255)
