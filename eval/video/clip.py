# SPDX-License-Identifier: Apache-2.0
"""A clip as it is measured: (T, 3 H / 2, W) uint8, each frame's Y above its U and V.

It is 4:2:0 of 8 bits, limited range, as test clips are, so that every codec starts from
the same samples and none is charged for a conversion. RGB is made of it by the matrix
that its height stands for (`files/video/colour.py`), for measures and for looking at.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from polycodec.codecs.files.container.file import VideoGeometry
from polycodec.codecs.files.video.chunks import geometry_of
from polycodec.codecs.files.video.colour import from_rgb, to_rgb
from polycodec.codecs.files.video.data import VideoInfo
from polycodec.codecs.files.video.read import open_video


def size_of(clip: np.ndarray) -> tuple[int, int, int]:
    """Frames, height, width."""
    return len(clip), clip.shape[1] * 2 // 3, clip.shape[2]


def planes_of(frame: np.ndarray) -> list[np.ndarray]:
    """Y (H, W), U and V (H/2, W/2) of one frame (3 H / 2, W)."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    quarter = frame[height:].reshape(-1)
    u, v = np.split(quarter, 2)
    half = (height // 2, width // 2)
    return [frame[:height], u.reshape(half), v.reshape(half)]


def packed(planes: list[np.ndarray]) -> np.ndarray:
    """The reverse of `planes_of`."""
    width = planes[0].shape[1]
    chroma = np.concatenate([p.reshape(-1) for p in planes[1:]])
    return np.concatenate([planes[0], chroma.reshape(-1, width)])


def geometry(height: int, width: int) -> VideoGeometry:
    """What conversions must know of a clip of this size."""
    return geometry_of(VideoInfo(width=width, height=height), 1, 1)


def rgb(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of one frame."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    x = to_rgb([planes_of(frame)], geometry(height, width))[0]
    pixels: np.ndarray = (255 * x).round().byte().permute(1, 2, 0).numpy()
    return pixels


def read(path: pathlib.Path, most: int | None = None) -> np.ndarray:
    """The clip of a file, or its first ``most`` frames, cut to even sizes."""
    with open_video(str(path)) as video:
        info = video.info
        height, width = info.height & ~1, info.width & ~1
        native = (info.colour, info.depth, info.full_range) == ("yuv420", 8, False)
        own = geometry_of(info, 1, 1)
        wanted = replace(own, colour="yuv420", depth=8, full_range=False, matrix=2)
        frames = []
        for frame in itertools.islice(video.frames(), most):
            planes = frame.planes
            if not native:
                planes = from_rgb(to_rgb([planes], own), wanted)[0]
            y, u, v = planes
            half = np.s_[: height // 2, : width // 2]
            frames.append(packed([y[:height, :width], u[half], v[half]]))
    return np.stack(frames)


def y4m(clip: np.ndarray) -> bytes:
    """The clip as a file."""
    _, height, width = size_of(clip)
    head = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420mpeg2\n".encode()
    return head + b"".join(b"FRAME\n" + frame.tobytes() for frame in clip)


def pairs(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Frames of two clips, one by one."""
    yield from zip(one, other, strict=True)
