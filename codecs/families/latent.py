# SPDX-License-Identifier: Apache-2.0
"""The latent family: scalar latents of a transform, rounded and coded.

    x ── g_a ──► z ── scale(level) ──► y ──[ entropy model: code(coder, y) ]── ŷ
    x̂ ◄─ g_s ── ẑ ◄── unscale(level) ──────────────────────────────────────────┘

A codec here is a composition: a signal, any transform of it, any entropy model of as
many channels, and what a rate does to latents (`rates.py`). Nothing in this file knows
a particular system, and training, encoding and decoding differ only in the coder that
`entropy.code` is handed. On speech, with whole-number steps and a PQMF autoencoder, it
is LatentSpeech's pairing (Lou et al. 2024, arXiv 2412.08117).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.parts import Options, grid_of, part_of, signal_of
from polycodec.codecs.families.rates import LIMIT, Gains, Rates, Steps
from polycodec.codecs.families.search import refined
from polycodec.codecs.refined import Refined, Watch
from polycodec.codecs.transforms.base import Transform
from polycodec.entropy_models.base import Coder, EntropyModel
from polycodec.entropy_models.coders import RateEstimator
from polycodec.entropy_models.exact.layer import Certificate
from polycodec.errors import InputError, ModelError
from polycodec.registry import register


@dataclass
class CodecOutput:
    """What training sees: x_hat (B, C, *S) and bits (B,)."""

    x_hat: Tensor
    bits: Tensor


@register("codec/latent")
class LatentCodec(Codec):
    """A transform and an entropy model of matching width.

    ``knots`` and ``lmbda``: a continuum of rates, see `Gains`. ``levels``: instead, so
    many rates of whole-number steps, see `Steps`.
    """

    family = "latent"
    renamed = {  # noqa: RUF012
        "gain.": "rates.gain.",
        "inverse_gain.": "rates.inverse_gain.",
        "steps.": "rates.",
    }
    rates: Rates

    def __init__(
        self,
        *,
        signal: Options | str | None = None,
        channels: int = 192,
        transform: Options | None = None,
        entropy: Options | None = None,
        knots: int = 8,
        lmbda: Sequence[float] | float = (0.0008, 0.25),
        levels: int | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.signal = channels, signal_of(signal, "image")
        ends = (lmbda,) if isinstance(lmbda, (int, float)) else tuple(lmbda)
        rates: Rates = (
            Gains(channels, knots, ends) if levels is None else Steps(levels, channels)
        )
        shared: dict[str, Any] = {"signal": self.signal, "channels": channels}
        shared |= {"knots": knots} if levels is None else {"levels": levels}
        self.transform = part_of(
            Transform, "transform", transform, default="residual", **shared
        )
        self.entropy: EntropyModel = part_of(
            EntropyModel,
            "entropy",
            entropy,
            default="context",
            codes=EntropyModel.codes,
            **shared,
        )
        self.rates = rates

    def lmbda_of(self, level: Tensor) -> Tensor:
        """λ of levels; ModelError for a codec whose levels have none."""
        if not isinstance(self.rates, Gains):
            raise ModelError("levels of whole-number steps have no λ; use knots")
        return self.rates.lmbda_of(level)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Start from signals x (B, C, *S): a linear transform and its scales."""
        x = self.signal.prepared(x)
        if self.transform.initialise(x.contiguous()):
            level = self.level_of(50)
            y = self.quantize(self.analyse(x, level), level)
            self.entropy.initialise(y.std(dim=(0, *range(2, y.ndim))))

    @torch.no_grad()
    def initialise_steps(self, z: Tensor) -> None:
        """Start `Steps` from a sample of latents (N, D)."""
        assert isinstance(self.rates, Steps)
        self.entropy.initialise(self.rates.start(z))

    def analyse(self, x: Tensor, level: float) -> Tensor:
        return self.transform.analyse(x, self._levels(x, level))

    def quantize(self, z: Tensor, level: float) -> Tensor:
        """See :meth:`Codec.quantize`: in steps; rounded if that needs no means."""
        return self.rates.whole(self.rates.scale(z, self._levels(z, level)))

    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        return self.rates.unscale(codes, self._levels(codes, level))

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        return self.transform.synthesise(z_hat, self._levels(z_hat, level))

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
        told = self.rates.told(torch.full((size[0],), level, device=self.device))
        return self.rates.whole(self._coded(coder, codes, size, told, side))

    def check_codes(self, codes: Tensor) -> None:
        if codes.ndim < 3 or codes.shape[1] != self.channels:
            raise InputError(
                f"codes have shape {tuple(codes.shape)}; expected (batch, "
                f"{self.channels}, positions)"
            )
        whole = isinstance(self.rates, Steps)
        if whole and codes.numel() and int(codes.abs().max()) > LIMIT:
            raise InputError(
                f"codes reach {int(codes.abs().max())}; expected -{LIMIT} … {LIMIT}; "
                "they belong to other weights, or are damaged"
            )

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        *,
        quantize: bool = True,
        rounded: bool = False,
    ) -> CodecOutput:
        """Train: x (B, C, *S), S multiples of the stride, level (B,).

        ``rounded``: latents are rounded as the encoder does, where training otherwise
        counts the bits of noisy ones.
        """
        z_hat, bits = self.coded(x, level, quantize, rounded)
        return CodecOutput(self._synthesised(z_hat, level), bits)

    def coded(
        self, x: Tensor, level: Tensor, quantize: bool, rounded: bool
    ) -> tuple[Tensor, Tensor]:
        """Latents ẑ (B, D, *S) as training has them, and their bits (B,)."""
        z = self.transform.analyse(self.signal.prepared(x), level)
        if not quantize:
            return z.float(), z.new_zeros(len(z))
        y = self.rates.scale(z, level)
        coder = RateEstimator(len(y), noise=self.training and not rounded)
        size = (len(y), *y.shape[2:])
        y_hat = self._coded(coder, y, size, self.rates.told(level), None)
        return self.rates.unscale(y_hat, level), coder.bits

    def refine(
        self,
        x: Tensor,
        codes: Tensor,
        level: float,
        steps: int,
        watch: Watch | None = None,
    ) -> Refined:
        return refined(self, x, codes, level, steps, watch=watch)

    @torch.no_grad()
    def freeze(self, calibrate: Callable[[Any], Any]) -> list[Certificate]:
        """See :meth:`Codec.freeze`; rates go on fixed numbers too."""
        self.eval()
        self.rates.freeze()
        return super().freeze(calibrate)

    def _coded(
        self,
        coder: Coder,
        y: Tensor | None,
        size: tuple[int, ...],
        told: Any,
        side: Tensor | None,
    ) -> Tensor:
        """Entropy models see maps (B, M, h, w); signals of one axis are one row."""
        given = {"rate": told, "z": side}
        given = {k: v for k, v in given.items() if v is not None}
        if y is not None:
            y = y.float()
        if len(size) > 2:
            return self.entropy.code(coder, y, size, **given)
        row = None if y is None else y.unsqueeze(2)
        return self.entropy.code(coder, row, (size[0], 1, size[1]), **given)[:, :, 0]

    def _synthesised(self, z_hat: Tensor, level: Tensor) -> Tensor:
        return self.signal.restored(self.transform.synthesise(z_hat, level))

    def _levels(self, like: Tensor, level: float | Tensor) -> Tensor:
        if isinstance(level, Tensor):
            return level
        return torch.full((len(like),), float(level), device=like.device)


@register("codec/latent-speech")
def latent_speech(
    *,
    rate: int = 16000,
    channels: int = 64,
    levels: int = 8,
    transform: Options | None = None,
    entropy: Options | None = None,
    block: int = 50,
) -> LatentCodec:
    """The latent family on speech; ``rate`` and ``block``: of the signal."""
    return LatentCodec(
        signal={"name": "speech", "rate": rate, "block": block},
        channels=channels,
        levels=levels,
        transform={"name": "pqmf", **(transform or {})},
        entropy={"name": "autoregressive", **(entropy or {})},
    )
