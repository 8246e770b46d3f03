# SPDX-License-Identifier: Apache-2.0
"""Sound tracks beside the frames: packets as they are, or coded as speech.

    clip.mp4 ── packets ──► a file of sound ──► chunks of 1 MiB ──► clip.plc
    out.mkv  ◄─ packets ─── the same file   ◄── chunks

Packets are never decoded on the way: they come out bit for bit. The file is Matroska,
or MP4 of what came in one, whose clock that keeps; or a ``.plc`` file of speech.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.container.layout import MAGIC
from polycodec.codecs.files.ends import Ends
from polycodec.codecs.files.options import SpeechDecode, SpeechEncode, VideoEncode
from polycodec.codecs.files.results import readable
from polycodec.codecs.files.sources import Twice, opened
from polycodec.codecs.files.video.chunks import video_geometry
from polycodec.codecs.files.video.data import VideoInfo
from polycodec.codecs.files.video.read import library
from polycodec.errors import BitstreamError, CodecError, InputError

PIECE = 1 << 20  # bytes of a chunk of sound
_MEMORY = 8 << 20


def _spool() -> Any:
    return tempfile.SpooledTemporaryFile(max_size=_MEMORY)


@contextlib.contextmanager
def kept(
    ends: Ends[VideoEncode], info: VideoInfo
) -> Iterator[tuple[BinaryIO | None, str]]:
    """Yield the sound of a file as asked, to be read, and a note; None: there is none.

    InputError where its packets fit no container.
    """
    if not info.sound:
        yield None, ""
        return
    names = ", ".join(info.sound)
    if ends.options.audio == "none":
        yield None, f"its sound is left out ({names})"
        return
    with _spool() as spool:
        try:
            if ends.options.audio == "speech":
                note = _spoken(ends, spool, info)
            else:
                _copied(ends.source, spool, info)
                note = f"its sound is copied ({names}, {readable(spool.tell())})"
        except OSError as error:
            raise InputError(
                f"cannot keep the sound in {tempfile.gettempdir()}; {error.strerror}; "
                "free space there or set TMPDIR"
            ) from error
        spool.seek(0)
        yield spool, note


def pieces(sound: BinaryIO | None) -> Iterator[bytes]:
    """The chunks of a file of sound."""
    while sound is not None and (piece := sound.read(PIECE)):
        yield piece


@contextlib.contextmanager
def stored(reader: Reader, *, salvage: bool = False) -> Iterator[tuple[Any, str]]:
    """Yield the file of sound of an opened video, or None, and a note.

    ``salvage``: sound a chunk of which is damaged is left out, where it else is an
    error.
    """
    geometry = video_geometry(reader)
    if not geometry.sound:
        yield None, ""
        return
    with _spool() as spool:
        try:
            for k in range(geometry.groups, geometry.n_chunks):
                spool.write(reader.chunk(k))
        except BitstreamError as error:
            if not salvage:
                raise
            yield None, f"its sound is damaged and left out: {error}"
            return
        spool.seek(0)
        start = spool.read(len(MAGIC))
        spool.seek(0)
        if start != MAGIC:
            yield spool, ""
            return
        from polycodec.codecs.files.speech.decode import decode

        with _spool() as wave:
            inner = Reader(spool, tolerant=False)
            decode(inner, Ends(spool, wave, SpeechDecode(), None, None, ".wav"))
            wave.seek(0)
            yield wave, ""


def _copied(source: Twice, target: Any, info: VideoInfo) -> None:
    """Write all packets of all sound tracks, as they are."""
    av = library()
    mp4 = "mp4" in info.container
    for container in ("mp4", "matroska") if mp4 else ("matroska",):
        target.seek(0)
        target.truncate()
        try:
            with opened(source) as stream:
                stream.seek(0)
                with av.open(stream, "r", metadata_errors="replace") as before:
                    _remux(av, before, target, container, info.start)
            target.seek(0, 2)
            return
        except (av.FFmpegError, ValueError) as error:
            problem = error
    raise InputError(
        f"its sound ({', '.join(info.sound)}) cannot be copied ({problem}); use "
        "--audio speech, or --audio none"
    )


def _remux(av: Any, before: Any, target: Any, container: str, start: Fraction) -> None:
    """Write packets with times from ``start`` on."""
    tracks = [a for a in before.streams.audio if a.codec_context is not None]
    # Bit exact: no random identities, so that a file is the same every time.
    exact = {"fflags": "+bitexact"}
    with av.open(target, "w", format=container, options=exact) as after:
        new = {track.index: after.add_stream_from_template(track) for track in tracks}
        for track in tracks:
            new[track.index].metadata.update(track.metadata)
        for packet in before.demux(tracks):
            if packet.dts is not None:
                moved = round(start / packet.time_base)
                packet.dts -= moved
                packet.pts = None if packet.pts is None else packet.pts - moved
                packet.stream = new[packet.stream.index]
                after.mux_one(packet)


def _spoken(ends: Ends[VideoEncode], target: Any, info: VideoInfo) -> str:
    """Code the first sound track as speech, from the clip's start on."""
    from polycodec.codecs.files.speech.encode import encode

    options = SpeechEncode(device=ends.options.device)
    source = ends.source
    if not isinstance(source, (str, bytes)) and hasattr(source, "seek"):
        source.seek(0)
    try:
        coded = encode(Ends(source, target, options), begin=float(info.start))
    except CodecError as error:
        raise type(error)(f"its sound cannot be coded as speech: {error}") from error
    count = len(info.sound)
    the = "its sound" if count == 1 else f"the first of {count} sound tracks"
    return (
        f"{the} is coded by {coded.model} ({coded.kbps:.2f} kbps, "
        f"{readable(coded.bytes)})"
    )


class Tracks:
    """The sound of a file on its way into a container, in step with its frames."""

    def __init__(self, av: Any, sound: Any, container: Any, suffix: str) -> None:
        self._out = container
        self._before = av.open(sound, "r", metadata_errors="replace")
        self._tracks = list(self._before.streams.audio)
        self._coded = self._before.format.name == "wav"
        name = "libopus" if suffix == ".webm" else "flac"
        if self._coded:
            rate = self._tracks[0].codec_context.sample_rate
            rate = 48000 if name == "libopus" else rate
            new = container.add_stream(name, rate=rate)
            new.layout = self._tracks[0].codec_context.layout.name
            self._new = {self._tracks[0].index: new}
            form = new.codec_context.codec.audio_formats[0].name
            self._resampler = av.AudioResampler(form, new.layout, rate)
        else:
            self._new = {
                t.index: container.add_stream_from_template(t) for t in self._tracks
            }
            for track in self._tracks:
                self._new[track.index].metadata.update(track.metadata)
        self._packets = self._moved()
        self._next = next(self._packets, None)
        self.notes = self._late(suffix)

    def until(self, seconds: float) -> None:
        """Write the packets that are due before a time."""
        while self._next is not None:
            packet = self._next
            if packet.dts is not None and packet.dts * packet.time_base > seconds:
                return
            self._out.mux_one(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Write the rest."""
        self.until(float("inf"))
        self._before.close()

    def _late(self, suffix: str) -> list[str]:
        """A note where all is shown later: FFmpeg's Matroska has no edit lists."""
        first = self._next
        if suffix != ".mkv" or first is None or "mp4" not in self._before.format.name:
            return []
        early = -float((first.pts or 0) * first.time_base)
        if early <= 0 or self._tracks[0].codec_context.name.endswith("opus"):
            return []
        return [
            f"its sound begins {1000 * early:.0f} ms before 0, where {suffix} has no "
            "time: frames and sound come that much later, in step"
        ]

    def _moved(self) -> Iterator[Any]:
        if self._coded:
            [stream] = self._new.values()
            for frame in self._before.decode(self._tracks[0]):
                for part in self._resampler.resample(frame):
                    yield from stream.encode(part)
            for part in self._resampler.resample(None):
                yield from stream.encode(part)
            yield from stream.encode(None)
            return
        for packet in self._before.demux(self._tracks):
            if packet.dts is not None:
                packet.stream = self._new[packet.stream.index]
                yield packet
