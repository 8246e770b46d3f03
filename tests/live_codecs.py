# SPDX-License-Identifier: Apache-2.0
"""A small codec for live speech, and sounds for it."""

from __future__ import annotations

import functools

import numpy as np
import torch

from polycodec.codecs.families.token import TokenCodec
from polycodec.registry import build

LEVELS = 4
CONFIG = {
    "channels": 16,
    "transform": {
        "name": "live",
        "widths": [24, 24],
        "depths": [1, 2],
        "hidden": [32, 32],
    },
    "quantizer": {"name": "residual", "levels": LEVELS, "codes": 16},
    "entropy": {"name": "tokens-static"},
}


@functools.cache
@torch.no_grad()
def live_codec(seed: int = 0) -> TokenCodec:
    """The codec, ready to code; 50 frames a second, codebooks of its own latents."""
    torch.manual_seed(seed)
    codec = build("codec/token", **CONFIG).eval()
    z = codec.analyse(torch.from_numpy(sound(16000))[None, None], LEVELS)
    codec.quantizer.initialise(z.transpose(1, 2).flatten(0, 1))
    codec.entropy.update()
    codec.name, codec.digest = "speech/live-test", bytes([seed] * 4)
    return codec


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Tones that swell, and some noise: (n,) float32."""
    rng, t = np.random.default_rng(seed), np.arange(samples) / 16000
    tone = sum(np.sin(2 * np.pi * k * (110 + 30 * seed) * t) / k for k in (1, 2, 5))
    x = 0.2 * tone * (1.1 + np.sin(9 * t + seed)) + 0.03 * rng.normal(size=samples)
    return np.clip(x, -1, 1).astype(np.float32)
