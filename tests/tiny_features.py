# SPDX-License-Identifier: Apache-2.0
"""A tiny codec of features, frozen, with random weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from polycodec.registry import build

TINY = {
    "signal": {"size": 16},
    "channels": 6,
    "levels": 3,
    "transform": {"name": "edge", "widths": (8, 8), "wide": (8, 8), "features": 12},
    "head": {"name": "residual", "widths": (12, 16), "labels": ("cat", "dog")}
    | {"classes": 2},
}


def pictures(n: int = 4, size: int = 16) -> torch.Tensor:
    """Smooth pictures (n, 3, size, size) in [0, 1]."""
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(n, 3, size // 4, size // 4, generator=generator)
    return F.interpolate(x, size, mode="bilinear").clamp(0, 1)


def tiny_features():
    """The codec, its steps started from `pictures`."""
    torch.manual_seed(0)
    codec = build("codec/feature", **TINY)
    z = codec.latents_of(pictures(32), 1)
    codec.initialise_steps(z.detach().movedim(1, -1).flatten(0, -2))
    codec.freeze(lambda codec: None)
    codec.name, codec.digest = "features/test", b"test"
    return codec
