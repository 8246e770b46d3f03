# SPDX-License-Identifier: Apache-2.0
"""Video files out; `api.py` calls this for ``.plc`` files that hold a video.

    clip.plc ─ chunks ─ frames, RGB ─ planes as the source had them ─┐
             └ times, colour, sound ─────────────────────────────────┴─ clip.mkv

A batch of frames at a time: memory does not grow with the length. Of a part of the
frames the chunks that hold them are read, and it is equal to that part of the whole.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import Reader, VideoGeometry
from polycodec.codecs.files.ends import Ends, codec_of
from polycodec.codecs.files.options import VideoDecode
from polycodec.codecs.files.results import VideoDecoded
from polycodec.codecs.files.sources import name_of
from polycodec.codecs.files.tags import tags_of
from polycodec.codecs.files.video import sound
from polycodec.codecs.files.video.chunks import seal_of, video_geometry
from polycodec.codecs.files.video.damage import (
    frames_of,
    joined,
    ranges,
    with_frames,
)
from polycodec.codecs.files.video.times import Times
from polycodec.codecs.files.video.write import (
    FORMATS,
    NUMBERED,
    VideoWriter,
    check_written,
    numbered_frames,
)
from polycodec.errors import BitstreamError, UsageError

_GRAY = 0.5  # what stands for frames that are lost before any is good


def decode(reader: Reader, ends: Ends[VideoDecode]) -> VideoDecoded:
    """Decode an opened video file; see `api.decode`."""
    geometry, options = video_geometry(reader), ends.options
    wanted = wanted_frames(options.frames, geometry)
    check_written(ends.suffix, _numbered(ends))
    rate = Fraction(geometry.rate_num, geometry.rate_den)
    times = Times.read(reader.header.record("times"), geometry.frames, rate)
    codec = codec_of(reader.header, options, ends.codec)
    frames = Frames(codec, reader, salvage=options.salvage)
    begun = time.perf_counter()
    try:
        with _writer(ends, reader, geometry, times, wanted) as (write, notes):
            for done, x in frames.of(wanted):
                write(x)
                if ends.progress:
                    ends.progress(done, len(wanted))
            if options.salvage and frames.lost and not frames.good:
                raise next(iter(frames.lost.values()))
    except BitstreamError as error:
        raise with_frames(error, reader) from error
    seconds = time.perf_counter() - begun
    lost = [frames_of(geometry, k) for k in sorted(frames.lost)]
    if lost:
        stand = "the frame before stands for them"
        notes = [f"frames {ranges(lost)} are damaged; {stand}", *notes]
    return VideoDecoded(
        **ends.about(reader.header.model),
        bytes=reader.bytes_read,
        width=geometry.width,
        height=geometry.height,
        frames=len(wanted),
        fps=len(wanted) / max(seconds, 1e-9),
        damaged=joined(lost),
        notes=[*notes, *reader.warnings],
    )


class Frames:
    """The frames of an opened video, from the chunks that hold them.

    ``lost``: groups that could not be read or decoded, if ``salvage``: the last good
    frame stands for theirs. Else their error is raised.
    """

    def __init__(self, codec: Codec, reader: Reader, *, salvage: bool = False) -> None:
        self.reader, self.geometry = reader, video_geometry(reader)
        geometry = self.geometry
        self.decoder = codec.group_decoder(
            (geometry.height, geometry.width),
            geometry.gop,
            geometry.frames,
            reader.header.quality,
        )
        self.decoder.seal = seal_of(geometry)
        self.salvage, self.good = salvage, 0
        self.lost: dict[int, BitstreamError] = {}

    def of(self, wanted: range) -> Iterator[tuple[int, Tensor]]:
        """Yield (frames done, batch (n, 3, H, W)) of the ``wanted`` ones."""
        gop, done = self.geometry.gop, 0
        sizes = self.geometry.height, self.geometry.width
        last: Tensor | None = None
        for k in range(wanted.start // gop, -(-wanted.stop // gop)):
            own = frames_of(self.geometry, k)
            first, stop = max(own[0], wanted.start), min(own.stop, wanted.stop)
            part = range(first - own[0], stop - own[0])
            came = 0
            try:
                for x in self.decoder.frames(k, self.reader.chunk(k), part):
                    came, last = came + len(x), x[-1:]
                    self.good += len(x)
                    yield done + came, x
            except BitstreamError as error:
                if not self.salvage:
                    raise
                self.lost[k] = error
                last = torch.full((1, 3, *sizes), _GRAY) if last is None else last
                for number in range(came, len(part)):
                    yield done + number + 1, last
            done += len(part)


def wanted_frames(
    frames: tuple[int, int | None] | None, geometry: VideoGeometry
) -> range:
    """The frames asked for, [A, B); UsageError outside of the clip."""
    if frames is None:
        return range(geometry.frames)
    begin, end = frames[0], geometry.frames if frames[1] is None else frames[1]
    if not 0 <= begin < end <= geometry.frames:
        asked = f"{begin}:{'' if frames[1] is None else frames[1]}"
        raise UsageError(
            f"frames {asked} do not lie inside 0:{geometry.frames}, those of the "
            "video; expected A:B with A before B; B is behind the last one"
        )
    return range(begin, end)


def _numbered(ends: Ends[VideoDecode]) -> bool:
    return bool(NUMBERED.search(name_of(ends.target)))


@contextlib.contextmanager
def _writer(
    ends: Ends[VideoDecode],
    reader: Reader,
    geometry: VideoGeometry,
    times: Times,
    wanted: range,
) -> Iterator[tuple[Any, list[str]]]:
    """Yield what takes frames, and notes that may still grow."""
    notes: list[str] = []
    whole = len(wanted) == geometry.frames
    if _numbered(ends):
        if geometry.sound:
            notes.append("a folder of frames holds no sound; it is left out")
        pattern, force = name_of(ends.target), ends.options.force
        with numbered_frames(pattern, geometry, wanted.start, force=force) as write:
            yield write, notes
        return
    with contextlib.ExitStack() as stack:
        tracks = None
        if whole and FORMATS[ends.suffix].sound:
            salvage = ends.options.salvage
            tracks, note = stack.enter_context(sound.stored(reader, salvage=salvage))
            notes += [note] if note else []
        elif geometry.sound:
            kind = "a part of the frames" if not whole else ends.suffix
            notes.append(f"{kind} comes without sound")
        file = stack.enter_context(ends.writing())
        writer = stack.enter_context(
            VideoWriter(
                file,
                ends.suffix,
                geometry,
                times if whole else times.part(wanted.start, wanted.stop),
                tags=tags_of(reader),
                sound=tracks,
            )
        )
        notes += writer.notes
        yield writer.write, notes
