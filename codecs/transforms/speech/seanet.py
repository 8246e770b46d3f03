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

from polycodec.codecs.transforms.base import Context, SpeechTransform
from polycodec.codecs.transforms.speech.waveform import (
    Chain,
    Conv,
    Reaching,
    Up,
    check_sizes,
    contexts,
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
        """Input positions that outputs lo..hi depend on."""
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
        """All the past, nothing of the future."""
        return -math.inf, hi


def analysis(
    D: int, width: int, ratios: Sequence[int], lstm: int, causal: bool
) -> Chain:
    """g_a: (B, 1, T) -> (B, D, T/hop); ``ratios`` from the waveform inwards."""
    layers: list[nn.Module] = [Conv(1, width, 7, causal=causal)]
    for r in ratios:
        layers += [Residual(width, causal=causal), nn.ELU()]
        layers += [Conv(width, 2 * width, 2 * r, r, causal=causal)]
        width *= 2
    if lstm:
        layers.append(Recurrent(width, lstm))
    return Chain(*layers, nn.ELU(), Conv(width, D, 7, causal=causal))


def synthesis(
    D: int, width: int, ratios: Sequence[int], lstm: int, causal: bool
) -> Chain:
    """g_s: (B, D, F) -> (B, 1, F·hop); ``ratios`` from the waveform inwards."""
    wide = width * 2 ** len(ratios)
    layers: list[nn.Module] = [Conv(D, wide, 7, causal=causal)]
    if lstm:
        layers.append(Recurrent(wide, lstm))
    for r in reversed(ratios):
        layers += [nn.ELU(), Up(wide, wide // 2, r, causal=causal)]
        wide //= 2
        layers.append(Residual(wide, causal=causal))
    return Chain(*layers, nn.ELU(), Conv(wide, 1, 7, causal=causal))


@register("transform/seanet")
class SeanetTransform(SpeechTransform):
    """The pair g_a, g_s on (B, 1, T), T a multiple of ``hop``.

    ``width``: C of the picture (32 with 128 channels are EnCodec's 15 M parameters, 16
    with 64 a quarter of them); ``ratios``: strides from the waveform inwards, whose
    product is the hop; ``lstm``: layers of each LSTM, 0 for none.
    """

    g_a: Chain
    g_s: Chain

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
        self.causal = causal
        parts = (channels, width, tuple(ratios), lstm, causal)
        self.g_a, self.g_s = analysis(*parts), synthesis(*parts)

    def contexts(self) -> tuple[Context | None, Context | None]:
        """See :meth:`SpeechTransform.contexts`."""
        return contexts(self.g_a, self.g_s, self.hop)
