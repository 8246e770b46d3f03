# SPDX-License-Identifier: Apache-2.0
"""Speech in the frame domain: compressed complex spectra and ConvNeXt blocks.

    x ─ STFT 400/160 ─ X |X|^-0.7 ─ conv3 ─ CN × a ─ conv4 ↓2 ─ conv1 ─ z
    T      201 bins, 100 Hz    402    width                50 Hz      D
    x̂ ─ overlap-add ─ Y |Y|^2.33 ─ conv1 ─ CN × s ─ convT4 ↑2 ─ conv3 ─ ẑ

    CN    y + γ · linear(gelu(linear(norm(depthwise 7 (y)))))

Everything runs at 100 or 50 positions a second, so a step costs a fraction of one in
the waveform domain. Real and imaginary parts are kept: an encoder that sees magnitudes
only cannot restore the phase. ConvNeXt: Liu et al. 2022 (arXiv 2201.03545); spectra
in, spectra out: Siuzdak 2023, "Vocos" (arXiv 2306.00814).

``causal`` pads on the left only: analysis then looks no sample ahead, and synthesis
waits for one more frame, whose windows overlap.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.base import Context, SpeechTransform
from polycodec.registry import register

WINDOW, HOP = 400, 160  # samples; two hops are one frame of the latent
BINS = WINDOW // 2 + 1
POWER = 0.3  # |X|^0.3: loud and soft parts come close to one another
FLOOR = 1e-5  # added to |X|²: 16-bit silence


def compressed(frames: Tensor) -> Tensor:
    """Compressed spectra (B, n, 402) of windowed frames (B, n, 400)."""
    spectrum = torch.view_as_real(torch.fft.rfft(frames))
    power = spectrum.square().sum(-1, keepdim=True) + FLOOR
    return (spectrum * power ** ((POWER - 1) / 2)).flatten(2)


def expanded(y: Tensor) -> Tensor:
    """Frames (B, n, 400), to be windowed, of compressed spectra (B, n, 402)."""
    # A copy always: an exported program meets other strides than were traced.
    y = y.clone(memory_format=torch.contiguous_format).unflatten(2, (BINS, 2))
    power = y.square().sum(-1, keepdim=True) + 1e-8
    y = y * power ** ((1 / POWER - 1) / 2)
    return torch.fft.irfft(torch.view_as_complex(y), n=WINDOW)


class Conv(nn.Conv2d):
    """Convolution over time of (B, C, 1, T), padded by (left, right) zeros."""

    def __init__(
        self, a: int, b: int, k: int, pad: tuple[int, int], **options: Any
    ) -> None:
        super().__init__(a, b, (1, k), **options)
        self.pad = (*pad, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pad))


class ConvNeXt(nn.Module):
    """y + γ linear(gelu(linear(norm(depthwise(y))))) on (B, C, 1, T), channels last."""

    def __init__(self, width: int, hidden: int, pad: tuple[int, int]) -> None:
        super().__init__()
        self.mix = Conv(width, width, 7, pad, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.mix(x).permute(0, 2, 3, 1))  # (B, 1, T, C)
        y = self.down(F.gelu(self.up(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


@register("transform/spectral")
class SpectralTransform(SpeechTransform):
    """g_a: (B, 1, T) -> (B, D, T/320); g_s: (B, D, F) -> (B, 1, 320 F).

    ``widths``: channels of analysis and synthesis; ``depths``: their blocks;
    ``expansion``: width inside a block over its width.
    """

    window: Tensor

    def __init__(
        self,
        channels: int = 64,
        *,
        widths: tuple[int, int] = (256, 288),
        depths: tuple[int, int] = (3, 6),
        expansion: float = 2.5,
        causal: bool = False,
    ) -> None:
        super().__init__(channels, 2 * HOP)
        self.causal, self.depths = causal, depths
        a, s = widths
        seven, three = ((6, 0), (2, 0)) if causal else ((3, 3), (1, 1))

        def blocks(width: int, depth: int) -> nn.Sequential:
            hidden = int(expansion * width)
            return nn.Sequential(
                *(ConvNeXt(width, hidden, seven) for _ in range(depth))
            )

        four = (2, 0) if causal else (1, 1)
        self.analysis = nn.Sequential(
            Conv(2 * BINS, a, 3, three),
            blocks(a, depths[0]),
            Conv(a, a, 4, four, stride=(1, 2)),
            nn.Conv2d(a, channels, 1),
        )
        self.synthesis = nn.Sequential(
            Conv(channels, s, 3, three),
            _Up(s, causal),
            blocks(s, depths[1]),
            nn.Conv2d(s, 2 * BINS, 1),
        )
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        # Samples that the first and the last window reach over a hop's edges.
        reach = WINDOW - HOP
        self.reach = (reach, 0) if causal else (reach // 2, reach // 2)

    def contexts(self) -> tuple[Context, Context]:
        # In half frames: 2 for conv3 and 6 a block, all on the left if causal. The
        # windows reach over 240 samples, which two half frames hold.
        inner_a, inner_s = 2 + 6 * self.depths[0], 6 * self.depths[1]
        if self.causal:
            left = math.ceil((2 + inner_a + 2) / 2)
            return (left, 0), (math.ceil((2 + inner_s) / 2) + 3, 1)
        one = math.ceil((1 + inner_a / 2 + 1) / 2)
        two = math.ceil((1 + inner_s / 2 + 1) / 2) + 1
        return (one, one), (two, two)

    def g_a(self, x: Tensor) -> Tensor:
        """Latents (B, D, T/320) of x (B, 1, T), T divisible by 320."""
        with torch.autocast(x.device.type, enabled=False):
            x = F.pad(x.float().squeeze(1), self.reach)
            spectrum = compressed(x.unfold(-1, WINDOW, HOP) * self.window)
        y = spectrum[:, None].permute(0, 3, 1, 2)  # (B, 402, 1, 2F)
        return self.analysis(y).squeeze(2)

    def g_s(self, z_hat: Tensor) -> Tensor:
        """Waveform (B, 1, 320 F) of latents (B, D, F)."""
        y = z_hat[:, :, None].contiguous(memory_format=torch.channels_last)
        y = self.synthesis(y).permute(0, 2, 3, 1).squeeze(1)  # (B, 2F, 402)
        with torch.autocast(y.device.type, enabled=False):
            return self._overlap_add(expanded(y.float()))[:, None]

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Windowed frames (B, n, 400) to samples (B, 160 n)."""
        count = frames.shape[1]
        length = (count - 1) * HOP + WINDOW

        def fold(columns: Tensor) -> Tensor:
            size, kernel = (1, length), (1, WINDOW)
            return F.fold(columns.mT, size, kernel, stride=(1, HOP))[:, 0, 0]

        square = self.window.square().expand(1, count, WINDOW)
        left, right = self.reach
        kept = slice(left, length - right)
        total = fold(frames * self.window)[:, kept]
        return total / fold(square)[:, kept].clamp_min(1e-3)


class _Up(nn.Module):
    """Transposed convolution over time: (B, C, 1, F) -> (B, C, 1, 2F)."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, width, (1, 4), (1, 2))
        self.cut = (0, 2) if causal else (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.cut
        y = self.conv(x)
        return y[..., left : y.shape[-1] - right]
