# SPDX-License-Identifier: Apache-2.0
"""Speech through PyAV (FFmpeg): MPEG audio, Ogg, MP4, the audio track of a video.

The first audio track is decoded packet by packet, and strictly: what FFmpeg marks as
corrupt, or cannot decode, ends the reading with an error. Only MPEG audio goes on,
which may hold tags and headers between its frames: a note counts what was no frame.
Another note counts gaps in time, where packets are missing. Rate and channels are those
of the first decoded frame: a header may promise half the rate (HE-AAC).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from polycodec.codecs.files.speech.read import SpeechInfo, check_shape
from polycodec.codecs.files.speech.streams import least_samples, mpeg_frame
from polycodec.errors import InputError

# Tags that describe the old file, not the speech.
_TECHNICAL = (
    *("encoder", "major_brand", "minor_version", "compatible_brands", "duration"),
    *("handler_name", "vendor_id", "language"),
)
_FULL_SCALE = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape")
# Demuxers whose length is a guess, or what was found by looking for the end.
_GUESSED = {
    *("mp3", "aac", "ac3", "eac3", "dts", "amr", "gsm", "mpegts", "ogg", "loas"),
    *("voc", "caf", "w64", "iff"),
}
# Those that say how long they are, or whose last packet shows that it is cut.
_SURE = {
    *("wav", "aiff", "au", "caf", "flac", "nistsphere", "wve", "voc"),
    *("mov", "matroska", "asf", "avi", "flv", "wv", "tta", "ape", *_GUESSED),
}
_SLACK = 0.1  # seconds; durations count what lossy encoders add before and after
_GAP = 0.015  # seconds, beyond the rounding of times to milliseconds
_STRICT = {"err_detect": "explode+crccheck+bitstream+buffer"}


class AvFile:
    """An opened container and its first audio track; ``begin``: see `open_speech`."""

    def __init__(self, av: Any, stream: BinaryIO, begin: float | None = None) -> None:
        counted = least_samples(stream)
        stream.seek(0)
        self._errors = av.FFmpegError
        self._container = _opened(av, stream)
        tracks = self._container.streams.audio
        if not tracks or tracks[0].codec_context is None:
            self.close()
            raise InputError(
                "it has no audio that can be decoded; expected at least one track"
            )
        self._track = tracks[0]
        self._mpeg = self._track.codec_context.name.startswith(("mp1", "mp2", "mp3"))
        self._track.codec_context.options = _STRICT
        self._odd, self._gaps = 0, 0  # packets that are no frames; times that jump
        # When the next frame should begin, in seconds; what is missing before it.
        self._timed, self._due, self._missing = begin is not None, begin, 0.0
        self.decoded = 0
        self.absent = 0  # samples that its times leave out between others
        self._frames = self._decoded()
        self._held: list[np.ndarray] = []
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise InputError("its audio track holds no samples, or is damaged")
        self._hold(first)
        block = self._held[-1]
        check_shape(first.sample_rate, block.shape[1])
        tags, notes, layout = _told(self._container)
        self.info = SpeechInfo(
            rate=first.sample_rate,
            channels=block.shape[1],
            samples=self._announced(first.sample_rate, counted),
            sample=_form(self._track.codec_context, first),
            tags=tags,
            notes=tuple(notes),
            layout=layout,
        )

    @property
    def lost(self) -> tuple[str, ...]:
        """What could not be read, known after reading."""
        notes = []
        if self._odd:
            notes.append(f"{self._odd} packets are no sound, or damaged: left out")
        if self._gaps:
            notes.append(f"packets are missing at {self._gaps} places")
        return tuple(notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is known after reading."""
        notes = [*self.lost]
        if self._container.format.name.partition(",")[0] not in _SURE:
            notes.append("whether it is cut is not known: its format does not say")
        return tuple(notes)

    def read(self, count: int) -> np.ndarray:
        while sum(map(len, self._held)) < count:
            frame = next(self._frames, None)
            if frame is None:
                break
            block, info = _samples(frame), self.info
            if (frame.sample_rate, block.shape[1]) != (info.rate, info.channels):
                raise InputError(
                    f"its audio changes from {info.rate} Hz, {info.channels} channels "
                    f"to {frame.sample_rate} Hz, {block.shape[1]}; cut it there"
                )
            self._hold(frame)
        block = np.concatenate(self._held) if self._held else self._none()
        self._held = [block[count:]]
        return block[:count]

    def close(self) -> None:
        self._container.close()

    def _hold(self, frame: Any) -> None:
        """Keep a frame, and silence for what is missing before it."""
        block = _samples(frame)
        if self._timed and self._missing > 0:
            count = round(self._missing * frame.sample_rate)
            self._held.append(np.zeros((count, block.shape[1]), np.float32))
        self._held.append(block)

    def _none(self) -> np.ndarray:
        return np.zeros((0, self.info.channels), np.float32)

    def _decoded(self) -> Iterator[Any]:
        """All frames; an error where a packet is cut or damaged."""
        for packet in self._container.demux(self._track):
            if packet.is_corrupt and packet.size:
                raise InputError("it is cut or damaged in the middle of a packet")
            if self._mpeg and 0 < packet.size < mpeg_frame(bytes(packet)[:4]):
                raise InputError("it is cut inside its last frame; cut it before")
            try:
                frames = packet.decode()
            except self._errors:
                if not self._mpeg:
                    raise
                self._odd += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    raise InputError("it is cut or damaged in the middle of a frame")
                if frame.samples:
                    self._follow(frame)
                    yield frame

    def _follow(self, frame: Any) -> None:
        """Count what was decoded, and jumps of its time."""
        now = None if frame.pts is None else float(frame.pts * frame.time_base)
        length, self._missing = frame.samples / frame.sample_rate, 0.0
        if now is None or self._due is None:
            self._due = now
        elif now - self._due > _GAP and (self._timed or not self._mpeg):
            self._missing, self._due = now - self._due, now
            if self.decoded:
                self._gaps += 1
                if not self._timed:  # else silence stands there
                    self.absent += round(self._missing * frame.sample_rate)
        if self._due is not None:
            self._due += length
        self.decoded += frame.samples

    def _announced(self, rate: int, counted: int | None) -> int | None:
        """Samples that there must be at least, by what the container says."""
        track, container = self._track, self._container
        if container.format.name in _GUESSED:
            return counted if self._mpeg else None
        seconds = None
        if track.duration is not None:
            seconds = float(track.duration * track.time_base)
        elif said := re.fullmatch(
            r"(\d+):(\d+):([\d.]+)", track.metadata.get("DURATION", "")
        ):
            seconds = 3600 * int(said[1]) + 60 * int(said[2]) + float(said[3])
            # Matroska says when a track ends; it may begin late.
            seconds -= max(0.0, float((track.start_time or 0) * track.time_base))
        elif container.duration is not None and len(container.streams) == 1:
            seconds = container.duration / 1e6
        if seconds is None:
            return None
        exact = track.codec_context.name.startswith(_LOSSLESS)
        return max(0, int((seconds - (0 if exact else _SLACK)) * rate))


def described(av: Any, stream: BinaryIO) -> SpeechInfo | None:
    """Tags, notes and layout of a file that another library decodes; None: unknown."""
    try:
        with _opened(av, stream) as container:
            tags, notes, layout = _told(container)
    except Exception:  # of FFmpeg's own making; the other library will say
        return None
    return SpeechInfo(0, 0, tags=tags, notes=tuple(notes), layout=layout)


def _opened(av: Any, stream: BinaryIO) -> Any:
    stream.seek(0)
    try:
        return av.open(stream, "r", metadata_errors="surrogateescape")
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            "this is no audio or video of a supported kind, or it is damaged "
            f"({reason}); expected for example WAV, FLAC, OGG, MP3, Opus, MP4"
        ) from error


def _told(container: Any) -> tuple[dict[str, str], list[str], str]:
    """Tags, notes on what is left out, and the layout of the channels."""
    streams, notes = container.streams, []
    track = streams.audio[0] if streams.audio else None
    covers = sum(map(_is_cover, streams.video))
    if len(streams.video) > covers:
        notes.append("the images of the video are left out; its audio is coded")
    if covers:
        notes.append("the cover image is left out")
    if len(streams.audio) > 1:
        notes.append(f"the first of {len(streams.audio)} audio tracks is coded")
    other = len(streams) - len(streams.audio) - len(streams.video)
    if other:
        notes.append(f"{other} tracks of subtitles or data are left out")
    if chapters := len(container.chapters()):
        notes.append(f"{chapters} chapters are left out")
    found = {**container.metadata, **(track.metadata if track else {})}
    tags = {_text(k).lower(): _text(str(v)) for k, v in found.items() if v}
    if any(not _is_text(v) for v in found.values()):
        notes.append("tags that are not UTF-8 are read as Windows-1252")
    context = track.codec_context if track else None
    layout = context.layout.name if context and context.layout else ""
    return {k: v for k, v in tags.items() if k not in _TECHNICAL}, notes, layout


def _is_text(value: str) -> bool:
    return not re.search("[\udc80-\udcff]", value)


def _text(value: str) -> str:
    """A tag whose bytes that are not UTF-8 are taken for Windows-1252."""
    if _is_text(value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _samples(frame: Any) -> np.ndarray:
    """(n, channels) float32 of a decoded frame, full scale ±1."""
    name, data = frame.format.name, frame.to_ndarray()
    channels = len(frame.layout.channels)
    data = data.T if name.endswith("p") else data.reshape(-1, channels)
    kind = name.removesuffix("p")
    if kind not in _FULL_SCALE:
        raise InputError(f"its samples are of the form {name}, which is not supported")
    if kind == "u8":
        data = data - 128.0
    return (data / _FULL_SCALE[kind]).astype(np.float32)


def _is_cover(video: Any) -> bool:
    """Tell the image on an album's cover from a film."""
    return "attached_pic" in repr(getattr(video, "disposition", ""))


def _form(codec: Any, frame: Any) -> str:
    """Form of the source's samples; int16 for what a lossy codec makes."""
    if not codec.name.startswith(_LOSSLESS):
        return "int16"
    kind = frame.format.name.removesuffix("p")
    if kind == "s32" and "24" in codec.name:
        return "int24"
    forms = {"u8": "int8", "s32": "int32", "flt": "float32", "dbl": "float64"}
    return forms.get(kind, "int16")
