# SPDX-License-Identifier: Apache-2.0
"""The latent family: scalar latents of a transform, rounded and coded.

    x ── g_a ──► y ── ·gain(level) ──[ entropy model: code(coder, y) ]── ŷ
    x̂ ◄─ g_s ──── ·inverse gain(level) ────────────────────────────────┘

A codec here is a composition: any `transform/*` with any `entropy/*` of as many
channels. Nothing in this file knows a particular system.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.rate import RateScale
from polycodec.entropy_models.coders import RateEstimator
from polycodec.registry import build, register


@dataclass
class CodecOutput:
    """What training sees: x_hat (B, 3, H, W) in [0, 1] and bits (B,)."""

    x_hat: Tensor
    bits: Tensor


@register("codec/latent")
class LatentCodec(nn.Module):
    """A transform and an entropy model of matching width.

    ``lmbda``: the two ends of the rate range; level k of K trades distortion
    against rate with λ_k = λ_0 (λ_1/λ_0)^(k/(K-1)) in  bpp + λ 255² MSE.
    """

    kind = "image"

    def __init__(
        self,
        *,
        channels: int = 192,
        transform: dict | None = None,
        entropy: dict | None = None,
        knots: int = 8,
        lmbda: tuple[float, float] = (0.0008, 0.25),
    ) -> None:
        super().__init__()
        transform = {"name": "residual", **(transform or {})}
        entropy = {"name": "context", **(entropy or {})}
        part = f"transform/{transform.pop('name')}"
        self.transform = build(part, channels=channels, knots=knots, **transform)
        self.entropy = build(
            f"entropy/{entropy.pop('name')}", channels=channels, **entropy
        )
        self.gain = RateScale(channels, knots)
        self.inverse_gain = RateScale(channels, knots)
        self.knots, self.lmbda = knots, tuple(lmbda)
        # The best uniform step is proportional to λ^-½ (high-rate theory).
        start = 0.5 * torch.log(self.lmbda_of(torch.arange(float(knots))) / 0.0067)
        self.gain.log_scale.data += start[:, None] + 1.0
        self.inverse_gain.log_scale.data -= start[:, None] + 1.0

    def lmbda_of(self, level: Tensor) -> Tensor:
        """λ of a level in [0, knots - 1]."""
        low, high = self.lmbda
        return low * (high / low) ** (level / (self.knots - 1))

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        """Latents y (B, M, H/16, W/16) of x (B, 3, H, W) in [0, 1], gained."""
        return self.gain(self.transform.g_a(x - 0.5, level), level)

    def synthesise(self, y_hat: Tensor, level: Tensor) -> Tensor:
        """Image (B, 3, H, W), not clamped, of decoded latents."""
        return self.transform.g_s(self.inverse_gain(y_hat, level), level) + 0.5

    def forward(self, x: Tensor, level: Tensor) -> CodecOutput:
        """Train: x (B, 3, H, W) with sides divisible by the stride, level (B,)."""
        y = self.analyse(x, level)
        coder = RateEstimator(x.shape[0], noise=self.training)
        size = (y.shape[0], *y.shape[2:])
        y_hat = self.entropy.code(coder, y.float(), size)
        return CodecOutput(self.synthesise(y_hat, level), coder.bits)
