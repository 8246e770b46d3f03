# SPDX-License-Identifier: Apache-2.0
"""Speech files in; `api.py` calls this for what it recognises as speech.

    talk.flac ─ blocks ─ mix ─ resample ─ codes ─ chunks of 10 s ─ container ─ talk.plc

A block at a time: memory does not grow with the length, but for the chunks' index.
The way back is in `decode.py`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.files import fit
from polycodec.codecs.files.container.file import (
    Header,
    Record,
    SpeechGeometry,
    Writer,
    file_size,
)
from polycodec.codecs.files.ends import Ends, codec_for
from polycodec.codecs.files.options import SpeechEncode
from polycodec.codecs.files.rate import Limit, limit_of, quality_asked
from polycodec.codecs.files.results import SpeechEncoded
from polycodec.codecs.files.sources import Source, grown
from polycodec.codecs.files.speech.chunks import (
    CodeSpool,
    pack_chunk,
    seal_of,
    write_chunk,
)
from polycodec.codecs.files.speech.condition import Condition, Survey
from polycodec.codecs.files.speech.rate import mean_quality, mix_levels
from polycodec.codecs.files.speech.read import OpenedSpeech, SpeechInfo, open_speech
from polycodec.codecs.files.speech.resample import Resampler
from polycodec.codecs.files.tags import tags_record
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.signals.chunks import chunks_of
from polycodec.codecs.signals.speech import speech_signal
from polycodec.errors import InputError, UsageError

logger = logging.getLogger(__name__)
CHUNK_SECONDS = 10


def encode(ends: Ends[SpeechEncode], *, begin: float | None = None) -> SpeechEncoded:
    """Encode a speech file; see `api.encode`. ``begin``: see `open_speech`."""
    survey = surveyed(ends.source, begin)
    with open_speech(ends.source, begin=begin) as speech, Writer() as writer:
        codec = codec_for("speech", ends)
        fit.check(codec, ends.options)
        job = Job(codec, speech, survey, ends)
        quality = job.write(writer)
        with ends.writing() as file:
            size = writer.finish(file, job.header(quality))
    fit.forget(job.plan)
    return SpeechEncoded(
        **ends.about(job.codec.name),
        bytes=size,
        kbps=8 * size / 1000 / job.duration,
        estimated_kbps=job.estimated_bits / 1000 / job.duration,
        quality=quality,
        duration=job.duration,
        rate=speech.info.rate,
        channels=job.channels,
        notes=[*job.notes(), *grown(ends.source, size)],
    )


def surveyed(source: Source, begin: float | None = None) -> Survey:
    """Read a file to its end, for what has to be known before it is coded."""
    with open_speech(source, begin=begin) as speech:
        survey = Survey(speech.info.rate, speech.info.channels)
        for block in speech.blocks():
            survey.push(block)
    return survey


class Job:
    """One signal on its way into a file: its chunks at a quality, or within a size."""

    def __init__(
        self,
        codec: Codec,
        speech: OpenedSpeech,
        survey: Survey,
        ends: Ends[SpeechEncode],
    ) -> None:
        self.codec, self.speech, self.ends = codec, speech, ends
        self.samples = survey.samples
        self.rate = speech_signal(codec).rate
        self.options = options = ends.options
        channels = speech.info.channels
        self.mixing = np.eye(channels)
        self._notes: list[str] = []
        if options.channels == "mix":
            weights, self._notes = survey.mixing()
            self.mixing = weights[:, None]
        self.channels = self.mixing.shape[1]
        self.condition = Condition()
        if speech_signal(codec).condition:
            self.condition, notes = survey.condition(self.mixing)
            self._notes += notes
        # Of a chunk.
        self.frames = max(1, CHUNK_SECONDS * self.rate // codec.stride)
        self.geometry = self._geometry(speech.info)
        record = self.condition.pack() if self.condition.lossless else None
        self._beside = seal_of(self.geometry, record)
        self.estimated_bits = 0.0
        self.plan: Plan | None = None  # of a codec that fits
        self._done = 0
        logger.info(
            "%d Hz coded at %d Hz, %d channels at %d, chunks of %d frames, %s",
            *(speech.info.rate, self.rate, channels, self.channels, self.frames),
            self.condition or "nothing to take out",
        )

    @property
    def _total(self) -> int:
        """Frames of all chunks."""
        return -(-self.geometry.coded_samples // self.codec.stride)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.speech.info.rate

    def write(self, writer: Writer) -> float:
        """Add every chunk as the options ask; return the quality that was used."""
        limit, quality = limit_of(self.options), quality_asked(self.options)
        if self.codec.fitted:
            self.plan = self._plan(limit)
        elif limit:
            return self._within(writer, limit)
        levels = int(self.codec.level_of(quality))
        with fit.keeping(self.plan or Plan()):
            for codes in self.codes(levels):
                self._add(writer, codes, levels)
        return quality

    def codes(self, levels: int | None = None) -> Iterator[Tensor]:
        """Codes (channels, C, frames) of each chunk; without levels, see `finest`."""
        return self.codec.sound_codes(self._blocks(), self.frames, levels, self.plan)

    def latents(self) -> Iterator[Tensor]:
        """Latents (channels, D, frames) of each chunk, as nothing has rounded them."""
        return chunks_of(self.codec, self._blocks(), self.frames, latents=True)

    def _within(self, writer: Writer, limit: Limit) -> float:
        """Code with the most levels that fit the size, chunk by chunk."""
        spool, levels = CodeSpool(), self.codec.levels
        for kept in self.codes():
            spool.add(kept)

        def size_of(k: int, count: int) -> int:
            codes = self.codec.coarsened(spool.get(k), count)
            return len(pack_chunk(count, self.codec.write(codes, count).data))

        header = self.header(0.0)
        chosen = mix_levels(
            size_of,
            lambda sizes: file_size(header, sizes),
            chunks=len(spool),
            levels=levels,
            limit=self._most(limit),
            what=str(limit),
        )
        self._done = 0
        for k, count in enumerate(chosen):
            self._add(writer, self.codec.coarsened(spool.get(k), count), count)
        return mean_quality(chosen, levels)

    def _most(self, limit: Limit) -> int:
        """Bytes of the file at most."""
        bits = {"target_bpp": self.duration, "target_kbps": 1000 * self.duration}
        return limit.bytes(bits)

    def _plan(self, limit: Limit | None) -> Plan:
        """How a model is fitted that is fitted, within the bytes of its chunks."""
        size, count = None, -(-self._total // self.frames)
        if limit:
            # Of a chunk: its level and the sizes of its streams.
            beside = file_size(self._header(0.0), [4 * self.channels] * count)
            size = self._most(limit) - beside
            if size <= 0:
                raise UsageError(
                    f"{limit} leaves nothing beside the {beside} bytes of header and "
                    "index; give more"
                )
        return fit.plan_of(self.ends, self._total * self.channels, size)

    def header(self, quality: float) -> Header:
        """The file's header, once all samples have been read."""
        if self.speech.samples != self.samples:
            raise InputError(
                f"the input changed: {self.samples} samples when it was first read, "
                f"then {self.speech.samples}; encode it again"
            )
        return self._header(quality)

    def _header(self, quality: float) -> Header:
        records = []
        if tags := tags_record(self.speech.info.tags):
            records.append(tags)
        if self.condition.lossless:
            records.append(Record("condition", self.condition.pack()))
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="speech",
            geometry=self.geometry,
            quality=quality,
            records=records,
        )

    def _geometry(self, info: SpeechInfo) -> SpeechGeometry:
        return SpeechGeometry(
            rate=info.rate,
            samples=self.samples,
            span=self.frames * self.codec.stride,
            channels=self.channels,
            sample=info.sample,
            coded_rate=0 if info.rate == self.rate else self.rate,
            source_channels=0 if info.channels == self.channels else info.channels,
        )

    def notes(self) -> list[str]:
        """What a person should know about what was not kept."""
        info, notes = self.speech.info, [*self.speech.notes, *self._notes]
        if self.plan:
            whole = CHUNK_SECONDS, math.ceil(self.duration)
            notes += fit.notes_of(self.plan, "seconds", *whole, self.channels)
        if self.channels > 2 and "channels" not in info.layout:
            notes.append(f"where its channels play ({info.layout}) is not kept")
        rate = self.rate
        if info.rate != rate:
            notes.append(
                f"{info.rate} Hz are coded at {rate} Hz: sound up to "
                f"{min(info.rate, rate) // 2} Hz is kept"
            )
        if self.speech.clipped:
            notes.append(f"{self.speech.clipped} values beyond full scale are clipped")
        return notes

    def _blocks(self) -> Iterator[np.ndarray]:
        """Samples (n, channels) at the codec's rate."""
        rate = self.speech.info.rate
        resampler = Resampler(rate, self.rate)
        blocks = (self._mixed(block) for block in self.speech.blocks())
        for block in self.condition.removed(blocks, rate) if self.condition else blocks:
            yield resampler.push(block)
        rest = resampler.flush(-(-self.samples * self.rate // rate))
        if len(rest):
            yield rest

    def _mixed(self, block: np.ndarray) -> np.ndarray:
        """The channels that are coded, (n, coded) of (n, channels)."""
        if self.channels == block.shape[1]:
            return block
        if np.count_nonzero(self.mixing) == 1:
            return block[:, self.mixing[:, 0] > 0]
        return block.mean(axis=1, keepdims=True, dtype=np.float32)

    def _add(self, writer: Writer, codes: Tensor, levels: int) -> None:
        started = time.perf_counter()
        frames = min(self.frames, self._total - self._done * self.frames)
        chunk, bits = write_chunk(
            self.codec, codes, levels, self._done, frames, self._beside
        )
        about = self._done, levels, len(chunk), time.perf_counter() - started
        logger.debug("chunk %d: %d levels, %d bytes, coded in %.3f s", *about)
        writer.add(chunk)
        self.estimated_bits += bits
        self._done += 1
        if self.ends.progress:
            total = max(self._done, -(-self.duration // CHUNK_SECONDS))
            self.ends.progress(self._done, int(total))
