# SPDX-License-Identifier: Apache-2.0
"""Networks that tell recorded from decoded speech, at several views of it.

    stft     complex spectrum (re, im) ─ conv 3×9 ─ 3 × conv 3×9, stride 2 over
             frequency, dilation 1, 2, 4 over time ─ conv 3×3 ─ conv 3×3 ─ logits
             one network a window: 2048, 1024, 512 samples
    period   samples as rows of p ─ 4 × conv 5×1, stride 3 ─ conv 5×1 ─ conv 3×1
             one network a period: 2, 3, 5, 7, 11 samples

Each returns its logits and the features between its layers, which the codec is also
asked to match. Défossez et al. 2022, "High fidelity neural audio compression" (arXiv
2210.13438); Kong et al. 2020, "HiFi-GAN" (arXiv 2010.05646).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from polycodec.train.adversary import Judged
from polycodec.train.sections import AdversarySection
from polycodec.train.speech.spectra import spectrum


def _layers(first: nn.Module, *others: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(weight_norm(layer) for layer in (first, *others))


def _judge(x: Tensor, layers: nn.ModuleList, slope: float) -> Judged:
    features = []
    for layer in layers[:-1]:
        x = F.leaky_relu(layer(x), slope)
        features.append(x)
    return layers[-1](x), features


class StftDiscriminator(nn.Module):
    """One resolution; x (B, 1, T)."""

    def __init__(self, window: int, filters: int = 32) -> None:
        super().__init__()
        self.window = window

        def wide(channels: int, dilation: int, stride: int) -> nn.Conv2d:
            return nn.Conv2d(
                channels,
                filters,
                (3, 9),
                stride=(1, stride),
                dilation=(dilation, 1),
                padding=(dilation, 4),
            )

        self.layers = _layers(
            wide(2, 1, 1),
            *(wide(filters, dilation, 2) for dilation in (1, 2, 4)),
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.Conv2d(filters, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Judged:
        """Logits and features of x (B, 1, T)."""
        with torch.autocast(x.device.type, enabled=False):
            planes = torch.stack(spectrum(x.float().squeeze(1), self.window), 1)
        return _judge(planes, self.layers, 0.2)


class PeriodDiscriminator(nn.Module):
    """One period; x (B, 1, T)."""

    def __init__(self, period: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strided = [
            nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0))
            for a, b in zip((1, *widths[:-1]), widths, strict=True)
        ]
        top = widths[-1]
        self.layers = _layers(
            *strided,
            nn.Conv2d(top, top, (5, 1), padding=(2, 0)),
            nn.Conv2d(top, 1, (3, 1), padding=(1, 0)),
        )

    def forward(self, x: Tensor) -> Judged:
        """Logits and features of x (B, 1, T)."""
        x = F.pad(x, (0, -x.shape[-1] % self.period), mode="reflect")
        return _judge(x.unflatten(-1, (-1, self.period)), self.layers, 0.1)


class Discriminators(nn.Module):
    """All that a config's ``adversary`` section names."""

    def __init__(self, section: AdversarySection) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        if "stft" in section.names:
            parts += [StftDiscriminator(n, section.filters) for n in section.windows]
        if "period" in section.names:
            parts += [PeriodDiscriminator(p, section.widths) for p in section.periods]
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> list[Judged]:
        """Logits and features of x (B, 1, T) from each."""
        # Level says nothing about whether speech was coded: DC out, peaks alike.
        x = x - x.mean(-1, keepdim=True)
        x = 0.8 * x / x.abs().amax(-1, keepdim=True).clamp_min(1e-3)
        return [part(x) for part in self.parts]
