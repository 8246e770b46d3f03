# SPDX-License-Identifier: Apache-2.0
"""The token family: latents become indexes of codebooks.

    x ── g_a ──► z ── quantizer ──► codes ──[ entropy: code(coder, codes) ]── codes
    x̂ ◄─ g_s ── ẑ ◄── vectors ────────────────────────────────────────────────┘

A codec here is a composition: a signal, any transform of it with any quantizer of as
many channels and any `entropy/tokens-*`. The first levels of a residual codebook are a
coarser version of all, so one set of weights has as many rates as levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.mapped import MappedEncoder
from polycodec.codecs.families.parts import Options, grid_of, part_of, signal_of
from polycodec.codecs.quantizers.base import MappedQuantizer, Quantizer
from polycodec.codecs.signals.tiles import ImageEncoder
from polycodec.codecs.transforms.base import Tiling, Transform
from polycodec.codecs.transforms.numbers import real
from polycodec.codecs.transforms.rate import Levels
from polycodec.entropy_models.base import Coder, EntropyModel
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.registry import register

if TYPE_CHECKING:
    from polycodec.codecs.fitting.plan import Plan


@dataclass
class TokenOutput:
    """What training sees: x_hat (B, C, *S), z and z_hat (B, D, *s), codes (B, L, *s)
    and the quantizer's own loss (B,)."""

    x_hat: Tensor
    z: Tensor
    z_hat: Tensor
    codes: Tensor
    loss: Tensor


@register("codec/token")
class TokenCodec(Codec):
    """A transform, a codebook quantizer and an entropy model for its indexes.

    ``rate`` and ``block``: options of the speech signal, where configs have them here.
    Without ``entropy`` it can be trained and gives codes, but no bytes.
    """

    family = "token"

    def __init__(
        self,
        *,
        signal: Options | str | None = None,
        rate: int | None = None,
        channels: int = 64,
        transform: Options | None = None,
        quantizer: Options | None = None,
        entropy: Options | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__()
        self.signal = signal_of(signal, "speech", rate=rate, block=block)
        self.channels = channels
        shared: dict[str, Any] = {"signal": self.signal, "channels": channels}
        self.transform = part_of(
            Transform, "transform", transform, default="spectral", knots=1, **shared
        )
        self.quantizer: Quantizer = part_of(
            Quantizer, "quantizer", quantizer, default="residual", **shared
        )
        self.rates = Levels(len(self.quantizer.rates))
        self.entropy: EntropyModel | None = None
        if entropy is not None:
            self.entropy = part_of(
                EntropyModel,
                "entropy",
                entropy,
                default="tokens-adaptive",
                codes=TokenModel.codes,
                signal=self.signal,
                sizes=self.quantizer.sizes,
                alike=self.quantizer.alike,
                given=self.quantizer.given,
                when=self.quantizer.when,
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        return self.quantizer.sizes

    @property
    def stride(self) -> int:
        return self.transform.stride * self.quantizer.stride

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        latents, fold = super().grid(size), self.quantizer.stride
        return tuple(-(-n // fold) for n in latents)

    @property
    def tiling(self) -> Tiling:
        fold, local = self.quantizer.stride, self.quantizer.local
        return super().tiling.folded(fold, self.stride, local)

    def planes(self, level: float) -> int:
        """Planes of codes that a level has."""
        return self.quantizer.rates[int(self.check_level(level)) - 1]

    def forward(
        self,
        x: Tensor,
        active: Tensor | None = None,
        *,
        rate: Tensor | None = None,
        quantize: bool = True,
    ) -> TokenOutput:
        """Train: x (B, C, *S), S multiples of the stride, ``active`` planes (B,).

        rate: (B,), of quantizers whose planes do not say it (`Quantizer.forward`).
        """
        z = self.analyse(self.signal.prepared(x), self.levels)
        if not quantize:
            empty = torch.empty(len(x), 0, *z.shape[2:], dtype=torch.int64)
            loss = z.new_zeros(len(x)).float()
            z_hat = self.quantizer.relaxed(z)
            x_hat = self.signal.restored(self.synthesise(z_hat, self.levels))
            return TokenOutput(x_hat, z, z_hat, empty, loss)
        q = self.quantizer(z, active, rate)
        x_hat = self.signal.restored(self.synthesise(q.z_hat, self.levels))
        return TokenOutput(x_hat, z, q.z_hat, q.codes, q.loss)

    def analyse(self, x: Tensor, level: float) -> Tensor:
        return self.transform.analyse(x, self._one_rate(x))

    def _encode(self, x: Tensor, level: float, plan: Plan | None) -> Tensor:
        # Floats choose the words, and a batch is summed in another order than one.
        encode, each = super()._encode, x.split(1) if len(x) else (x,)
        return torch.cat([encode(one, level, plan) for one in each])

    def quantize(self, z: Tensor, level: float) -> Tensor:
        """See :meth:`Codec.quantize`: codes (B, levels, *S)."""
        return self.quantizer.encode_at(real(z), int(self.check_level(level)))

    def code(
        self,
        coder: Coder,
        codes: Tensor | None,
        level: float,
        size: tuple[int, ...] | None = None,
        *,
        side: Tensor | None = None,
    ) -> Tensor:
        size = grid_of(codes, size)
        planes = self.planes(level) if codes is None else codes.shape[1]
        assert self.entropy is not None
        decoded = self.entropy.code(coder, codes, (size[0], planes, *size[1:]))
        return decoded.to(self.device)  # tokens are coded on the host

    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        return self.quantizer.decode(codes)

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        return self.transform.synthesise(z_hat, self._one_rate(z_hat))

    def image_encoder(
        self, pixels: np.ndarray, peak: int, tile: int, effort: int = 0
    ) -> ImageEncoder:
        if isinstance(self.quantizer, MappedQuantizer):
            return MappedEncoder(self, self.quantizer, pixels, peak, tile, effort)
        return super().image_encoder(pixels, peak, tile, effort)

    def check_codes(self, codes: Tensor) -> None:
        """InputError that names a code outside its codebook, or a level too many."""
        self.quantizer.check_codes(codes)

    def finest(self, z: Tensor) -> Tensor:
        """Codes of all levels, whose first ones are those of fewer; or latents."""
        if isinstance(self.quantizer, MappedQuantizer):
            return z
        return self.quantize(z, self.levels)

    def coarsened(self, kept: Tensor, level: float) -> Tensor:
        """The first ``level`` of codes (B, L, *S)."""
        if isinstance(self.quantizer, MappedQuantizer):
            return self.quantize(kept, level)
        return kept[:, : self.planes(level)]

    def least_bits(self, level: float, size: Sequence[int]) -> float:
        """Each of K codes has a share of 2^-15 at least, so that none has all of it.

        Planes that a map may leave out can take none.
        """
        rules = zip(self.sizes, self.quantizer.when, strict=True)
        kinds = [k for k, rule in list(rules)[: self.planes(level)] if rule is None]
        return math.prod(size) * sum(-math.log2(1 - (k - 1) / 2**15) for k in kinds)

    @staticmethod
    def _one_rate(like: Tensor) -> Tensor:
        return torch.zeros(like.shape[0], device=like.device)
