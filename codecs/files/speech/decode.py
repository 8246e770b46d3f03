# SPDX-License-Identifier: Apache-2.0
"""Sound files out; `api.py` calls this for ``.plc`` files that hold sound.

    talk.plc ─ chunks ─ codes ─ samples ─ resample ─ form of the samples ─ talk.wav

A block at a time: memory does not grow with the length. A part of the sound is made
from the chunks it needs, and is equal to that part of the whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polycodec.codecs.files.container.file import Reader, SpeechGeometry
from polycodec.codecs.files.ends import (
    Source,
    Target,
    codec_of,
    name_of,
    target_of,
    writing,
)
from polycodec.codecs.files.speech.chunks import ChunkDecoder
from polycodec.codecs.files.speech.damage import times_of, with_seconds
from polycodec.codecs.files.speech.resample import Resampler
from polycodec.codecs.files.speech.write import SoundWriter, plan_output
from polycodec.errors import BitstreamError, ModelError, UsageError

Progress = Callable[[int, int], None]


@dataclass
class SoundDecoded:
    """What a decoding made; ``bytes`` were read from the file.

    ``damaged``: (from, to) in seconds of what ``salvage`` replaced by silence.
    """

    input: str
    output: str
    model: str
    bytes: int
    seconds: float
    duration: float
    rate: int
    channels: int
    damaged: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def decode(
    reader: Reader,
    input: Source,
    output: Target | None = None,
    *,
    seconds: tuple[float, float | None] | None = None,
    salvage: bool = False,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    force: bool = False,
    codec: Any = None,
    progress: Progress | None = None,
) -> SoundDecoded:
    """Decode an opened sound file; see `api.decode`."""
    started = time.perf_counter()
    target = target_of(input, output, ".wav", force)
    geometry = reader.header.geometry
    first, last = _range(seconds, geometry)
    suffix = os.path.splitext(name_of(target))[1] or ".wav"
    plan = plan_output(
        suffix,
        rate=geometry.rate,
        channels=geometry.channels,
        sample=geometry.sample,
        samples=last - first,
    )
    codec = codec_of(
        *(reader.header.model, reader.header.digest, "speech", codec),
        device=device,
        checkpoint=checkpoint,
    )
    first, last = _at_rate(first, last, geometry.rate, plan.rate)
    decoder = chunk_decoder(codec, reader, salvage=salvage)
    blocks = sound_blocks(decoder, geometry, first, last, plan.rate)
    try:
        with (
            writing(target, force) as file,
            SoundWriter(file, plan, _tags(reader)) as writer,
        ):
            for block in _counted(blocks, last - first, progress):
                writer.write(block)
            if len(decoder.damaged) == reader.n_chunks:
                raise next(iter(decoder.damaged.values()))
    except BitstreamError as error:
        raise with_seconds(error, reader) from error
    damaged = [times_of(geometry, k) for k in sorted(decoder.damaged)]
    notes = [f"{_span(*times)} is damaged; it is silent here" for times in damaged]
    return SoundDecoded(
        input=name_of(input),
        output=name_of(target),
        model=reader.header.model,
        bytes=reader.bytes_read,
        seconds=time.perf_counter() - started,
        duration=(last - first) / plan.rate,
        rate=plan.rate,
        channels=geometry.channels,
        damaged=damaged,
        notes=[*notes, *plan.notes, *writer.notes, *reader.warnings],
    )


def _at_rate(first: int, last: int, rate: int, wanted: int) -> tuple[int, int]:
    """The same part in samples of another rate."""
    if rate == wanted:
        return first, last
    scale = wanted / rate
    return round(first * scale), max(1, round(last * scale))


def chunk_decoder(codec: Any, reader: Reader, *, salvage: bool = False) -> ChunkDecoder:
    """The decoder of an opened file's coded samples; ModelError on another rate."""
    geometry = reader.header.geometry
    if geometry.codec_rate != codec.rate:
        raise ModelError(
            f"the file is coded at {geometry.codec_rate} Hz, the model "
            f"'{codec.name}' at {codec.rate} Hz; name the model it was made with"
        )
    return ChunkDecoder(
        codec,
        reader.chunk,
        samples=geometry.coded_samples,
        span=geometry.span,
        channels=geometry.channels,
        salvage=salvage,
    )


def sound_blocks(
    decoder: ChunkDecoder,
    geometry: SpeechGeometry,
    first: int,
    last: int,
    rate: int | None = None,
) -> Iterator[np.ndarray]:
    """Samples [first, last) at ``rate`` (the source's), (n, channels) float32 blocks.

    Equal to that part of the whole, and made of the chunks it needs only.
    """
    resampler = Resampler(decoder.codec.rate, rate or geometry.rate, start=first)
    left = last - first
    for block in decoder.blocks(resampler.first_input):
        out = resampler.push(block)[:left]
        left -= len(out)
        yield out
        if not left:
            return
    yield resampler.flush(last)[:left]


def _span(begin: float, end: float) -> str:
    return f"from second {begin:.1f} to {end:.1f}"


def _range(
    seconds: tuple[float, float | None] | None, geometry: SpeechGeometry
) -> tuple[int, int]:
    """Samples [first, last) of the source; UsageError outside of the sound."""
    if seconds is None:
        return 0, geometry.samples
    begin, end = seconds
    length = geometry.samples / geometry.rate
    first = round(begin * geometry.rate)
    last = geometry.samples if end is None else round(end * geometry.rate)
    if not 0 <= first < last <= geometry.samples:
        shown = f"{begin:g}:{'' if end is None else f'{end:g}'}"
        raise UsageError(
            f"seconds {shown} do not lie in the sound; expected A:B with A before B, "
            f"inside 0:{length:.3f}"
        )
    return first, last


def _tags(reader: Reader) -> dict[str, str]:
    """The tags of the source; what is no object of strings is left out."""
    data = reader.header.record("tags")
    try:
        tags = json.loads(data.decode("utf-8")) if data else {}
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        tags = None
    if not isinstance(tags, dict):
        reader.warnings.append("the tags are no JSON object and are left out")
        return {}
    return {str(k): v for k, v in tags.items() if isinstance(v, str)}


def _counted(
    blocks: Iterator[np.ndarray], total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    done = 0
    for block in blocks:
        done += len(block)
        if progress:
            progress(done, total)
        yield block
