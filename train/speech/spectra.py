# SPDX-License-Identifier: Apache-2.0
"""Short-time spectra and mel bands, as losses and measures see them.

    X = rfft(w · x[t:t+n]) / ‖w‖        Hann window; noise of deviation σ has |X| of
                                        about σ at every resolution
    mel(f) = 2595 log₁₀(1 + f/700)      bands are triangles even in mel, from 0 Hz to
                                        half the rate, each at least two bins wide at
                                        half its height, weights summing to 1

Real and imaginary parts come as two planes and gradients are written out: with complex
tensors and the generic rules the same losses took four times as long on one core.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.lru_cache(maxsize=32)
def _window(size: int, device: torch.device) -> Tensor:
    window = torch.hann_window(size, device=device)
    return window / window.square().sum().sqrt()


class _Planes(torch.autograd.Function):
    """x (B, T) -> real and imaginary parts (B, frames, size/2 + 1) of its frames."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor, hop: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(window)
        ctx.hop, ctx.shape = hop, x.shape
        spectra = torch.fft.rfft(x.unfold(-1, len(window), hop) * window)
        parts = torch.view_as_real(spectra)
        return parts[..., 0].contiguous(), parts[..., 1].contiguous()

    @staticmethod
    def backward(ctx: Any, real: Tensor, imag: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        spectra = torch.complex(real, imag)
        # The inverse transform counts inner bins twice, once for each sign.
        spectra[..., 0] *= 2
        spectra[..., -1] *= 2
        frames = torch.fft.irfft(spectra, n=len(window), norm="forward")
        frames = (frames * (window / 2)).unflatten(-1, (-1, ctx.hop))
        count, pieces = frames.shape[1:3]
        hops = frames.new_zeros(ctx.shape[0], count + pieces - 1, ctx.hop)
        for j in range(pieces):
            hops[:, j : j + count] += frames[:, :, j]
        unseen = ctx.shape[1] - hops.shape[1] * ctx.hop
        return F.pad(hops.flatten(1), (0, unseen)), None, None


class _Magnitude(torch.autograd.Function):
    """√(re² + im² + ε²) of two planes."""

    @staticmethod
    def forward(ctx: Any, real: Tensor, imag: Tensor, floor: float) -> Tensor:
        power = torch.addcmul(real * real, imag, imag)
        value = power.add_(floor**2).sqrt_()
        ctx.save_for_backward(real, imag, value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        real, imag, value = ctx.saved_tensors
        ratio = grad / value
        return real * ratio, imag * ratio, None


def spectrum(
    x: Tensor, size: int, overlap: int = 4, shift: int = 0
) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts (B, frames, size/2 + 1) of x (B, T).

    A window every size/``overlap`` samples, zeros at both ends; the first one begins
    ``shift`` samples later than it would. ``overlap`` divides size.
    """
    x = F.pad(x, (size // 2 - shift, size // 2 + shift))
    return _Planes.apply(x, _window(size, x.device), size // overlap)


def magnitude(planes: tuple[Tensor, Tensor], floor: float) -> Tensor:
    """√(|X|² + ``floor``²); the plain absolute value has no gradient at 0."""
    return _Magnitude.apply(*planes, floor)


def mel_filters(bands: int, size: int, rate: int) -> Tensor:
    """Return triangles (size/2 + 1, bands) that map bins to mel bands.

    For losses: of bands narrower than a bin the sides are widened, which a measure
    (`codecs/measures/speech.py`) must not do.
    """
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
