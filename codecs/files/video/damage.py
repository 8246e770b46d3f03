# SPDX-License-Identifier: Apache-2.0
"""Which frames of a damaged or cut video can still be had.

with_frames(error, reader)     the same error, with these frames in its message
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from polycodec.codecs.files.container.file import Reader, VideoGeometry, tolerant_reader
from polycodec.errors import BitstreamError


def with_frames(error: BitstreamError, source: Reader | BinaryIO) -> BitstreamError:
    """The error with the frames that are whole and missing, if it is about a video."""
    reader = tolerant_reader(source)
    geometry = reader and reader.header.geometry
    if not reader or not isinstance(geometry, VideoGeometry):
        return error
    whole, missing = [], []
    for k in range(geometry.groups):
        try:
            reader.chunk(k)
            whole.append(frames_of(geometry, k))
        except BitstreamError:
            missing.append(frames_of(geometry, k))
    if not missing:  # what is wrong is no damage
        return error
    message = str(error).removesuffix("; get the file again")
    message = message.removesuffix("; get it again")
    return type(error)(
        f"{message}; frames that can be had: {ranges(whole)}; missing: "
        f"{ranges(missing)}; use --frames for some, --salvage for all"
    )


def frames_of(geometry: VideoGeometry, k: int) -> range:
    """Numbers of the frames of group k."""
    return range(k * geometry.gop, min((k + 1) * geometry.gop, geometry.frames))


def joined(parts: Iterable[range]) -> list[tuple[int, int]]:
    """(first, behind the last) of ranges in order, neighbours made one."""
    out: list[tuple[int, int]] = []
    for part in parts:
        if out and out[-1][1] == part.start:
            out[-1] = out[-1][0], part.stop
        else:
            out.append((part.start, part.stop))
    return out


def ranges(parts: Iterable[range]) -> str:
    """As `--frames` takes them: 0:8, 16:132."""
    return ", ".join(f"{a}:{b}" for a, b in joined(parts)) or "none"
