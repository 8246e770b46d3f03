# SPDX-License-Identifier: Apache-2.0
"""Speech files out; `api.py` calls this for ``.plc`` files that hold speech.

    talk.plc ─ chunks ─ codes ─ samples ─ resample ─ form of the samples ─ talk.wav

A block at a time: memory does not grow with the length. A part of the speech is made
from the chunks it needs, and is equal to that part of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import Reader, SpeechGeometry
from polycodec.codecs.files.ends import Ends, codec_of, counted
from polycodec.codecs.files.options import SpeechDecode
from polycodec.codecs.files.results import SpeechDecoded
from polycodec.codecs.files.speech.chunks import ChunkDecoder, seal_of
from polycodec.codecs.files.speech.condition import Condition
from polycodec.codecs.files.speech.damage import times_of, with_seconds
from polycodec.codecs.files.speech.resample import Resampler
from polycodec.codecs.files.speech.write import SpeechWriter, plan_output
from polycodec.codecs.files.tags import tags_of
from polycodec.codecs.signals.speech import speech_signal
from polycodec.errors import BitstreamError, ModelError, UsageError


def decode(reader: Reader, ends: Ends[SpeechDecode]) -> SpeechDecoded:
    """Decode an opened speech file; see `api.decode`."""
    options = ends.options
    geometry = geometry_of(reader)
    first, last = range_of(options.seconds, geometry)
    plan = plan_output(
        ends.suffix,
        rate=geometry.rate,
        channels=geometry.channels,
        sample=geometry.sample,
        samples=last - first,
    )
    codec = codec_of(reader.header, options, ends.codec)
    if plan.rate != geometry.rate:
        scale = plan.rate / geometry.rate
        first, last = round(first * scale), max(1, round(last * scale))
    decoder = chunk_decoder(codec, reader, salvage=options.salvage)
    if options.salvage:
        _check_any(decoder, reader)
    condition = reader.header.record("condition")
    blocks = decoded(decoder, geometry, condition, first, last, plan.rate)
    try:
        with (
            ends.writing() as file,
            SpeechWriter(file, plan, tags_of(reader)) as writer,
        ):
            for block in counted(blocks, last - first, ends.progress, len):
                writer.write(block)
            if len(decoder.damaged) == reader.n_chunks:
                raise next(iter(decoder.damaged.values()))
    except BitstreamError as error:
        raise with_seconds(error, reader) from error
    damaged = [times_of(geometry, k) for k in sorted(decoder.damaged)]
    notes = [
        f"from second {begin:.1f} to {end:.1f} is damaged; it is silent here"
        for begin, end in damaged
    ]
    return SpeechDecoded(
        **ends.about(reader.header.model),
        bytes=reader.bytes_read,
        duration=(last - first) / plan.rate,
        rate=plan.rate,
        channels=geometry.channels,
        damaged=damaged,
        notes=[*notes, *plan.notes, *writer.notes, *reader.warnings],
    )


def _check_any(decoder: ChunkDecoder, reader: Reader) -> None:
    """Refuse a file none of whose chunks can be read, before silence is written."""
    problem: BitstreamError | None = None
    for k in range(reader.n_chunks):
        try:
            decoder.codes(k)
            return
        except BitstreamError as error:
            problem = problem or error
    if problem:
        raise with_seconds(problem, reader) from problem


def geometry_of(reader: Reader) -> SpeechGeometry:
    """The geometry of an opened speech file; InputError for files of other kinds."""
    return reader.geometry(SpeechGeometry, "speech")


def chunk_decoder(
    codec: Codec, reader: Reader, *, salvage: bool = False
) -> ChunkDecoder:
    """The decoder of an opened file's coded samples; ModelError on another rate."""
    geometry, rate = geometry_of(reader), speech_signal(codec).rate
    if geometry.codec_rate != rate:
        raise ModelError(
            f"the file is coded at {geometry.codec_rate} Hz, the model "
            f"'{codec.name}' at {rate} Hz; name the model it was made with"
        )
    return ChunkDecoder(
        codec,
        reader.chunk,
        samples=geometry.coded_samples,
        span=geometry.span,
        channels=geometry.channels,
        beside=seal_of(geometry, reader.header.record("condition")),
        salvage=salvage,
    )


def speech_blocks(
    decoder: ChunkDecoder,
    geometry: SpeechGeometry,
    first: int,
    last: int,
    rate: int | None = None,
) -> Iterator[np.ndarray]:
    """Samples [first, last) at ``rate`` (the source's), (n, channels) float32 blocks.

    Equal to that part of the whole, and made of the chunks it needs only.
    """
    resampler = Resampler(decoder.signal.rate, rate or geometry.rate, start=first)
    left = last - first
    for block in decoder.blocks(resampler.first_input):
        out = resampler.push(block)[:left]
        left -= len(out)
        yield out
        if not left:
            return
    yield resampler.flush(last)[:left]


def decoded(
    decoder: ChunkDecoder,
    geometry: SpeechGeometry,
    condition: bytes | None,
    first: int,
    last: int,
    rate: int | None = None,
) -> Iterator[np.ndarray]:
    """As `speech_blocks`, with what was taken out before the coding."""
    blocks = speech_blocks(decoder, geometry, first, last, rate)
    if condition:
        taken = Condition.unpack(condition, geometry.channels)
        blocks = taken.restored(blocks, first, rate or geometry.rate)
    return blocks


def range_of(
    seconds: tuple[float, float | None] | None, geometry: SpeechGeometry
) -> tuple[int, int]:
    """Samples [first, last) of the source; UsageError outside of the speech."""
    if seconds is None:
        return 0, geometry.samples
    begin, end = seconds
    length = geometry.samples / geometry.rate
    first = round(begin * geometry.rate)
    last = geometry.samples if end is None else round(end * geometry.rate)
    if not 0 <= first < last <= geometry.samples:
        shown = f"{begin:g}:{'' if end is None else f'{end:g}'}"
        raise UsageError(
            f"seconds {shown} do not lie in the speech; expected A:B with A before B, "
            f"inside 0:{length:.3f}"
        )
    return first, last
