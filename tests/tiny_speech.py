# SPDX-License-Identifier: Apache-2.0
"""A tiny codec for speech, for tests of files and of the command line.

    x ── means of 40 samples ──► z ── 4 levels of 16 codes ──► codes ── range coder
    x̂ ◄─ triangles of 80 ────── ẑ ◄──────────────────────────┘

It is a real token codec: the package's residual quantizer, whose codebooks are here the
digits of a number, and the package's coder with tables in which all codes are equally
likely. Contexts of one frame make seams between blocks and chunks show. It follows
swells of a few hertz and is exact to 2^-16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.transforms.base import Context, SpeechTransform
from polycodec.registry import build, register

LEVELS, CODES = 4, 16


@register("transform/test-means")
class Means(SpeechTransform):
    """g_a: smoothed means (B, 1, F) of (B, 1, 40 F); g_s: straight lines between."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__(channels, 40)
        self.smooth = nn.Parameter(torch.tensor([[[0.1, 0.8, 0.1]]]))
        steps = torch.arange(2 * self.hop) + 0.5
        triangle = 1 - (steps - self.hop).abs() / self.hop
        self.lines = nn.Parameter(triangle[None, None])

    def contexts(self) -> tuple[Context, Context]:
        """One frame on either side, both ways."""
        return (1, 1), (1, 1)

    def g_a(self, x: Tensor) -> Tensor:
        """Latents (B, 1, F) of x (B, 1, 40 F)."""
        means = x.unflatten(2, (-1, self.hop)).mean(3)
        return F.conv1d(means, self.smooth, padding=1)

    def g_s(self, z_hat: Tensor) -> Tensor:
        """Samples (B, 1, 40 F) of latents (B, 1, F)."""
        y = F.conv_transpose1d(z_hat, self.lines, stride=self.hop)
        return y[..., self.hop // 2 : -self.hop // 2]


CONFIG = {
    "name": "token",
    "channels": 1,
    "signal": {"name": "speech", "block": 110, "condition": False},  # no divisor of 400
    "transform": {"name": "test-means"},
    "quantizer": {"name": "residual", "levels": LEVELS, "codes": CODES},
    "entropy": {"name": "tokens-static"},
}


@torch.no_grad()
def tiny_speech_codec() -> TokenCodec:
    """The codec, ready to code; 400 frames a second, 4 bits a code."""
    codec = build("codec/token", **{k: v for k, v in CONFIG.items() if k != "name"})
    digits = (torch.arange(float(CODES)) + 0.5) / 8 - 1
    for level, book in enumerate(codec.quantizer.books):
        book.vectors.copy_(digits[:, None] * 16.0**-level)
    codec.entropy.update()
    codec.name, codec.digest = "speech/test", b"test"
    return codec.eval()
