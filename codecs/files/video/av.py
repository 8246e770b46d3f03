# SPDX-License-Identifier: Apache-2.0
"""PyAV (FFmpeg): the first video track of anything.

Damage counts: decoders are asked for errors where they would guess, a frame that is
marked as damaged is one, and so is a container that ends before it says. Of checksums
that differ FFmpeg's FFV1 only speaks, so it is listened to.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from polycodec.codecs.files.speech.check import check
from polycodec.codecs.files.video.data import (
    COLOURS,
    Planes,
    VideoInfo,
    changed_by_planes,
    form_of,
    has_alpha,
    pixel_format,
)
from polycodec.codecs.files.video.read import RATE, check_size
from polycodec.errors import InputError
from polycodec.forking import fork_safe

_STRICT = {"err_detect": "explode+crccheck+bitstream+buffer"}
# What is said, and how loudly, is of the whole process.
_LISTENING = fork_safe(threading.Lock())
# Tags that describe the old file, not the clip.
_TECHNICAL = re.compile(
    r"encoder|major_brand|minor_version|compatible_brands|duration|handler_name"
    r"|vendor_id|rotate|alpha_mode|_statistics.*|bps.*|number_of_.*",
    re.IGNORECASE,
)
_HDR = "what its HDR metadata says of light is left out"
_BESIDE = {
    "A53_CC": "captions inside its frames are left out",
    "STEREO3D": "how the two views of its frames stand is left out",
    "SPHERICAL": "how its frames lie on a sphere is left out",
    **dict.fromkeys(
        (
            *("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DOVI_METADATA"),
            *("DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "DOVI_RPU_BUFFER"),
        ),
        _HDR,
    ),
}


class AvVideo:
    """An opened container and its first video track that is no cover image."""

    def __init__(self, av: Any, stream: BinaryIO, rate: Fraction | None) -> None:
        self._av, self._stream, self.notes = av, stream, list[str]()
        try:
            check(stream)
        except InputError as error:
            raise InputError(str(error).replace(" of samples", "")) from error
        if not stream.seek(0, os.SEEK_END):
            raise InputError("it is empty; expected a video; get it again")
        stream.seek(0)
        try:
            self._container = av.open(stream, "r", metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                "this is no video of a supported kind, or it is damaged "
                f"({getattr(error, 'strerror', None) or error}); expected for example "
                "MP4, Matroska, WebM, Y4M"
            ) from error
        streams = self._container.streams
        tracks = [v for v in streams.video if not _is_cover(v)]
        if not tracks or tracks[0].codec_context is None:
            self.close()
            raise InputError(
                "it has no video stream that can be decoded; expected at least one; "
                "its sound alone: --as sound"
            )
        self._track = track = tracks[0]
        self._sealed = track.codec_context.name == "ffv1"
        track.thread_type = "NONE" if self._sealed else "AUTO"
        track.codec_context.options = _STRICT
        self._told(streams, len(tracks))
        self._differs, self._frames = False, self._decoded()
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise InputError("its video stream holds no frames; expected at least one")
        self._first: Any = first
        self.info = self._described(first, rate)

    def close(self) -> None:
        self._container.close()

    def frames(self) -> Iterator[Planes]:
        """See `Backend.frames`; the end of the file is told by the container."""
        first, info = self._first, self.info
        frame, number = first, 0
        while frame is not None:
            form = (frame.width, frame.height, frame.format.name)
            wanted = (info.width, info.height, first.format.name)
            if form[:2] != wanted[:2] or form_of(frame.format) != (
                info.colour,
                info.depth,
            ):
                raise InputError(
                    f"its frames change from {_form(wanted)} to {_form(form)} at frame "
                    f"{number}; the {number} before it are good; cut it there, and "
                    "encode the parts"
                )
            self._note_what_is_beside(frame)
            yield self._planes(frame)
            frame, number = next(self._frames, None), number + 1
        if info.container == "yuv4mpegpipe" and self._rest(first):
            raise InputError(_damaged(number, "the last frame is not whole"))

    def _rest(self, frame: Any) -> int:
        """Bytes of a Y4M file behind its last whole frame; FFmpeg passes over them."""
        self._stream.seek(0)
        head = len(self._stream.readline(1 << 12))
        if self._stream.read(6) != b"FRAME\n":
            return 0  # with parameters: their sizes are not known
        size = 6 + sum(p.height * _width(p, frame) for p in frame.planes)
        return (self._stream.seek(0, os.SEEK_END) - head) % size

    def _decoded(self) -> Iterator[Any]:
        """All frames; an error where a packet or a frame is damaged."""
        number = 0
        try:
            for packet in self._container.demux(self._track):
                bad = packet.is_corrupt and packet.size
                # Decoders hold frames back: those before a bad packet are good.
                context = self._track.codec_context
                for frame in context.decode(None) if bad else self._frames_of(packet):
                    if frame.is_corrupt or self._differs:
                        raise InputError(_damaged(number, "a frame is damaged"))
                    number += 1
                    yield frame
                if bad:
                    raise InputError(_damaged(number, "a packet is cut or damaged"))
        except self._av.FFmpegError as error:
            reason = error.strerror or str(error)
            raise InputError(_damaged(number, reason)) from error

    def _frames_of(self, packet: Any) -> Any:
        """Frames of a packet; ``_differs`` then: a checksum in it does."""
        if not self._sealed:
            return packet.decode()
        logging = self._av.logging
        with _LISTENING, logging.Capture(local=True) as said:
            logging.set_skip_repeated(False)
            logging.set_level(logging.ERROR)
            try:
                frames = packet.decode()
            finally:
                logging.set_level(None)
        self._differs = any("CRC mismatch" in text for *_, text in said)
        return frames

    def _planes(self, frame: Any) -> Planes:
        colour, depth = self.info.colour, self.info.depth
        name = pixel_format(colour, depth)
        if frame.format.name.replace("yuvj", "yuv") != name:
            # Into planes: of the same levels, so that only their order changes.
            level = 2 if self.info.full_range else 1
            frame = frame.reformat(
                format=name, src_color_range=level, dst_color_range=level
            )
        kind = np.dtype(np.uint8 if depth <= 8 else "<u2")
        planes = []
        for plane in frame.planes[: COLOURS[colour][1]]:
            rows = np.frombuffer(plane, kind)[: plane.height * plane.line_size]
            rows = rows.reshape(plane.height, plane.line_size // kind.itemsize)
            planes.append(rows[:, : plane.width].copy())
        return Planes(planes, frame.pts, int(getattr(frame, "duration", 0) or 0))

    def _described(self, frame: Any, rate: Fraction | None) -> VideoInfo:
        track, context = self._track, self._track.codec_context
        check_size(frame.width, frame.height)
        colour, depth = form_of(frame.format)
        # VP8 and VP9 have it beside the frames, where FFmpeg's decoders do not look.
        tags = {key.lower(): value for key, value in track.metadata.items()}
        if has_alpha(frame.format) or tags.get("alpha_mode") == "1":
            self.notes.append("transparency is left out")
        self.notes += changed_by_planes(frame.format)
        said = {**self._container.metadata, **track.metadata}
        rotation, mirrored = _turn(frame)
        full = context.color_range == 2 or frame.format.name.startswith("yuvj")
        # As FFmpeg has it: gray that says nothing has all levels; others are cut.
        full = full or (colour == "gray" and not context.color_range)
        told = rate or track.average_rate or track.guessed_rate or RATE
        mpeg = colour == "yuv420" and context.name != "mjpeg"
        return VideoInfo(
            width=frame.width,
            height=frame.height,
            colour=colour,
            depth=depth,
            full_range=full or colour == "rgb",
            primaries=int(context.color_primaries or 2),
            transfer=int(context.color_trc or 2),
            matrix=0 if colour == "rgb" else int(context.colorspace or 2),
            siting="unknown" if mpeg or colour != "yuv420" else "center",
            aspect=Fraction(track.sample_aspect_ratio or 1),
            rotation=rotation,
            mirrored=mirrored,
            rate=Fraction(told),
            time_base=1 / Fraction(rate) if rate else Fraction(track.time_base),
            frames=_promised(track),
            tags={k.lower(): v for k, v in said.items() if not _TECHNICAL.fullmatch(k)},
            sound=tuple(
                a.codec_context.name if a.codec_context else "unknown"
                for a in self._container.streams.audio
            ),
            container=self._container.format.name,
            start=Fraction(max(0, self._container.start_time or 0), 10**6),
        )

    def _note_what_is_beside(self, frame: Any) -> None:
        """Note, once, what is left out of what stands beside a frame's samples."""
        found = {_BESIDE.get(data.type.name) for data in frame.side_data}
        if frame.interlaced_frame:
            found.add("it is interlaced; frames are coded with both fields")
        self.notes += sorted(one for one in found - set(self.notes) if one)

    def _told(self, streams: Any, tracks: int) -> None:
        """Note what is left out."""
        covers = sum(map(_is_cover, streams.video))
        other = len(streams) - len(streams.video) - len(streams.audio)
        chapters = len(self._container.chapters())
        for count, note in (
            (tracks - 1, f"the first of {tracks} video tracks is coded"),
            (covers, "the cover image is left out"),
            (other, f"{other} tracks of subtitles or data are left out"),
            (chapters, f"{chapters} chapters are left out"),
        ):
            if count:
                self.notes.append(note)


def _promised(track: Any) -> int | None:
    """Frames that the index says are shown; None: the container counts none.

    Its own count has also those that an edit list cuts off, and an AVI's those that
    were dropped while it was recorded.
    """
    if not track.frames:
        return None
    entries = getattr(track, "index_entries", ())  # PyAV 17
    shown = sum(1 for e in entries if e.size and not e.is_discard)
    return shown or track.frames


def _turn(frame: Any) -> tuple[int, bool]:
    """(counter-clockwise degrees, whether mirrored before) of showing a frame."""
    for data in frame.side_data:
        if "DISPLAYMATRIX" not in str(data.type):
            continue
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32) / 65536
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        angle = round(np.degrees(np.arctan2(-b, a)) / 90) * 90 % 360
        return int(angle), bool(mirrored)
    return 0, False


def _is_cover(video: Any) -> bool:
    return "attached_pic" in repr(getattr(video, "disposition", ""))


def _width(plane: Any, frame: Any) -> int:
    """Bytes of a row of samples."""
    return int(plane.width) * (2 if frame.format.components[0].bits > 8 else 1)


def _form(form: tuple[int, int, str]) -> str:
    return f"{form[0]}x{form[1]} {form[2]}"


def _damaged(number: int, reason: str) -> str:
    return (
        f"it is cut or damaged after {number} good frames ({reason}); repair it, or "
        "cut it there and encode what is good"
    )
