# SPDX-License-Identifier: Apache-2.0
"""SEANet: the convolutional pair of the neural speech codecs, on the waveform itself.

    g_a   x ─ conv7 ─ [ RB ─ ELU ─ conv ↓r, width x2 ] r = 2, 4, 5, 8 ─ LSTM ─ conv7 ─ z
          T     C                                 16 C, T/320                D, T/320
    g_s   z ─ conv7 ─ LSTM ─ [ ELU ─ up ↑r, width /2 ─ RB ] r = 8, 5, 4, 2 ─ conv7 ─ x̂

    RB    1x1(x) + 1x1( ELU( conv3( ELU(x) ) ) ),    half the width inside

A convolution of stride r has kernel 2r; every convolution has weight norm. Tagliasacchi
et al. 2020, "SEANet: a multi-modal speech enhancement network" (arXiv 2009.02095), as
EnCodec uses it: Défossez et al. 2022 (arXiv 2210.13438). Causal: a latent depends on no
sample after its own frame, a sample on no later latent. With the LSTM the memory has no
end: such a pair cannot run in blocks with a context.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from polycodec.codecs.transforms.speech.waveform import (
    Chain,
    Conv,
    Reaching,
    Up,
    WaveformTransform,
    check_sizes,
)
from polycodec.registry import register


class Residual(Reaching):
    """1x1(x) + 1x1(ELU(conv3(ELU(x)))) on (B, C, T); the shortcut is learned too."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        inner = max(1, width // 2)
        self.shortcut = Conv(width, width, 1)
        self.branch = Chain(
            nn.ELU(),
            Conv(width, inner, 3, causal=causal),
            nn.ELU(),
            Conv(inner, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        return self.branch.reach(lo, hi)  # the shortcut looks at lo..hi itself


class Recurrent(Reaching):
    """x + LSTM(x) on (B, C, F), forwards in time."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x.transpose(1, 2))
        return x + y.transpose(1, 2)

    def reach(self, lo: float, hi: float) -> tuple[float, float]:
        return -math.inf, hi


@register("transform/seanet")
class SeanetTransform(WaveformTransform):
    """The pair g_a, g_s on (B, 1, T), T a multiple of ``hop``.

    ``width``: C of the picture (32 with 128 channels are EnCodec's 15 M parameters, 16
    with 64 a quarter of them); ``ratios``: strides from the waveform inwards, whose
    product is the hop; ``lstm``: layers of each LSTM, 0 for none.
    """

    def __init__(
        self,
        channels: int = 64,
        *,
        width: int = 16,
        ratios: Sequence[int] = (2, 4, 5, 8),
        causal: bool = True,
        lstm: int = 0,
    ) -> None:
        check_sizes("seanet", channels=channels, width=width, ratios=ratios)
        super().__init__(channels, math.prod(ratios))
        wide = width * 2 ** len(ratios)
        down: list[nn.Module] = [Conv(1, width, 7, causal=causal)]
        up: list[nn.Module] = []  # from the waveform inwards too
        for r in ratios:
            down += [Residual(width, causal=causal), nn.ELU()]
            down += [Conv(width, 2 * width, 2 * r, r, causal=causal)]
            up += [Residual(width, causal=causal)]
            up += [Up(2 * width, width, r, causal=causal), nn.ELU()]
            width *= 2
        if lstm:
            down.append(Recurrent(wide, lstm))
            up.append(Recurrent(wide, lstm))
        up.append(Conv(channels, wide, 7, causal=causal))
        self.g_a = Chain(*down, nn.ELU(), Conv(wide, channels, 7, causal=causal))
        last = Conv(wide // 2 ** len(ratios), 1, 7, causal=causal)
        self.g_s = Chain(*reversed(up), nn.ELU(), last)
