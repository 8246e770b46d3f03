# SPDX-License-Identifier: Apache-2.0
"""A tiny codec of variable granularity, and a picture that is flat and grainy."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_parts import section

from polycodec.registry import build

CONFIG = {
    "name": "token",
    "signal": "image",
    "channels": 14,
    "transform": section("transform", "vqgan"),
    "quantizer": {"name": "granular", "codes": 64, "steps": 41},
    "entropy": {"name": "tokens-masked"},
}


def picture(h: int = 192, w: int = 256) -> torch.Tensor:
    """Flat above, grain below that grows to the right; (1, 3, h, w), 8 bits."""
    noise = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(3)) - 0.5
    ramp = torch.linspace(0, 0.6, w) * (torch.arange(h)[:, None] >= h // 4)
    return ((0.5 + ramp * noise) * 255).round() / 255


def saved_in(folder: Path) -> Path:
    """Weights of a tiny codec whose words are latents, its tables fitted."""
    torch.manual_seed(0)
    codec = build("codec/token", **{k: v for k, v in CONFIG.items() if k != "name"})
    codec.eval()
    z = codec.analyse(codec.signal.prepared(picture()), 1)
    codec.quantizer.initialise(z.flatten(2)[0].T)
    levels = codec.quantizer.measured
    codec.entropy.fit([codec.encode_codes(picture(), k)[0].numpy() for k in levels])
    path = folder / "codec.safetensors"
    codec.save(path, CONFIG)
    return path


def fine_of(codes: torch.Tensor) -> torch.Tensor:
    """How many quadrants of each cell are fine."""
    kind = (codes[:, 0] - 1).clamp_min(0)
    return sum((kind >> q) & 1 for q in range(4))
