# SPDX-License-Identifier: Apache-2.0
"""Video out; the suffix decides.

    .mkv            FFV1, lossless: the decoded frames bit for bit
    .y4m            the same without compression; no sound, one rate
    .mp4 .mov .m4v  H.264 by x264 at CRF 10, visually lossless; 8 or 10 bits
    .webm           VP9 at CRF 15, visually lossless; 8, 10 or 12 bits
    out/%05d.png    a folder of frames, lossless, RGB

What a format cannot hold is a note when it is precision, a tag, when frames are shown,
or sound where it has none at all; sound of a codec that it does not take is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from polycodec.atomic import is_plain
from polycodec.codecs.files.container.layout import VideoGeometry
from polycodec.codecs.files.image.data import ImageData
from polycodec.codecs.files.image.write import write_image
from polycodec.codecs.files.video.colour import from_rgb
from polycodec.codecs.files.video.data import COLOURS, pixel_format
from polycodec.codecs.files.video.read import library
from polycodec.codecs.files.video.sound import Tracks
from polycodec.codecs.files.video.times import Times
from polycodec.codecs.signals.tiles import to_pixels
from polycodec.errors import InputError, UsageError
from polycodec.places import is_far

_H264: dict[str, Any] = {"crf": "10", "preset": "medium"}
_FFV1: dict[str, Any] = {"level": "3", "slicecrc": "1"}
_VP9: dict[str, Any] = {"crf": "15", "b": "0", "deadline": "good", "cpu-used": "4"}
_YUV = ("yuv420", "yuv422", "yuv444")


@dataclass(frozen=True)
class Format:
    """A container, what codes the frames in it, and which samples those can be."""

    container: str
    codec: str
    options: Mapping[str, str]
    colours: tuple[str, ...]
    depths: tuple[int, ...]
    sound: bool = True
    odd: bool = True  # whether chroma of odd sizes may be halved


_MP4 = Format("mp4", "libx264", _H264, _YUV, (8, 10), odd=False)
FORMATS = {
    ".mkv": Format("matroska", "ffv1", _FFV1, tuple(COLOURS), (8, 9, 10, 12, 14, 16)),
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": replace(_MP4, container="mov"),
    ".webm": Format("webm", "libvpx-vp9", _VP9, _YUV, (8, 10, 12)),
    ".y4m": Format(
        "yuv4mpegpipe", "rawvideo", {}, ("gray", *_YUV), (8, 9, 10, 12, 14, 16), False
    ),
}
NUMBERED = re.compile(r"%(0\d+)?d")  # in the name of a frame


def fitted(geometry: VideoGeometry, suffix: str) -> tuple[VideoGeometry, list[str]]:
    """The samples that a format can hold for those of a clip, and what differs."""
    form, notes = FORMATS[suffix], []
    if geometry.colour not in form.colours:
        colour = "yuv444" if geometry.colour == "rgb" else "yuv420"
        notes.append(
            f"{suffix} holds no {geometry.colour} samples here; written as {colour}"
        )
        matrix = 1 if geometry.matrix in (0, 2) else geometry.matrix
        geometry = replace(geometry, colour=colour, matrix=matrix, full_range=False)
    odd = geometry.width % 2 or geometry.height % 2
    if odd and not form.odd and geometry.colour != "yuv444":
        notes.append(f"{suffix} halves no chroma of odd sizes; written as yuv444")
        geometry = replace(geometry, colour="yuv444")
    depths = _depths(form, geometry.colour)
    if geometry.depth not in depths:
        depth = next((d for d in depths if d >= geometry.depth), depths[-1])
        if depth < geometry.depth:
            notes.append(f"{suffix} holds {depth} bits of {geometry.depth}")
        geometry = replace(geometry, depth=depth)
    return geometry, notes


def _depths(form: Format, colour: str) -> list[int]:
    """Bits that this build of FFmpeg writes: not every VP9 has more than 8."""
    known = library().codec.Codec(form.codec, "w").video_formats
    names = None if known is None else {one.name for one in known}
    return [
        d
        for d in form.depths
        if d == 8 or names is None or pixel_format(colour, d) in names
    ]


class VideoWriter:
    """Write frames (n, 3, H, W) to an open binary file; `close` completes it.

    ``sound``: an open file of sound to go with it. ``geometry``: of the clip's samples.
    """

    def __init__(
        self,
        target: BinaryIO,
        suffix: str,
        geometry: VideoGeometry,
        times: Times,
        *,
        tags: Mapping[str, str] | None = None,
        sound: Any = None,
    ) -> None:
        self._av = av = library()
        self._form = form = FORMATS[suffix]
        self.geometry, self.notes = fitted(geometry, suffix)
        if suffix == ".y4m" and not times.even:
            self.notes.append(f"{suffix} holds one rate; when frames are shown is lost")
            times = Times.even_of(len(times.pts), times.rate)
        if suffix == ".y4m" and (geometry.rotation or geometry.mirrored):
            self.notes.append(f"{suffix} does not say how frames are turned")
        if suffix == ".y4m" and self.geometry.matrix not in (0, 2):
            self.notes.append(f"{suffix} does not say of which matrix colours are")
        self._times, self._number = times, 0
        self._target, self._seeks = target, target.seekable()
        spool = target if self._seeks else tempfile.TemporaryFile()  # noqa: SIM115
        self._spool = _Guarded(spool)
        options = {"strict": "-1"} if suffix == ".y4m" else {}
        self._out = av.open(self._spool, "w", format=form.container, options=options)
        self._out.metadata.update(tags or {})
        self._stream = self._added()
        self._tracks = None
        if sound is not None and form.sound:
            try:
                self._tracks = Tracks(av, sound, self._out, suffix)
                self.notes += self._tracks.notes
            except (av.FFmpegError, ValueError) as error:
                raise InputError(
                    f"{suffix} cannot hold the sound of this video ({error}); write "
                    ".mkv"
                ) from error
        elif sound is not None:
            self.notes.append(f"{suffix} holds no sound; it is left out")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with contextlib.suppress(Exception):
                    self._out.close()
        finally:
            if not self._seeks:
                self._spool.file.close()

    def write(self, x: Tensor) -> None:
        """Append frames."""
        for planes in from_rgb(x, self.geometry):
            frame = self._frame(planes)
            if self._tracks:
                self._tracks.until(float(frame.pts * frame.time_base))
            self._mux(frame)
            self._number += 1

    def _added(self) -> Any:
        """The stream of frames, with all that is said beside them."""
        form, geometry = self._form, self.geometry
        rate = Fraction(geometry.rate_num, geometry.rate_den)
        options = dict(form.options)
        if form.codec == "ffv1":  # it refuses to part odd widths of halved chroma
            whole = geometry.width % 2 == 0 and min(geometry.width, geometry.height) > 3
            options["slices"] = "4" if whole else "1"
        stream = self._out.add_stream(form.codec, rate=rate, options=options)
        context = stream.codec_context
        stream.width, stream.height = geometry.width, geometry.height
        stream.pix_fmt = self._pixels()
        context.color_range = 2 if geometry.full_range else 1
        context.color_primaries = geometry.primaries
        context.color_trc = geometry.transfer
        context.colorspace = geometry.matrix
        context.time_base = stream.time_base = self._times.time_base
        aspect = Fraction(geometry.aspect_num, geometry.aspect_den)
        if aspect != 1:
            context.sample_aspect_ratio = aspect
            with contextlib.suppress(AttributeError):
                stream.sample_aspect_ratio = aspect
        if geometry.rotation or geometry.mirrored:
            try:
                # FFmpeg mirrors what it turned, the header turns what it mirrored.
                angle = -geometry.rotation if geometry.mirrored else geometry.rotation
                stream.set_display_rotation(angle, geometry.mirrored)
            except AttributeError:
                self.notes.append("this PyAV cannot say how frames are turned")
        return stream

    def _pixels(self) -> str:
        geometry = self.geometry
        if self._form.codec == "ffv1" and (geometry.colour, geometry.depth) == (
            "rgb",
            8,
        ):
            return "bgr0"
        return pixel_format(geometry.colour, geometry.depth)

    def _frame(self, planes: list[np.ndarray]) -> Any:
        geometry, name = self.geometry, self._pixels()
        frame = self._av.VideoFrame(geometry.width, geometry.height, name)
        if name == "bgr0":
            green, blue, red = planes
            planes = [np.stack([blue, green, red, np.zeros_like(red)], axis=-1)]
        for plane, samples in zip(frame.planes, planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            octets = np.ascontiguousarray(samples).view(np.uint8)
            octets = octets.reshape(samples.shape[0], -1)
            rows[:, : octets.shape[1]] = octets
            plane.update(rows)
        frame.pts = self._times.pts[self._number]
        frame.time_base = self._times.time_base
        frame.color_range = 2 if geometry.full_range else 1
        frame.colorspace = geometry.matrix
        return frame

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._out.mux_one(packet)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._spool.check()
            raise InputError(f"cannot write the video; {error}") from error
        self._spool.check()

    def _finish(self) -> None:
        self._mux(None)
        try:
            if self._tracks:
                self._tracks.close()
            self._out.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._spool.check()
            raise InputError(f"cannot write the video; {error}") from error
        self._spool.check()
        if not self._seeks:
            self._spool.file.seek(0)
            shutil.copyfileobj(self._spool.file, self._target, 1 << 20)


class _Guarded:
    """A file for FFmpeg, which words the errors of one its own way: kept here."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            return len(data)  # told by `check`: FFmpeg would drop it

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def check(self) -> None:
        """InputError when something could not be written."""
        if self.error is not None:
            raise InputError(
                f"cannot write the video; {self.error.strerror}"
            ) from self.error


@contextlib.contextmanager
def numbered_frames(
    pattern: str, geometry: VideoGeometry, first: int, *, force: bool
) -> Iterator[Any]:
    """Yield ``write(frames)``: images by the pattern, all of them or none in the end.

    Numbers go on from ``first``. Frames are turned as they are shown. Samples of up to
    8 bits make 8-bit images, others 16-bit ones.
    """
    if is_far(pattern):
        raise UsageError(
            f"cannot write frames to {pattern}; they go to a folder of this machine; "
            "name one with -o"
        )
    folder, name = os.path.split(pattern)
    suffix = os.path.splitext(name)[1].lower()
    depth = 8 if geometry.depth <= 8 else 16
    channels = 1 if geometry.colour == "gray" else 3
    found = NUMBERED.search(name)
    digits = int(found[1] or 1) if found else 1
    made: list[tuple[str, str]] = []
    part = tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder or ".")

    def write(x: Tensor) -> None:
        for one in x.split(1):
            number = first + len(made)
            final = os.path.join(folder, NUMBERED.sub(f"{number:0{digits}d}", name))
            if not force and is_plain(final):
                raise InputError(f"{final} exists already; use --force to replace it")
            there = os.path.join(part, os.path.basename(final))
            if geometry.mirrored:
                one = one.flip(-1)
            one = one.rot90(geometry.rotation // 90, (-2, -1))
            pixels = to_pixels(one, (1 << depth) - 1, channels)
            with open(there, "wb") as file:
                write_image(ImageData(pixels, depth), file, suffix=suffix)
            made.append((there, final))

    try:
        yield write
        for there, final in made:
            os.replace(there, final)
    except OSError as error:
        raise InputError(f"cannot write {pattern}; {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_written(suffix: str, numbered: bool) -> None:
    """Refuse a suffix that says nothing of a clip."""
    if suffix not in FORMATS and not numbered:
        raise UsageError(
            f"a video is no '{suffix}' file; name frames, such as frames/%05d{suffix}, "
            f"or one of {', '.join(FORMATS)}"
        )
