# SPDX-License-Identifier: Apache-2.0
"""Tokens of speech: out of recordings and `.plc` files, and back into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.files.container.file import (
    Header,
    Reader,
    Record,
    SpeechGeometry,
    Writer,
)
from polycodec.codecs.files.ends import Ends, Given, codec_for, codec_of
from polycodec.codecs.files.options import SpeechEncode, TokenOptions
from polycodec.codecs.files.sources import Twice
from polycodec.codecs.files.speech.chunks import seal_of, write_chunk
from polycodec.codecs.files.speech.decode import chunk_decoder
from polycodec.codecs.files.speech.encode import Job, surveyed
from polycodec.codecs.files.speech.rate import mean_quality
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.tokens.file import (
    Latents,
    Tokens,
    bytes_of,
    digest_in,
    with_codebooks,
)
from polycodec.errors import InputError


def tokens_of(
    input: Twice, options: TokenOptions, codec: Given
) -> tuple[Tokens, list[str]]:
    """The tokens of a recording, and what a person should know of it."""
    codec = with_codebooks(codec_for("speech", Ends(input, "-", options, codec)))
    asked = SpeechEncode(quality=options.quality, channels=options.channels)
    level = int(codec.level_of(options.quality))
    parts, about, notes = recorded(
        input, codec, asked, "tokens", lambda job: job.codes(level)
    )
    return _of(codec, parts, about), notes


def read(
    reader: Reader, options: TokenOptions, given: Given
) -> tuple[Tokens, list[str]]:
    """Tokens of an opened .plc file, chunk by chunk, and notes."""
    codec = with_codebooks(codec_of(reader.header, options, given))
    decoder = chunk_decoder(codec, reader)
    parts = [decoder.codes(k)[0].cpu() for k in range(reader.n_chunks)]
    about, notes = stored(reader, codec, "tokens")
    return _of(codec, parts, about), notes


def recorded(
    input: Twice,
    codec: Codec,
    asked: SpeechEncode,
    what: str,
    take: Callable[[Job], Iterable[Tensor]],
) -> tuple[list[Tensor], dict[str, Any], list[str]]:
    """``what`` is taken of a recording, the fields of `OfSpeech`, and notes."""
    survey = surveyed(input)
    with open_speech(input) as speech:
        job = Job(codec, speech, survey, Ends(input, "-", asked, codec))
        parts = list(take(job))
        notes = job.notes()
        if speech.info.tags:
            notes.append(f"tags are not kept in files of {what}")
        condition = job.condition.pack() if job.condition.lossless else b""
        return parts, _about(job.header(0.0), codec, condition), notes


def stored(reader: Reader, codec: Codec, what: str) -> tuple[dict[str, Any], list[str]]:
    """The fields of `OfSpeech` of an opened .plc file, and notes."""
    condition = reader.header.record("condition") or b""
    left = [f"tags are not kept in files of {what}"]
    notes = left if reader.header.record("tags") else []
    return _about(reader.header, codec, condition), [*notes, *reader.warnings]


def write(tokens: Tokens, file: BinaryIO, codec: Codec) -> None:
    """Entropy-code tokens into a .plc file; ``codec``: of their digest."""
    levels = (tokens.codes >= 0).sum(axis=1).min(axis=0)  # of each frame
    chosen, span = [], tokens.span // tokens.hop
    beside = seal_of(_geometry(tokens), bytes_of(tokens.condition, "condition"))
    with Writer() as writer:
        for first in range(0, tokens.codes.shape[2], span):
            part = slice(first, first + span)
            count = int(levels[first])
            if (levels[part] != count).any():
                raise InputError(
                    f"levels change inside the chunk at frame {first}; they may where "
                    f"chunks of {span} frames meet"
                )
            chosen.append(count)
            codes = torch.from_numpy(tokens.codes[:, :count, part].astype(np.int64))
            writer.add(
                write_chunk(
                    codec, codes, count, len(chosen) - 1, codes.shape[2], beside
                )[0]
            )
        quality = mean_quality(chosen, codec.levels)
        writer.finish(file, header_of(tokens, quality))


def header_of(tokens: Tokens | Latents, quality: float) -> Header:
    """The header of the .plc file that holds the tokens, or whose latents they are."""
    condition = bytes_of(tokens.condition, "condition")
    return Header(
        model=tokens.model,
        digest=digest_in(tokens),
        records=[Record("condition", condition)] if condition else [],
        kind="speech",
        geometry=_geometry(tokens),
        quality=quality,
    )


def _geometry(tokens: Tokens | Latents) -> SpeechGeometry:
    channels, source = tokens.channels, tokens.source_channels
    return SpeechGeometry(
        rate=tokens.rate,
        samples=tokens.samples,
        span=tokens.span,
        channels=channels,
        sample=tokens.sample,
        coded_rate=0 if tokens.coded_rate == tokens.rate else tokens.coded_rate,
        source_channels=0 if source == channels else source,
    )


def _about(header: Header, codec: Codec, condition: bytes) -> dict[str, Any]:
    geometry = header.geometry
    assert isinstance(geometry, SpeechGeometry)
    return {
        "model": header.model,
        "digest": header.digest.hex(),
        "rate": geometry.rate,
        "samples": geometry.samples,
        "coded_rate": geometry.codec_rate,
        "hop": codec.stride,
        "span": geometry.span,
        "sample": geometry.sample,
        "source_channels": geometry.source_channels or geometry.channels,
        "condition": condition.hex(),
    }


def _of(codec: TokenCodec, parts: Sequence[Tensor], about: dict[str, Any]) -> Tokens:
    """Tokens of codes (channels, levels, frames) of all chunks."""
    most = max(part.shape[1] for part in parts)
    pad = ((0, 0), (0, most), (0, 0))
    codes = [np.pad(p.numpy(), pad, constant_values=-1)[:, :most] for p in parts]
    whole = np.concatenate(codes, axis=2).astype(np.int32)
    return Tokens(codes=whole, sizes=np.array(codec.sizes, np.int32), **about)
