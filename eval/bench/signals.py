# SPDX-License-Identifier: Apache-2.0
"""What codecs are timed on: a signal made up, or a file; a kind's units.

    image()          (3, 512, 768) in [0, 1]: clouds, edges, grain
    speech(16000)    (1, 160000) in [-1, 1]: harmonics of a gliding pitch under three
                     formants, in syllables, with breath and pauses

Both are the same numbers everywhere, up to rounding. How long a codec takes depends on
the size; the bytes, and the coder's part with them, also on the content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.speech.resample import Resampler

WIDTH, HEIGHT = 768, 512
SECONDS = 10.0
# Hz and width of the formants between which the vowels move.
_FORMANTS = (((300, 750), 90), ((900, 2100), 130), ((2400, 2900), 200))


def image(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(3, height, width) float32 in [0, 1]."""
    rng = np.random.default_rng(24)
    total = np.zeros((height, width, 3))
    for octave in range(1, 9):  # 2, 4, ... 256 waves: bytes about as of a photograph
        side = 2**octave + 1
        noise = rng.normal(0, 0.8 / 1.6**octave, (side, side, 3))
        noise[..., 1:] = 0.8 * noise[..., :1] + 0.3 * noise[..., 1:]  # colours agree
        total += np.stack([_enlarged(p, width, height) for p in noise.T], axis=2)
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    for _ in range(12):
        cx, cy, radius = rng.uniform((0, 0, 0.05), (3, 2, 0.4))
        inside = abs(x - cx) + abs(y - cy) ** rng.uniform(0.7, 2) < radius
        total[inside] = 0.5 * total[inside] + rng.normal(0, 0.6, 3)
    total += rng.normal(0, 0.02, (height, width, 1))
    return np.clip(0.5 + 0.4 * total, 0, 1).transpose(2, 0, 1).astype(np.float32)


def _enlarged(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    small = Image.fromarray(plane.astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def speech(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """(1, T) float32 in [-1, 1] at ``rate``, T = seconds · rate."""
    rng = np.random.default_rng(25)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 130 * np.exp(0.25 * np.sin(2.1 * time) + 0.08 * np.sin(9.3 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    vowel = 0.5 + 0.5 * np.sin(2 * np.pi * 1.7 * time + np.sin(5 * time))
    sound = np.zeros_like(time)
    for k in range(1, 40):
        loud = sum(
            np.exp(-(((k * pitch - low - (high - low) * vowel) / width) ** 2))
            for (low, high), width in _FORMANTS
        )
        loud = (loud + 0.05) / k**0.5 * (k * pitch < 0.45 * rate)
        sound += loud * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.6 * time) + 0.4, 0, 1)
    breath = rng.normal(0, 0.15, time.size) * (1 - syllables)
    spoken = np.sin(2 * np.pi * time / 3.1) > -0.8  # then a pause
    sound = (sound * syllables + breath) * spoken + rng.normal(0, 1e-3, time.size)
    return (0.5 * sound / abs(sound).max()).astype(np.float32)[None]


def read_image_file(source: str | os.PathLike[str]) -> np.ndarray:
    """(3, H, W) float32 in [0, 1] of an image file; alpha is left out."""
    found = read_image(source)
    whole = found.pixels.astype(np.float32) / (2**found.depth - 1)
    return np.broadcast_to(whole, (*whole.shape[:2], 3)).transpose(2, 0, 1).copy()


def read_speech_file(source: str | os.PathLike[str], rate: int) -> np.ndarray:
    """(1, T) float32 in [-1, 1] of a sound file, mixed to one channel at ``rate``."""
    with open_speech(source) as sound:
        mixed = np.concatenate([b.mean(1, keepdims=True) for b in sound.blocks()])
        resampler = Resampler(sound.info.rate, rate)
        length = -(-len(mixed) * rate // sound.info.rate)
        parts = [resampler.push(mixed), resampler.flush(length)]
    return np.clip(np.concatenate(parts).T, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class Units:
    """What codecs of one kind are timed on, and what their figures are called.

    Functions of ``size`` get what ``size_of`` gave: the fields of a row.
    """

    made_up: Callable[[int], np.ndarray]  # at a rate
    read: Callable[[str, int], np.ndarray]  # a file, at a rate
    size_of: Callable[[Sequence[int], int], dict[str, Any]]  # of a shape and a rate
    what: str  # a title for ``size``
    rate: str
    rate_of: Callable[[int, dict[str, Any]], float]  # of bytes
    speed: str
    speed_label: str
    speed_of: Callable[[float, dict[str, Any]], float]  # of seconds


UNITS = {
    "image": Units(
        made_up=lambda rate: image(),
        read=lambda source, rate: read_image_file(source),
        size_of=lambda shape, rate: {"width": shape[3], "height": shape[2]},
        what="{width}x{height}",
        rate="bpp",
        rate_of=lambda size, x: 8 * size / (x["width"] * x["height"]),
        speed="megapixels_per_second",
        speed_label="Mpixel/s",
        speed_of=lambda taken, x: x["width"] * x["height"] / 1e6 / taken,
    ),
    "speech": Units(
        made_up=speech,
        read=read_speech_file,
        size_of=lambda shape, rate: {"rate": rate, "duration": shape[2] / rate},
        what="{duration:g} s at {rate} Hz",
        rate="kbps",
        rate_of=lambda size, x: 8 * size / x["duration"] / 1000,
        speed="real_time_factor",
        speed_label="real-time factor",
        speed_of=lambda taken, x: taken / x["duration"],
    ),
}
