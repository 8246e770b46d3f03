# SPDX-License-Identifier: Apache-2.0
"""Video files in; `api.py` calls this for what it recognises as video.

    clip.mp4 ─ frames ─ groups ─ RGB ─ codec ─► chunks ┐
             └ times, colour, sound ───────────────────┴─ container ─ clip.plc

A group at a time: memory does not grow with the length, but for the chunks' index and
the times. The way back is in `decode.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from fractions import Fraction

import torch

from polycodec.codecs.base import Codec
from polycodec.codecs.files import fit
from polycodec.codecs.files.container.file import Header, Record, Writer
from polycodec.codecs.files.ends import Ends, codec_for
from polycodec.codecs.files.options import VideoEncode
from polycodec.codecs.files.rate import Limit, limit_of, quality_asked
from polycodec.codecs.files.results import VideoEncoded
from polycodec.codecs.files.tags import tags_record
from polycodec.codecs.files.video import rate, sound
from polycodec.codecs.files.video.chunks import geometry_of, groups, seal_of
from polycodec.codecs.files.video.colour import unlimited
from polycodec.codecs.files.video.data import Planes, VideoInfo
from polycodec.codecs.files.video.read import OpenedVideo, open_video
from polycodec.codecs.files.video.times import Times
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.signals.video import GroupEncoder
from polycodec.errors import UsageError

SLACK = 0.01  # beyond 0 … 1: what noise of one in chroma makes of black
MANY = 0.01  # of the samples


def encode(ends: Ends[VideoEncode]) -> VideoEncoded:
    """Encode a video file; see `api.encode`."""
    fps = ends.options.fps
    with _opened(ends) as video:
        info = video.info
    with contextlib.ExitStack() as stack:
        tracks, note = stack.enter_context(sound.kept(ends, info))
        codec = codec_for("video", ends)
        fit.check(codec, ends.options)
        job = Job(codec, info, ends)
        begun = time.perf_counter()
        quality = job.write()
        seconds = time.perf_counter() - begun
        with job.writer as writer:
            parts = 0
            for piece in sound.pieces(tracks):
                writer.add(piece)
                parts += 1
            times = job.times()
            with ends.writing() as file:
                size = writer.finish(file, job.header(quality, times, parts))
    fit.forget(job.plan)
    pixels = info.width * info.height * job.frames
    notes = [*job.notes, *job.clipped(), *([note] if note else [])]
    if fps and tracks:
        notes.append(
            "when frames are shown follows from --fps; its sound keeps its own times, "
            "and may not go with them"
        )
    if times.lost:
        notes.append(
            "its times do not increase from frame to frame, or some are missing; "
            f"frames are shown at {float(times.rate):.6g} a second"
        )
    return VideoEncoded(
        **ends.about(job.codec.name),
        bytes=size,
        bpp=8 * size / pixels,
        kbps=8 * size / 1000 / times.seconds,
        estimated_bpp=job.estimated_bits / pixels,
        quality=quality,
        width=info.width,
        height=info.height,
        frames=job.frames,
        duration=times.seconds,
        fps=job.coded / max(seconds, 1e-9),
        notes=notes,
    )


@contextlib.contextmanager
def _opened(ends: Ends[VideoEncode]) -> Iterator[OpenedVideo]:
    fps = ends.options.fps
    rate = None if fps is None else Fraction(fps).limit_denominator(1001)
    source = ends.source
    if hasattr(source, "seek"):
        source.seek(0)
    with open_video(source, rate=rate) as video:
        yield video


class Job:
    """One clip on its way into a file: its chunks at a quality, or within a size.

    ``frames``: read in the last pass, ``coded``: in all passes; ``writer``: holds the
    chunks of the last one.
    """

    def __init__(self, codec: Codec, info: VideoInfo, ends: Ends[VideoEncode]) -> None:
        self.codec, self.info, self.ends = codec, info, ends
        self.size = info.height, info.width
        self.plan: Plan | None = None  # of a codec that fits
        self.encoder = self._encoder()
        self.geometry = geometry_of(info, 1, self.encoder.gop)
        self.frames = self.coded = 0
        self.total = info.frames  # so far as it is known
        self.estimated_bits = 0.0
        self.notes: list[str] = []
        self.writer = Writer()
        self._beyond = self._samples = 0  # of RGB, in all passes
        self._pts: list[int | None] = []
        self._last = 0  # how long the last frame is shown

    def write(self) -> float:
        """Code every frame as the options ask; return the quality that was used."""
        limit, quality = limit_of(self.ends.options), quality_asked(self.ends.options)
        if self.codec.fitted:
            return self._fitted(limit, quality)
        if limit:
            return self._within(limit)
        self._code(quality)
        return quality

    def times(self) -> Times:
        """When frames are shown, once all have been read."""
        info = self.info
        if self.ends.options.fps:
            return Times.even_of(self.frames, info.rate)
        # From the first track's start on, as the sound is.
        start = round(info.start / info.time_base)
        pts = [None if t is None else t - start for t in self._pts]
        return Times.of(pts, self._last, info.time_base, info.rate)

    def clipped(self) -> list[str]:
        """A note, where much is beyond what RGB in 0 … 1 can hold."""
        share = self._beyond / max(1, self._samples)
        if share < MANY:
            return []
        return [
            f"{share:.0%} of its samples are beyond black, white or RGB's colours, and "
            "are clipped"
        ]

    def header(self, quality: float, times: Times, parts: int) -> Header:
        """The file's header, once all frames have been read; ``parts`` of sound."""
        records = []
        if record := times.record:
            records.append(Record("times", record))
        if tags := tags_record(self.info.tags):
            records.append(tags)
        gop = self.encoder.gop
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="video",
            geometry=geometry_of(self.info, self.frames, gop, times, parts),
            quality=quality,
            records=records,
        )

    def _encoder(self) -> GroupEncoder:
        encoder = self.codec.group_encoder(self.size, self.ends.options.gop, self.plan)
        encoder.seal = seal_of(geometry_of(self.info, 1, 1))
        return encoder

    def _code(self, quality: float) -> int:
        """Code the clip anew; returns the bytes of all chunks."""
        self.writer.__exit__()
        self.writer, self.encoder, total = Writer(), self._encoder(), 0
        for k, group in enumerate(groups(self._read(), self.encoder.gop)):
            chunk = self._chunk(self.encoder, k, group, quality)
            self.writer.add(chunk)
            total += len(chunk)
            self.coded += len(group)
            if self.ends.progress:
                told = max(self.total or self._guessed(), self.frames)
                self.ends.progress(self.frames, told)
        self.estimated_bits = self.encoder.estimated_bits
        return total

    def _chunk(
        self, encoder: GroupEncoder, k: int, group: list[Planes], quality: float
    ) -> bytes:
        size = self.geometry.height, self.geometry.width
        x = torch.empty(len(group), 3, *size)
        for frame, one in zip(group, x, strict=True):  # many at once take much memory
            part = unlimited([frame.planes], self.geometry)[0]
            self._beyond += int(((part < -SLACK) | (part > 1 + SLACK)).sum())
            one.copy_(part).clamp_(0, 1)
        self._samples += x.numel()
        return encoder.chunk(k, x, quality)

    def _within(self, limit: Limit) -> float:
        """Code at the highest quality that fits the size."""
        sample = rate.Sample()
        for frame in self._read():
            sample.add(frame)
        frames = self.frames
        left, beside = self._left(limit)

        def trial(quality: float) -> float:
            encoder, size = self._encoder(), 0
            for k, group in enumerate(groups(sample.frames, encoder.gop)):
                size += len(self._chunk(encoder, k, group, quality))
            return size * frames / len(sample.frames)

        what = f"{limit} less {beside} bytes beside the frames"
        return rate.search(trial, self._code, left, what, exact=sample.whole)

    def _left(self, limit: Limit) -> tuple[int, int]:
        """Bytes for the frames, once all have been read, and for what is beside them:
        the header with an index, records, sound."""
        times = self.times()
        amounts = {
            "target_bpp": self.frames * self.info.width * self.info.height,
            "target_kbps": 1000 * times.seconds,
        }
        with sound.kept(self.ends, self.info) as (tracks, _):
            beside = sum(map(len, sound.pieces(tracks)))
        groups_of = self.frames // self.encoder.gop + 1
        beside += len(times.record or b"") + 200 + 9 * groups_of
        left = limit.bytes(amounts) - beside
        if left <= 0:
            raise UsageError(
                f"{limit} leaves nothing beside the {beside} bytes of sound and "
                "header; give more, or code the sound (--audio speech) or leave it out"
            )
        return left, beside

    def _fitted(self, limit: Limit | None, quality: float) -> float:
        """Code once, by a model that is fitted within its bytes."""
        frames, size = self.info.frames, None
        if limit or not frames:
            frames = sum(1 for _ in self._read())
        if limit:
            size, _ = self._left(limit)
        self.plan, self.total = fit.plan_of(self.ends, frames, size), frames
        with fit.keeping(self.plan):
            self._code(quality)
        gop = self.encoder.gop
        self.notes += fit.notes_of(self.plan, "frames", gop, self.frames)
        return quality

    def _read(self) -> Iterator[Planes]:
        """All frames, from the first again."""
        self.frames, self._pts = 0, []
        with _opened(self.ends) as video:
            for frame in video.frames():
                self.frames += 1
                self._pts.append(frame.pts)
                self._last = frame.duration
                yield frame
            self.notes, self.total = list(video.notes), self.frames

    def _guessed(self) -> int:
        return -(-self.frames // 100) * 100
