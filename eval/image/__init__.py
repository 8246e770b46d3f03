# SPDX-License-Identifier: Apache-2.0
"""Evaluation on images: 8-bit RGB, PSNR and MS-SSIM over bits per pixel, BD-rates."""
