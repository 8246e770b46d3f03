# SPDX-License-Identifier: Apache-2.0
"""Speech through PyAV (FFmpeg): m4a, AAC, and the audio track of a video.

The first audio track is decoded frame by frame. Rate and channels are those of the
first decoded frame: a header may promise half the rate (HE-AAC).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from polycodec.codecs.files.speech.read import SpeechInfo, check_shape
from polycodec.errors import InputError

# Tags that describe the old file, not the speech.
_TECHNICAL = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
)
_FULL_SCALE = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape")


class AvFile:
    """An opened container and its first audio track."""

    def __init__(self, av: Any, stream: BinaryIO) -> None:
        try:
            self._container = av.open(stream, "r", metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                "this is no audio or video of a supported kind, or it is damaged "
                f"({reason}); expected for example WAV, FLAC, OGG, MP3, Opus, MP4"
            ) from error
        tracks = self._container.streams.audio
        if not tracks:
            self.close()
            raise InputError("it has no audio; expected at least one audio track")
        self._frames = self._decoded(tracks[0])
        self._held: list[np.ndarray] = []
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise InputError("its audio track holds no samples, or is damaged")
        self._held.append(_samples(first))
        self.info = self._describe(tracks, first)

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
            self._held.append(block)
        block = np.concatenate(self._held) if self._held else self._none()
        self._held = [block[count:]]
        return block[:count]

    def close(self) -> None:
        self._container.close()

    def _none(self) -> np.ndarray:
        return np.zeros((0, self.info.channels), np.float32)

    def _decoded(self, track: Any) -> Iterator[Any]:
        for frame in self._container.decode(track):
            if frame.samples:
                yield frame

    def _describe(self, tracks: Any, frame: Any) -> SpeechInfo:
        block, track = self._held[0], tracks[0]
        check_shape(frame.sample_rate, block.shape[1])
        notes = []
        if any(not _is_cover(video) for video in self._container.streams.video):
            notes.append("the images of the video are left out; its audio is coded")
        if len(tracks) > 1:
            notes.append(f"the first of {len(tracks)} audio tracks is coded")
        metadata = {**self._container.metadata, **track.metadata}
        tags = {k.lower(): str(v) for k, v in metadata.items() if v}
        return SpeechInfo(
            rate=frame.sample_rate,
            channels=block.shape[1],
            sample=_form(track.codec_context, frame),
            tags={k: v for k, v in tags.items() if k not in _TECHNICAL},
            format=self._container.format.name,
            notes=tuple(notes),
        )


def _samples(frame: Any) -> np.ndarray:
    """(n, channels) float32 of a decoded frame, full scale ±1."""
    name, data = frame.format.name, frame.to_ndarray()
    channels = len(frame.layout.channels)
    data = data.T if name.endswith("p") else data.reshape(-1, channels)
    kind = name.removesuffix("p")
    if kind not in _FULL_SCALE:
        raise InputError(f"its samples are of the form {name}, which is not supported")
    offset = 128.0 if kind == "u8" else 0.0
    return ((data - offset) / _FULL_SCALE[kind]).astype(np.float32)


def _is_cover(video: Any) -> bool:
    """Tell the image on an album's cover from a film."""
    return "attached_pic" in str(getattr(video, "disposition", ""))


def _form(codec: Any, frame: Any) -> str:
    """Form of the source's samples; int16 for what a lossy codec makes."""
    if not codec.name.startswith(_LOSSLESS):
        return "int16"
    kind = frame.format.name.removesuffix("p")
    if kind == "s32" and "24" in codec.name:
        return "int24"
    forms = {"u8": "int8", "s32": "int32", "flt": "float32", "dbl": "float64"}
    return forms.get(kind, "int16")
