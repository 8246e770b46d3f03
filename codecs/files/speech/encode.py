# SPDX-License-Identifier: Apache-2.0
"""Sound files in; `api.py` calls this for what it recognises as sound.

    talk.flac ─ blocks ─ mix ─ resample ─ codes ─ chunks of 10 s ─ container ─ talk.plc

A block at a time: memory does not grow with the length, but for the chunks' index.
The way back is in `decode.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polycodec.codecs import zoo
from polycodec.codecs.files.container.file import (
    Header,
    Record,
    SpeechGeometry,
    Writer,
    file_size,
)
from polycodec.codecs.files.ends import (
    Source,
    Target,
    check_kind,
    check_rate,
    name_of,
    target_of,
    writing,
)
from polycodec.codecs.files.speech.chunks import (
    CodeSpool,
    code_chunks,
    pack_chunk,
)
from polycodec.codecs.files.speech.rate import mean_quality, mix_levels
from polycodec.codecs.files.speech.read import Sound, open_sound
from polycodec.codecs.files.speech.resample import Resampler
from polycodec.errors import (
    UsageError,
)

DEFAULT_QUALITY = 50.0
CHUNK_SECONDS = 10
Progress = Callable[[int, int], None]


@dataclass
class SoundEncoded:
    """What an encoding made. ``kbps`` counts every byte of the file.

    ``seconds``: time it took; ``duration``: of the sound. ``estimated_kbps``: what the
    entropy model's tables say of the same tokens.
    """

    input: str
    output: str
    model: str
    bytes: int
    kbps: float
    estimated_kbps: float
    seconds: float
    quality: float
    duration: float
    rate: int
    channels: int
    notes: list[str] = field(default_factory=list)


def encode(
    input: Source,
    output: Target | None = None,
    *,
    model: str | None = None,
    quality: float | None = None,
    target_bpp: float | None = None,
    target_kbps: float | None = None,
    target_size: int | None = None,
    channels: str = "mix",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    force: bool = False,
    codec: Any = None,
    progress: Progress | None = None,
) -> SoundEncoded:
    """Encode a sound file; see `api.encode`. ``target_bpp``: bits a second."""
    started = time.perf_counter()
    target = target_of(input, output, ".plc", force)
    requests = {"target_kbps": target_kbps, "target_size": target_size}
    check_rate(quality=quality, target_bpp=target_bpp, **requests)
    if channels not in ("mix", "keep"):
        raise UsageError(f"channels is '{channels}'; expected mix or keep")
    if target_bpp is not None:
        target_kbps = target_bpp / 1000
    with open_sound(input) as sound, Writer() as writer:
        codec = codec or zoo.load(
            model or "speech/default", device, checkpoint=checkpoint
        )
        check_kind(codec, "speech")
        job = _Job(codec, sound, channels == "keep", progress)
        if target_kbps is None and target_size is None:
            quality = job.plain(writer, quality)
        else:
            quality = job.within(writer, target_kbps, target_size)
        with writing(target, force) as file:
            size = writer.finish(file, job.header(quality))
    duration = sound.samples / sound.info.rate
    return SoundEncoded(
        input=name_of(input),
        output=name_of(target),
        model=codec.name,
        bytes=size,
        kbps=8 * size / 1000 / duration,
        estimated_kbps=job.estimated_bits / 1000 / duration,
        seconds=time.perf_counter() - started,
        quality=quality,
        duration=duration,
        rate=sound.info.rate,
        channels=job.channels,
        notes=job.notes(),
    )


class _Job:
    """One sound on its way into a file."""

    def __init__(
        self, codec: Any, sound: Sound, keep: bool, progress: Progress | None
    ) -> None:
        self.codec, self.sound, self.progress = codec, sound, progress
        self.channels = sound.info.channels if keep else 1
        self.frames = max(1, CHUNK_SECONDS * codec.rate // codec.hop)  # in a chunk
        self.estimated_bits = 0.0
        self._done = 0

    def plain(self, writer: Writer, quality: float | None) -> float:
        """Code every chunk with the levels of ``quality``, as they come."""
        quality = DEFAULT_QUALITY if quality is None else quality
        levels = self.codec.levels_of(quality)
        for codes in code_chunks(self.codec, self._blocks(), self.frames, levels):
            self._add(writer, codes, levels)
        return round(100 * quality) / 100

    def within(self, writer: Writer, kbps: float | None, size: int | None) -> float:
        """Code with the most levels that fit the size, chunk by chunk."""
        spool, levels = CodeSpool(), self.codec.levels
        for kept in code_chunks(self.codec, self._blocks(), self.frames):
            spool.add(kept)
        what = f"--target-size {size}"
        if size is None:
            size = int(1000 * kbps * self.sound.samples / self.sound.info.rate / 8)
            what = f"--target-kbps {kbps:g}"

        def size_of(k: int, count: int) -> int:
            codes = self.codec.at_rate(spool.get(k), count)
            return len(pack_chunk(count, self.codec.encode_tokens(codes, count)))

        header = self.header(0.0)
        chosen = mix_levels(
            size_of,
            lambda sizes: file_size(header, sizes),
            chunks=len(spool),
            levels=levels,
            limit=size,
            what=what,
        )
        self._done = 0
        for k, count in enumerate(chosen):
            self._add(writer, self.codec.at_rate(spool.get(k), count), count)
        return mean_quality(chosen, levels)

    def header(self, quality: float) -> Header:
        """The file's header, once all samples have been read."""
        info, rate = self.sound.info, self.codec.rate
        tags = json.dumps(info.tags, ensure_ascii=False, separators=(",", ":"))
        return Header(
            model=self.codec.name,
            digest=self.codec.digest,
            kind="speech",
            geometry=SpeechGeometry(
                rate=info.rate,
                samples=self.sound.samples,
                span=self.frames * self.codec.hop,
                channels=self.channels,
                sample=info.sample,
                coded_rate=0 if info.rate == rate else rate,
                source_channels=0 if info.channels == self.channels else info.channels,
            ),
            params=round(100 * quality).to_bytes(2, "little"),
            records=(Record("tags", tags.encode()),) if info.tags else (),
        )

    def notes(self) -> list[str]:
        """What a person should know about what was not kept."""
        info, notes = self.sound.info, list(self.sound.info.notes)
        if self.channels != info.channels:
            notes.append(
                f"{info.channels} channels are mixed into one; --channels keep codes "
                "each"
            )
        if info.rate != self.codec.rate:
            half = min(info.rate, self.codec.rate) // 2
            notes.append(
                f"{info.rate} Hz are coded at {self.codec.rate} Hz: sound up to {half} "
                "Hz is kept"
            )
        if self.sound.clipped:
            notes.append(f"{self.sound.clipped} values beyond full scale are clipped")
        return notes

    def _blocks(self) -> Iterator[np.ndarray]:
        """Samples (n, channels) at the codec's rate."""
        rate = self.sound.info.rate
        resampler = Resampler(rate, self.codec.rate)
        for block in self.sound.blocks():
            if self.channels < block.shape[1]:
                block = block.mean(axis=1, keepdims=True, dtype=np.float32)
            yield resampler.push(block)
        rest = resampler.flush(-(-self.sound.samples * self.codec.rate // rate))
        if len(rest):
            yield rest

    def _add(self, writer: Writer, codes: Any, levels: int) -> None:
        coded = self.codec.code_tokens(codes, levels)
        writer.add(pack_chunk(levels, coded.data))
        self.estimated_bits += sum(coded.estimated_bits)
        self._done += 1
        if self.progress:
            info = self.sound.info
            seconds = (info.samples or self.sound.samples) / info.rate
            total = max(self._done, -(-seconds // CHUNK_SECONDS))
            self.progress(self._done, int(total))
