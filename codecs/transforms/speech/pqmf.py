# SPDX-License-Identifier: Apache-2.0
"""The autoencoder on sub-bands of LatentSpeech: PQMF, three strides, two heads.

    g_a   x ─ PQMF ─ conv7 ─ conv9 ↓4 ─ conv9 ↓5 ─ 1x1 ─ z
          T   16 bands, T/16   96    192        384   D, T/320
    g_s   z ─ 1x1 ─ up ↑5 ─ up ↑4 ─┬─ conv7: w ─┐
                                   └─ conv3: l ─┴─ tanh(w)·(2 σ(l)^2.3) ─ PQMF⁻¹ ─ x̂

    band k    h_k[n] = 2 h[n] cos( (2k+1) π n / 2M + (-1)^k π/4 ),   n = 0 in the middle

The prototype h is a Kaiser low-pass for 100 dB whose cut-off makes h * h vanish best at
every multiple of 2M: 59.9 dB of signal to reconstruction noise for M = 16. Sub-bands
are M times shorter than the wave, so that a step costs a fifth of SEANet's.

Lou, Paik, Hu, Xing 2024, "LatentSpeech" (arXiv 2412.08117); the filter bank: Nguyen
1994, "Near-perfect-reconstruction pseudo-QMF banks". BatchNorm is left out, because its
stored statistics would decide the rate: weight norm stands there, or GroupNorm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.speech.waveform import (
    Chain,
    Conv,
    Reaching,
    Up,
    WaveformTransform,
    check_sizes,
)
from polycodec.errors import ModelError
from polycodec.registry import register

STOP_BAND = 100.0  # dB


def prototype(bands: int) -> np.ndarray:
    """The low-pass h (23.5 bands, made odd) of a bank, float64, symmetric."""
    half = int(23.5 * bands / 2)
    n = np.arange(-half, half + 1)
    window = np.kaiser(2 * half + 1, 0.1102 * (STOP_BAND - 8.7))

    def low_pass(cut: float) -> np.ndarray:
        return cut / np.pi * np.sinc(cut / np.pi * n) * window

    def leak(cut: float) -> float:
        h = low_pass(cut)
        return float(np.abs(np.convolve(h, h)[2 * half :: 2 * bands][1:]).max())

    low, high = 0.50 * np.pi / bands, 0.60 * np.pi / bands
    while high - low > 1e-9:
        cuts = np.linspace(low, high, 8)
        best = int(np.argmin([leak(cut) for cut in cuts]))
        low, high = cuts[max(0, best - 1)], cuts[min(best + 1, 7)]
    return low_pass((low + high) / 2)


class FilterBank(nn.Module):
    """Near-perfect M-band filter bank: (B, 1, T) <-> (B, M, T/M).

    Odd bands come out of the filters upside down in frequency; a sign on their even
    samples turns them, and a cut must therefore lie on an even sample.
    """

    filters: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        h = prototype(bands)
        self.bands, self.middle = bands, len(h) // 2
        k, n = np.arange(bands)[:, None], np.arange(len(h)) - self.middle
        phase = (2 * k + 1) * np.pi * n / (2 * bands) + (-1.0) ** k * np.pi / 4
        filters = torch.from_numpy(2 * h * np.cos(phase)).float()[:, None]
        # Not stored: a weights file keeps large floats in 16 bits, too few for 60 dB.
        self.register_buffer("filters", filters, persistent=False)  # (M, 1, taps)

    def analyse(self, x: Tensor) -> Tensor:
        """Sub-bands (B, M, T/M) of x (B, 1, T)."""
        pad = (self.middle, self.middle - self.bands + 1)
        with torch.autocast(x.device.type, enabled=False):  # 16 bits hold no 60 dB
            x = F.pad(x.float(), pad)
            return self._turn(F.conv1d(x, self.filters, stride=self.bands))

    def synthesise(self, u: Tensor) -> Tensor:
        """The signal (B, 1, T) of sub-bands u (B, M, T/M)."""
        with torch.autocast(u.device.type, enabled=False):
            u, filters = self._turn(u.float()), self.bands * self.filters
            y = F.conv_transpose1d(u, filters, stride=self.bands)
        return y[..., self.middle : self.middle + self.bands * u.shape[-1]]

    def _turn(self, u: Tensor) -> Tensor:
        sign = torch.ones(self.bands, 2, dtype=u.dtype, device=u.device)
        sign[1::2, 0] = -1
        return u * sign.repeat(1, -(-u.shape[-1] // 2))[:, : u.shape[-1]]


class Analysis(Reaching):
    """g_a: (B, 1, T) -> (B, D, T/hop)."""

    def __init__(self, bank: FilterBank, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bank, self.net = bank, Chain(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.bank.analyse(x))

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        lo, hi = self.net.reach(lo, hi)
        bands, middle = self.bank.bands, self.bank.middle
        return lo * bands - middle, hi * bands + middle


class Synthesis(Reaching):
    """g_s: (B, D, F) -> (B, 1, F·hop): a wave in each band and its loudness."""

    def __init__(
        self, bank: FilterBank, layers: Sequence[nn.Module], width: int
    ) -> None:
        super().__init__()
        self.bank, self.net = bank, Chain(*layers)
        self.wave = Conv(width, bank.bands, 7)
        self.loud = Conv(width, bank.bands, 3)

    def forward(self, z: Tensor) -> Tensor:
        u = self.net(z)
        loudness = 2 * torch.sigmoid(self.loud(u)) ** 2.3 + 1e-7
        return self.bank.synthesise(torch.tanh(self.wave(u)) * loudness)

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        bands, middle = self.bank.bands, self.bank.middle
        lo, hi = math.ceil((lo - middle) / bands), math.floor((hi + middle) / bands)
        return self.net.reach(*self.wave.reach(lo, hi))


@register("transform/pqmf")
class PqmfTransform(WaveformTransform):
    """The pair g_a, g_s on (B, 1, T), T a multiple of ``hop`` = bands x strides.

    ``widths``: channels from the bands inwards, one more than there are strides.
    ``norm``: "weight", or "group" for GroupNorm over time, which learns more steadily
    but leaves the contexts (frames beside a frame, see SEANet's) without an end.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        bands: int = 16,
        strides: Sequence[int] = (4, 5),
        widths: Sequence[int] = (96, 192, 384),
        norm: str = "weight",
    ) -> None:
        check_sizes("pqmf", channels=channels, bands=bands, strides=strides)
        check_sizes("pqmf", widths=widths)
        _check(bands, strides, widths, norm)
        super().__init__(channels, bands * math.prod(strides))
        bank = FilterBank(bands)

        def after(width: int) -> list[nn.Module]:
            group = [nn.GroupNorm(8, width)] if norm == "group" else []
            return [*group, nn.LeakyReLU(0.2)]

        down: list[nn.Module] = [Conv(bands, widths[0], 7), *after(widths[0])]
        up: list[nn.Module] = [Conv(channels, widths[-1], 1), *after(widths[-1])]
        steps = list(zip(itertools.pairwise(widths), strides, strict=True))
        for (a, b), s in steps:
            down += [Conv(a, b, max(9, s), s), *after(b)]
        for (a, b), s in reversed(steps):
            up += [Up(b, a, s), *after(a)]
        # The last layer is plain: an activation there would squash half of the range.
        self.g_a = Analysis(bank, [*down, Conv(widths[-1], channels, 1)])
        self.g_s = Synthesis(bank, up, widths[0])


def _check(
    bands: int, strides: Sequence[int], widths: Sequence[int], norm: str
) -> None:
    wrong = None
    if bands < 2 or bands & (bands - 1) or math.prod(strides) % 2:
        wrong = (
            f"{bands} bands, strides {tuple(strides)}; expected a power of two from 2 "
            "up, and strides whose product is even, so that frames begin on an even "
            "sample of the sub-bands"
        )
    elif len(widths) != len(strides) + 1:
        wrong = f"{len(widths)} widths for {len(strides)} strides; expected one more"
    elif norm != "weight" and (norm != "group" or any(w % 8 for w in widths)):
        wrong = (
            f"norm '{norm}' with widths {tuple(widths)}; expected 'weight', or 'group' "
            "with widths divisible by 8"
        )
    if wrong:
        raise ModelError(f"pqmf: {wrong}; correct the config")
