# SPDX-License-Identifier: Apache-2.0
"""A few layers for a weak device, and what makes a network's features of their latents.

    g_a   x ─ conv5 ↓ ─ GDN1 ─ conv5 ↓ ─ GDN1 ─ conv2 ─ y            no biases
          H            H/2            H/4        H/4 - 1
    g_s   y ─ conv2 ─ IGDN1 ─ conv2 ─ IGDN1 ─ conv2 ─ features
          H/4 - 1   H/4       H/4 - 1         H/4

The bottleneck of Entropic Student (Matsubara, Yang, Levorato, Mandt 2022, WACV, arXiv
2108.11898): widths 96, 48 and 24 channels are 138,672 parameters, and 512, 256 and 256
features, those of the first stage of a ResNet-50, another 1,164,032. Everything behind
the features is a head (`codecs/heads`).
"""

from __future__ import annotations

from torch import nn

from polycodec.codecs.transforms.base import FeatureTransform
from polycodec.codecs.transforms.image.conv import GDN1
from polycodec.registry import register


@register("transform/edge")
class EdgeTransform(FeatureTransform):
    """``widths``: of the encoder, ``wide``: of what answers it, ``features``: made."""

    def __init__(
        self,
        channels: int = 24,
        *,
        widths: tuple[int, int] = (96, 48),
        wide: tuple[int, int] = (512, 256),
        features: int = 256,
    ) -> None:
        super().__init__(channels, 4, features)
        first, second = widths
        self.g_a = nn.Sequential(
            nn.Conv2d(3, first, 5, 2, 2, bias=False),
            GDN1(first),
            nn.Conv2d(first, second, 5, 2, 2, bias=False),
            GDN1(second),
            nn.Conv2d(second, channels, 2, bias=False),
        )
        first, second = wide
        self.g_s = nn.Sequential(
            nn.Conv2d(channels, first, 2, padding=1, bias=False),
            GDN1(first, inverse=True),
            nn.Conv2d(first, second, 2, bias=False),
            GDN1(second, inverse=True),
            nn.Conv2d(second, features, 2, padding=1, bias=False),
        )

    def latent_size(self, *size: int) -> tuple[int, ...]:
        """One less than a quarter, rounded up: the last layer is not padded."""
        return tuple(-(-n // self.stride) - 1 for n in size)
