# SPDX-License-Identifier: Apache-2.0
"""Short-time spectra and mel bands, as losses and measures see them.

X = rfft(w · x[t:t+n]) / ‖w‖        Hann window, hop n/4; noise of deviation σ
                                    has |X| of about σ at every resolution
mel(f) = 2595 log₁₀(1 + f/700)      bands are triangles even in mel, from 0 Hz to
                                    half the rate, each at least two bins wide at
                                    half its height, weights summing to 1
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.lru_cache(maxsize=32)
def _window(size: int, device: torch.device) -> Tensor:
    window = torch.hann_window(size, device=device)
    return window / window.square().sum().sqrt()


def spectrum(x: Tensor, size: int) -> Tensor:
    """Complex spectra (B, frames, size/2 + 1) of x (B, T), zeros at both ends."""
    x = F.pad(x, (size // 2, size // 2))
    return torch.fft.rfft(x.unfold(-1, size, size // 4) * _window(size, x.device))


def squared(spectra: Tensor) -> Tensor:
    """|X|²; the plain absolute value has no gradient at 0."""
    parts = torch.view_as_real(spectra)
    return parts.square().sum(-1)


def mel_filters(bands: int, size: int, rate: int) -> Tensor:
    """Triangles (size/2 + 1, bands) that map bins to mel bands."""
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2) * top / 2595) - 1)
    bins = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    width = rate / size  # low bands are narrower than a bin; widen their sides
    middle = edges[1:-1]
    low = torch.minimum(edges[:-2], middle - width)
    high = torch.maximum(edges[2:], middle + width)
    rising = (bins[:, None] - low) / (middle - low)
    falling = (high - bins[:, None]) / (high - middle)
    weights = torch.minimum(rising, falling).clamp_min(0)
    return (weights / weights.sum(0)).float()
