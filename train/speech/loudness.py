# SPDX-License-Identifier: Apache-2.0
"""How loud an error is: a term to train with, after the model of hearing in P.862.

    P    power in 48 bands even in Bark, of 32 ms windows, in steps of the sound
         pressure at which speech is listened to (79 dB SPL)
    L  = (P₀/½)^γ [ (½ + ½ P/P₀)^γ - 1 ]     loudness; P₀: the threshold in quiet
    D  = |L̂ - L| less a quarter of the smaller: what stands beside something loud is
         masked
    A  = ((P̂ + c)/(P + c))^1.2, cut to 0 below 3 and to 12 above: what was added
         disturbs more than what was left out

    term = 0.1 √mean ‖D‖₂² + 0.0309 √mean ‖D A‖₁²      over frames, about P.862's points

It is differentiable and costs one transform. It leaves out what P.862 does to compare
recordings of a telephone line: alignment in time, compensation of gains and filters,
intervals. So it is no measure: the figures in tables come from the package `pesq`. A
codec trained with it has seen a relative of PESQ; STOI and ViSQOL, which it has not
seen, say whether that helped.

ITU-T P.862 (2001); the idea of its loudness as a loss: Martín-Doñas et al. 2018, "A
deep learning loss function based on the perceptual evaluation of the speech quality".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polycodec.train.speech.spectra import spectrum

WINDOW = 512  # 32 ms at 16 kHz
BANDS = 48
LISTENING = 79.0  # dB SPL of speech
EXPONENT = 0.23  # γ
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # weights of the two disturbances in P.862
ADDED = 50.0  # c, as P.862 scales power
SCALE = 0.1866  # of loudness in P.862
LOUDEST = 45.0  # disturbances of a frame are cut there
QUIETEST = 1e-3  # a crop below this root mean square is not raised any further


def bark(frequency: Tensor) -> Tensor:
    """Return critical-band rate of frequencies in Hz (Zwicker)."""
    return 13 * torch.atan(7.6e-4 * frequency) + 3.5 * torch.atan(
        (frequency / 7500).square()
    )


def threshold(frequency: Tensor) -> Tensor:
    """Return threshold in quiet in dB SPL at frequencies in Hz (Terhardt)."""
    k = frequency.clamp_min(50) / 1000
    return 3.64 * k**-0.8 - 6.5 * torch.exp(-0.6 * (k - 3.3).square()) + 1e-3 * k**4


class Disturbance(nn.Module):
    """The term for a sample rate; see above."""

    filters: Tensor  # (bins, BANDS)
    floor: Tensor  # (BANDS,): power at the threshold in quiet

    def __init__(self, rate: int) -> None:
        super().__init__()
        bins = torch.linspace(0, rate / 2, WINDOW // 2 + 1, dtype=torch.float64)
        edges = torch.linspace(0, float(bark(bins[-1])), BANDS + 1, dtype=torch.float64)
        place = bark(bins)[:, None]
        middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        # Triangles, at least as wide as the bins here are apart.
        apart = torch.gradient(bark(bins))[0][:, None]
        filters = (1 - (place - middle).abs() / torch.maximum(width, apart)).clamp(0)
        filters = filters / filters.sum(1, keepdim=True).clamp_min(1e-9)
        filters[0] = 0  # no ear hears the mean
        hertz = 1960 * (middle + 0.53) / (26.28 - middle).clamp_min(1)
        floor = 10 ** (threshold(hertz.clamp(50, rate / 2)) / 10)
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("floor", floor.float(), persistent=False)
        self.width = float(width)

    def forward(self, x_hat: Tensor, x: Tensor, shift: int = 0) -> Tensor:
        """Return the mean over items x̂ and x (B, T) float32; ``shift``: of windows."""
        level = x.square().mean(1, keepdim=True).sqrt().clamp_min(QUIETEST)
        gain = 10 ** (LISTENING / 20) / level
        power = self._power(x * gain, shift)
        power_hat = self._power(x_hat * gain, shift)
        loud, loud_hat = self._loudness(power), self._loudness(power_hat)
        masked = 0.25 * torch.minimum(loud, loud_hat)
        d = ((loud_hat - loud).abs() - masked).clamp_min(0)
        with torch.no_grad():
            a = ((power_hat + ADDED) / (power + ADDED)) ** 1.2
            a = torch.where(a < 3, 0.0, a.clamp_max(12))
            weight = ((power.sum(-1) + 1e5) / 1e7) ** 0.04
        # P.862's norm over bands is scaled by the root of the Bark they cover.
        symmetric = (d.square().sum(-1) * self.width + 1e-6).sqrt() * math.sqrt(
            BANDS * self.width
        )
        asymmetric = (d * a).sum(-1) * self.width
        return SYMMETRIC * self._frames(symmetric / weight) + (
            ASYMMETRIC * self._frames(asymmetric / weight)
        )

    def _power(self, x: Tensor, shift: int) -> Tensor:
        real, imag = spectrum(x, WINDOW, 2, shift)
        # Windows have unit energy: bins of noise of deviation σ hold σ² each.
        power = (real * real + imag * imag) * (2.0 / WINDOW)
        return power @ self.filters

    def _loudness(self, power: Tensor) -> Tensor:
        lifted = (0.5 + 0.5 * power / self.floor) ** EXPONENT - 1
        return SCALE * ((self.floor / 0.5) ** EXPONENT * lifted).clamp_min(0)

    @staticmethod
    def _frames(d: Tensor) -> Tensor:
        d = d.clamp_max(LOUDEST)
        return (d.square().mean(1) + 1e-9).sqrt().mean()
