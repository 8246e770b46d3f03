# SPDX-License-Identifier: Apache-2.0
"""Signals that are made up: enough of a photograph and of speech for measures."""

from __future__ import annotations

import numpy as np
from PIL import Image

RATE = 16000  # Hz


def photo(seed: int, size: tuple[int, int] = (180, 200)) -> np.ndarray:
    """A smooth image with some grain: compressible as photographs are."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (*size, 3))
    return np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)


def voice(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding pitch in syllables: speech enough for the measures."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = np.cumsum(110 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)) / RATE
    tone = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1)
    wave = 0.2 * tone * syllables + 0.002 * rng.standard_normal(len(t))
    return (np.round(wave * 32768) / 32768).astype(np.float32)


def noisy(x: np.ndarray, level: float) -> np.ndarray:
    rng = np.random.default_rng(9)
    return (x + level * rng.standard_normal(len(x))).astype(np.float32)


def hum(seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """A slow swell that 400 values a second can follow, (samples, channels)."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    pitch = 3 + np.arange(channels)
    return 0.6 * np.sin(2 * np.pi * pitch * t) * np.cos(0.2 * t)
