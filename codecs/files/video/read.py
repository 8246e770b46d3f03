# SPDX-License-Identifier: Apache-2.0
"""Video in: MP4, Matroska, WebM, Y4M and others by PyAV; a folder of frames.

    with open_video("clip.mp4") as video:
        video.info                      size, samples, colour, rate, rotation, sound
        for planes in video.frames():   as decoded, in the order of showing

A frame at a time: memory does not grow with the length. Frames are planes as they are
stored, neither turned nor converted; samples in other layouts are brought to planes.

Refused by name: no video track, no frames, frames that change their size or samples,
files that are cut or damaged, which say how many frames are good.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

from polycodec.codecs.files.container.layout import MAX_PIXELS, MAX_SIDE
from polycodec.codecs.files.sources import Twice, name_of, opened
from polycodec.codecs.files.video.data import Planes, VideoInfo
from polycodec.errors import InputError

RATE = Fraction(25)  # frames a second where nothing says it


class Backend(Protocol):
    """What reads a file."""

    info: VideoInfo
    notes: list[str]

    def frames(self) -> Iterator[Planes]:
        """Frames in the order of showing."""

    def close(self) -> None:
        """Be done."""


class OpenedVideo:
    """An opened clip: ``info`` and its frames, once; ``count`` of those read so far.

    ``notes``: what a person should know of it, as far as it is known.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name
        self.info, self.count = backend.info, 0

    @property
    def notes(self) -> list[str]:
        return self._backend.notes

    def frames(self) -> Iterator[Planes]:
        """Yield each frame; InputError says how many were good before damage."""
        try:
            for planes in self._backend.frames():
                self.count += 1
                yield planes
        except InputError as error:
            raise InputError(f"cannot read {self._name}; {error}") from error
        except (OSError, ValueError, RuntimeError) as error:
            # Decoders meet damage with exceptions of their own making.
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"cannot read {self._name}; {self._good()} ({reason}); {_REPAIR}"
            ) from error
        told = self.info.frames
        if not self.count:
            raise InputError(
                f"{self._name} holds no frames; expected at least one; get it again"
            )
        if told is not None and self.count < told:
            raise InputError(
                f"cannot read {self._name}; {self._good()}, expected {told}; {_REPAIR}"
            )

    def _good(self) -> str:
        return f"it is cut or damaged after {self.count} good frames"


_REPAIR = "repair it, or cut it there and encode what is good"


@contextlib.contextmanager
def open_video(source: Twice, *, rate: Fraction | None = None) -> Iterator[OpenedVideo]:
    """Open a path, a folder of frames or a binary file that can seek.

    ``rate``: frames a second of a folder, or in place of what a file says. InputError
    says what is wrong.
    """
    name = name_of(source)
    if name == "-":
        name = str(getattr(source, "name", "the input"))
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        from polycodec.codecs.files.video.folder import Folder

        yield OpenedVideo(Folder(os.fspath(source), rate or RATE), name)
        return
    av = library()
    with opened(source) as stream:
        from polycodec.codecs.files.video.av import AvVideo

        try:
            backend = AvVideo(av, stream, rate)
        except InputError as error:
            raise InputError(f"cannot read {name}; {error}") from error
        try:
            yield OpenedVideo(backend, name)
        finally:
            backend.close()


def library() -> Any:
    """PyAV; InputError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise InputError(
            "video needs PyAV, which is not installed; run pip install av"
        ) from error
    av.logging.set_level(None)  # what it finds wrong is told by errors
    return av


def check_size(width: int, height: int) -> None:
    """Refuse sizes that cannot be."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InputError(
            f"its frames are {width}x{height}; expected sides of 1 to {MAX_SIDE}; its "
            "header is damaged"
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"its frames have {width * height} pixels; expected at most {MAX_PIXELS}"
        )
