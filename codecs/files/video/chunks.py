# SPDX-License-Identifier: Apache-2.0
"""A clip's header, and its frames in groups.

geometry = geometry_of(info, frames, gop, times)
for group in groups(video.frames(), 8): ...         lists of up to 8 frames
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from polycodec.codecs.files.container.file import Reader, VideoGeometry
from polycodec.codecs.files.container.layout import SITINGS
from polycodec.codecs.files.video.data import Planes, VideoInfo
from polycodec.codecs.files.video.times import Times

COLOUR_NUMBERS = ("gray", "rgb", "yuv444", "yuv422", "yuv420")  # as the header has them


def groups(frames: Iterable[Planes], gop: int) -> Iterator[list[Planes]]:
    """Lists of ``gop`` frames, the last one of the rest."""
    held: list[Planes] = []
    for frame in frames:
        held.append(frame)
        if len(held) == gop:
            yield held
            held = []
    if held:
        yield held


def geometry_of(
    info: VideoInfo, frames: int, gop: int, times: Times | None = None, sound: int = 0
) -> VideoGeometry:
    """What the header says; without ``times`` what conversion of samples needs."""
    rate = times.rate if times else info.rate
    aspect = info.aspect.limit_denominator(1 << 16)
    fits = 0 < aspect.numerator <= 1 << 16
    return VideoGeometry(
        width=info.width,
        height=info.height,
        frames=frames,
        gop=gop,
        rate_num=rate.numerator,
        rate_den=rate.denominator,
        depth=info.depth,
        colour=info.colour,
        full_range=info.full_range,
        primaries=_code(info.primaries),
        transfer=_code(info.transfer),
        matrix=_code(info.matrix),
        aspect_num=aspect.numerator if fits else 1,
        aspect_den=aspect.denominator if fits else 1,
        rotation=info.rotation,
        mirrored=info.mirrored,
        siting=info.siting,
        sound=sound,
    )


def video_geometry(reader: Reader) -> VideoGeometry:
    """The geometry of an opened video; InputError for files of other kinds."""
    return reader.geometry(VideoGeometry, "video")


def seal_of(geometry: VideoGeometry) -> bytes:
    """What says how planes are made of RGB, as streams are sealed with."""
    colour = COLOUR_NUMBERS.index(geometry.colour)
    flags = colour | geometry.full_range << 4
    rest = geometry.matrix, SITINGS.index(geometry.siting)
    return bytes([geometry.depth, flags, *rest])  # BITSTREAM


def _code(point: int) -> int:
    """A code point of H.273, 2 (unknown) for what is none."""
    return point if 0 <= point <= 255 else 2
