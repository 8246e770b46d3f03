# SPDX-License-Identifier: Apache-2.0
"""The token family: latents become indexes of codebooks.

    x ── g_a ──► z ── quantizer ──► codes ──[ entropy: code(coder, codes) ]── codes
    x̂ ◄─ g_s ── ẑ ◄── vectors ────────────────────────────────────────────────┘

A codec here is a composition: any `transform/*` with any `quantizer/*` of as many
channels and any `entropy/tokens-*`. The first levels of a residual codebook are a
coarser version of all, so one set of weights has as many rates as levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.signals.speech import SoundCodec, check_width
from polycodec.codecs.signals.windows import BlockStream
from polycodec.registry import build, register


@dataclass
class TokenOutput:
    """What training sees: x_hat (B, 1, T), z and z_hat (B, D, F), codes (B, L, F)
    and the quantizer's own loss (B,)."""

    x_hat: Tensor
    z: Tensor
    z_hat: Tensor
    codes: Tensor
    loss: Tensor


@register("codec/token")
class TokenCodec(SoundCodec):
    """A transform, a codebook quantizer and an entropy model for its indexes.

    ``rate``: samples a second. ``block``: frames that networks handle at once.
    Without ``entropy`` it can be trained and gives codes, but no bytes.
    """

    def __init__(
        self,
        *,
        rate: int = 16000,
        channels: int = 64,
        transform: dict[str, Any] | None = None,
        quantizer: dict[str, Any] | None = None,
        entropy: dict[str, Any] | None = None,
        block: int = 50,
    ) -> None:
        super().__init__()
        transform = {"name": "spectral", **(transform or {})}
        quantizer = {"name": "residual", **(quantizer or {})}
        names = (
            f"transform/{transform.pop('name')}",
            f"quantizer/{quantizer.pop('name')}",
        )
        self.transform = build(names[0], **{"channels": channels, **transform})
        self.quantizer = build(names[1], **{"channels": channels, **quantizer})
        check_width(names[0], self.transform, channels)
        check_width(names[1], self.quantizer, channels)
        self.rate, self.channels = rate, channels
        self.block, self.hop = block, self.transform.hop
        self.entropy = None
        if entropy is not None:
            options = {k: v for k, v in entropy.items() if k != "name"}
            sizes = {"sizes": self.quantizer.sizes}
            self.entropy = build(f"entropy/{entropy['name']}", **{**sizes, **options})

    @property
    def ready(self) -> bool:
        """Whether there is an entropy model with tables: real bytes can be made."""
        return self.entropy is not None and super().ready

    @property
    def levels(self) -> int:
        """Levels of the codebook."""
        return self.quantizer.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        return self.quantizer.sizes

    def forward(
        self, x: Tensor, active: Tensor | None = None, *, quantize: bool = True
    ) -> TokenOutput:
        """Train: x (B, 1, T), T a multiple of the hop, ``active`` levels (B,)."""
        z = self.transform.g_a(x)
        if not quantize:
            empty = torch.empty(x.shape[0], 0, z.shape[-1], dtype=torch.int64)
            return TokenOutput(
                self.transform.g_s(z), z, z, empty, z.new_zeros(x.shape[0]).float()
            )
        q = self.quantizer(z, active)
        return TokenOutput(self.transform.g_s(q.z_hat), z, q.z_hat, q.codes, q.loss)

    def codes_of(self, z: Tensor, levels: int) -> Tensor:
        """Codes (B, levels, F) of latents z (B, D, F)."""
        return self.quantizer.encode(z, levels)

    def latents_of(self, codes: Tensor, levels: int) -> Tensor:
        """Latents (B, D, F) of codes (B, levels, F)."""
        return self.quantizer.decode(codes)

    def check_codes(self, codes: Tensor) -> None:
        """InputError that names a code outside its codebook, or a level too many."""
        self.quantizer.check_codes(codes)

    def any_rate_stream(self) -> BlockStream:
        """Codes of all levels: the first ones are those of fewer."""
        return self.analysis_stream()

    def at_rate(self, kept: Tensor, levels: int) -> Tensor:
        """The first ``levels`` of codes (B, L, F)."""
        return kept[:, : self._check_levels(levels)]

    def _levels_of(self, codes: Tensor, levels: int | None) -> int:
        return codes.shape[1]

    def _code(
        self, coder: Any, codes: Tensor | None, levels: int, size: tuple[int, int]
    ) -> Tensor:
        batch, frames = size
        return self.entropy.code(coder, codes, (batch, levels, frames))
