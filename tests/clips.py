# SPDX-License-Identifier: Apache-2.0
"""Clips that are made up, written by PyAV; and what a file holds."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from polycodec.codecs.files.video.data import Planes, VideoInfo
from polycodec.codecs.files.video.read import open_video
from polycodec.registry import build
from tests.signals import photo

CODEC = {
    "channels": 12,
    "transform": {"name": "conv", "width": 8},
    "entropy": {"name": "hyperprior", "hyper": 8, "features": 8, "hidden": 8},
}


def tiny_codec() -> Any:
    """A codec of images with random weights, frozen."""
    torch.manual_seed(0)
    codec = build("codec/latent", **CODEC)
    codec.freeze(lambda c: c(torch.rand(2, 3, 64, 64), torch.zeros(2)))
    codec.name, codec.digest = "image/test", b"test"
    return codec


def write_clip(
    path: pathlib.Path,
    *,
    frames: int = 10,
    size: tuple[int, int] = (32, 48),
    pixels: str = "yuv420p",
    codec: str = "ffv1",
    container: str | None = None,
    sound: str | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    colour: tuple[int, int, int, int] | None = None,
    options: dict[str, str] | None = None,
) -> pathlib.Path:
    """Write a picture that moves; ``colour``: range, primaries, transfer, matrix."""
    import av

    height, width = size
    still = photo(1, (height, width + frames))
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=24, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        context = stream.codec_context
        if colour:
            context.color_range, context.color_primaries = colour[:2]
            context.color_trc, context.colorspace = colour[2:]
        if time_base:
            context.time_base = stream.time_base = time_base
        if rotation or mirrored:
            stream.set_display_rotation(rotation, mirrored)
        track = out.add_stream(sound, rate=48000, layout="mono") if sound else None
        for k in range(frames):
            moved = np.ascontiguousarray(still[:, k : k + width])
            frame = av.VideoFrame.from_ndarray(moved, "rgb24").reformat(format=pixels)
            if pts:
                frame.pts, frame.time_base = pts[k], time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if track:
            _add_sound(av, out, track, 48000 * frames // 24)
    return path


def _add_sound(av: Any, out: Any, track: Any, samples: int) -> None:
    wave = 8000 * np.sin(2 * np.pi * 220 * np.arange(samples) / 48000)
    form = track.codec_context.codec.audio_formats[0].name
    resampler = av.AudioResampler(form, "mono", 48000)
    for first in range(0, samples, 960):
        part = wave[None, first : first + 960].astype(np.int16)
        frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
        frame.sample_rate, frame.pts = 48000, first
        for piece in resampler.resample(frame):
            out.mux(track.encode(piece))
    out.mux(track.encode())


def read_clip(path: Any) -> tuple[VideoInfo, list[Planes]]:
    """What a file says, and its frames."""
    with open_video(path) as video:
        return video.info, list(video.frames())


def seconds(path: Any) -> list[Fraction]:
    """When frames are shown."""
    info, frames = read_clip(path)
    return [frame.pts * info.time_base for frame in frames]


def packets(path: Any) -> list[tuple[bytes, Fraction]]:
    """The packets of the first sound track, and their times."""
    import av

    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        found = [p for p in container.demux(track) if p.dts is not None]
        return [(bytes(p), p.pts * p.time_base) for p in found]


def same(one: Sequence[Planes], other: Sequence[Planes]) -> bool:
    """Whether frames are equal, sample by sample."""
    pairs = [
        (a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x.planes, y.planes, strict=True)
    ]
    return all(np.array_equal(a, b) for a, b in pairs)
