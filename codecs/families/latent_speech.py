# SPDX-License-Identifier: Apache-2.0
"""The latent family on speech: scalar latents, rounded to plain integers.

    x ── g_a ──► z ── (z - centre)·gain(rate) ── round ──► n ──[ entropy: code ]── n
    x̂ ◄─ g_s ── ẑ ◄── n·inverse(rate) + shift(rate) ────────────────────────────────┘

Integers do not depend on means that a model predicts, as those of the image codec do:
rounding is local, so the codes of a signal are independent of how it was cut, exactly
as tokens are, and files, streams and the command line treat both alike. What a model
predicts goes into the probabilities only.

``levels`` rates share one set of weights: gains of their own (Cui et al. 2021, arXiv
2003.02012) and a shift that also tells the synthesis how coarse its latents are. The
pairing with a PQMF autoencoder is LatentSpeech's (Lou et al. 2024, arXiv 2412.08117).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.codecs.signals.speech import SoundCodec, check_width
from polycodec.entropy_models.coders import RateEstimator
from polycodec.entropy_models.exact.convolution import Certificate
from polycodec.entropy_models.models.autoregressive import Scales
from polycodec.errors import InputError, ModelError
from polycodec.registry import build, register

LIMIT = 4096  # BITSTREAM: integers lie in -LIMIT … LIMIT
# Deviation of integers at the lowest and the highest rate when training begins to
# round: a normal density's entropy is then 0.5 and 2.5 bits.
START = (0.33, 1.4)


@dataclass
class SpeechOutput:
    """What training sees: x_hat (B, 1, T) and bits (B,)."""

    x_hat: Tensor
    bits: Tensor


class RateSteps(nn.Module):
    """Gain, inverse gain and shift of each channel at each rate, (L, D); one centre.

    Trained as logarithms; `freeze` keeps the factors themselves, so that encoders and
    decoders everywhere read equal numbers.
    """

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(levels, channels))
        self.log_inverse = nn.Parameter(torch.zeros(levels, channels))
        self.shift = nn.Parameter(torch.zeros(levels, channels))
        self.centre = nn.Parameter(torch.zeros(channels))
        # A power of two about as large as latents are: entropy models see z / unit.
        self.register_buffer("unit", torch.ones(()))
        # BITSTREAM; 0 while not frozen.
        self.register_buffer("gain", torch.zeros(levels, channels))
        self.register_buffer("inverse", torch.zeros(levels, channels))

    @torch.no_grad()
    def start(self, gain: Tensor, mean: Tensor, size: Tensor) -> None:
        """Begin with gains (L,), the same for all channels, around means (D,).

        size: root mean square of the latents' distances from their means.
        """
        self.unit.copy_(torch.exp2(size.log2().round()))
        self.log_gain.copy_(gain.log()[:, None].expand_as(self.log_gain))
        self.log_inverse.copy_(-self.log_gain)
        self.centre.copy_(mean)
        self.shift.copy_(mean.expand_as(self.shift))

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the factors."""
        self.gain.copy_(self.log_gain.exp())
        self.inverse.copy_(self.log_inverse.exp())

    def at(self, level: Tensor) -> Scales:
        """Factors (B, D) of levels (B,) from 0."""
        if self.training or not bool(self.gain.any()):
            gain, inverse = self.log_gain[level].exp(), self.log_inverse[level].exp()
            return Scales(level, gain, inverse)
        return Scales(level, self.gain[level], self.inverse[level])

    def seen(self, scales: Scales) -> Scales:
        """The same for latents in units, exactly."""
        gain, inverse = scales.gain * self.unit, scales.inverse / self.unit
        return Scales(scales.level, gain, inverse)


@register("codec/latent-speech")
class LatentSpeechCodec(SoundCodec):
    """A transform and an entropy model for its rounded latents, at ``levels`` rates.

    ``rate``: samples a second. ``block``: frames that networks handle at once.
    """

    def __init__(
        self,
        *,
        rate: int = 16000,
        channels: int = 64,
        levels: int = 8,
        transform: dict[str, Any] | None = None,
        entropy: dict[str, Any] | None = None,
        block: int = 50,
    ) -> None:
        super().__init__()
        if not 1 <= levels <= 255:
            raise ModelError(f"levels is {levels}; expected 1 to 255 rates")
        transform = {"name": "pqmf", **(transform or {})}
        entropy = {"name": "autoregressive", **(entropy or {})}
        names = f"transform/{transform.pop('name')}", f"entropy/{entropy.pop('name')}"
        shared = {"channels": channels}
        self.transform = build(names[0], **{**shared, **transform})
        self.entropy = build(names[1], **{**shared, "levels": levels, **entropy})
        check_width(names[0], self.transform, channels)
        check_width(names[1], self.entropy, channels)
        self.rate, self.channels, self.levels = rate, channels, levels
        self.block, self.hop = block, self.transform.hop
        self.steps = RateSteps(levels, channels)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start the rates from a sample of latents (N, D): one step for all channels.

        A step costs the same distortion in every channel as long as the synthesis
        treats them alike; channels of little variance then cost little.
        """
        deviation = z.float().std(dim=0).clamp_min(1e-6)
        whole = deviation.square().mean().sqrt()
        wanted = torch.logspace(0, 1, self.levels, START[1] / START[0], device=z.device)
        gain = START[0] * wanted / whole
        self.steps.start(gain, z.float().mean(dim=0), whole)
        self.entropy.initialise(gain[:, None] * deviation)

    def forward(
        self, x: Tensor, levels: Tensor, *, quantize: bool = True
    ) -> SpeechOutput:
        """Train: x (B, 1, T), T a multiple of the hop, ``levels`` (B,) from 1."""
        z = self.transform.g_a(x).float()
        if not quantize:
            return SpeechOutput(self.transform.g_s(z), z.new_zeros(len(z)))
        scales = self.steps.at(levels - 1)
        y = (z - self.steps.centre[:, None]) * scales.gain[..., None]
        y = y[:, :, None]  # (B, D, 1, F)
        coder = RateEstimator(len(y), noise=self.training)
        size, seen = (len(y), y.shape[3]), self.steps.seen(scales)
        n = self.entropy.code(coder, y, size, seen)[:, :, 0]
        z_hat = n * scales.inverse[..., None] + self.steps.shift[levels - 1][..., None]
        return SpeechOutput(self.transform.g_s(z_hat), coder.bits)

    def freeze(self, calibrate: Callable[[Any], Any]) -> list[Certificate]:
        """Put rates and the entropy path on fixed numbers; see `Codec.freeze`."""
        self.eval()
        self.steps.freeze()
        return super().freeze(calibrate)

    def codes_of(self, z: Tensor, levels: int) -> Tensor:
        """Integers (B, D, F) int64 of latents z (B, D, F)."""
        # What is kept for any rate may lie elsewhere than the weights.
        gain = self._scales(1, levels).gain.to(z.device)[..., None]
        y = (z - self.steps.centre.to(z.device)[:, None]) * gain
        return torch.floor(y + 0.5).clamp(-LIMIT, LIMIT).to(torch.int64)

    def latents_of(self, codes: Tensor, levels: int) -> Tensor:
        """Latents (B, D, F) of integers (B, D, F)."""
        inverse = self._scales(1, levels).inverse[..., None]
        return codes * inverse + self.steps.shift[levels - 1][:, None]

    def check_codes(self, codes: Tensor) -> None:
        """InputError for other channels, or integers that no encoder writes."""
        if codes.ndim != 3 or codes.shape[1] != self.channels:
            raise InputError(
                f"codes have shape {tuple(codes.shape)}; expected (batch, "
                f"{self.channels}, frames)"
            )
        if codes.numel() and int(codes.abs().max()) > LIMIT:
            raise InputError(
                f"codes reach {int(codes.abs().max())}; expected -{LIMIT} … {LIMIT}; "
                "they belong to other weights, or are damaged"
            )

    def _code(
        self, coder: Any, codes: Tensor | None, levels: int, size: tuple[int, int]
    ) -> Tensor:
        scales = self._scales(size[0], levels)
        if codes is not None:
            codes = codes.to(scales.gain.device, torch.float32).unsqueeze(2)
        return self.entropy.code(coder, codes, size, self.steps.seen(scales))[:, :, 0]

    def _scales(self, batch: int, levels: int) -> Scales:
        level = torch.full((batch,), levels - 1, device=self.steps.gain.device)
        return self.steps.at(level)
