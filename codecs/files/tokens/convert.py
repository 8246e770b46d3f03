# SPDX-License-Identifier: Apache-2.0
"""Speech to token files and back; `polycodec tokens` calls this.

    talk.flac ─ encode ─┐                      ┌─ entropy code ─► talk.plc
                        ├─► talk.npz (tokens) ─┤
    talk.plc  ──────────┘                      └─ synthesis ────► talk.wav

Tokens of speech are those that its file holds, and speech from tokens is what that file
decodes to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.files.container.file import (
    Header,
    Reader,
    Record,
    SpeechGeometry,
    Writer,
)
from polycodec.codecs.files.ends import Ends, Target, codec_of, target_of
from polycodec.codecs.files.keywords import TokenKeywords, documented
from polycodec.codecs.files.kinds import KINDS, kind_of, stored_kind
from polycodec.codecs.files.options import (
    SpeechDecode,
    SpeechEncode,
    TokenOptions,
    choose,
)
from polycodec.codecs.files.results import TokenResult
from polycodec.codecs.files.sources import Source, Twice, name_of, opened, seekable
from polycodec.codecs.files.speech.chunks import write_chunk
from polycodec.codecs.files.speech.decode import chunk_decoder
from polycodec.codecs.files.speech.decode import decode as decode_speech
from polycodec.codecs.files.speech.encode import Job, surveyed
from polycodec.codecs.files.speech.rate import mean_quality
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.tokens.file import Tokens, read_tokens, write_tokens
from polycodec.errors import InputError, ModelError, UsageError

TOKEN_SUFFIXES = (".npz", ".npy")


@documented(TokenKeywords)
def tokens(
    input: Source | Tokens,
    output: Target | None = None,
    *,
    codec: Codec | None = None,
    **options: Any,
) -> Tokens:
    """Return the tokens of a speech, .plc or token file; write them to ``output`` too.

    ``codes`` of what is returned: (channels, levels, frames) int32; `docs/tokens.md`
    has all fields. The suffix of ``output`` decides: .npz or .npy for tokens, .plc or
    an audio format for what they stand for; a stream gets .npz. ``quality`` (levels;
    all unless told), ``model`` and ``channels`` are for speech. ``codec``: an already
    loaded codec, for many files. Raises the errors of `polycodec.errors`.
    """
    chosen: TokenOptions = choose({"speech": TokenOptions}, "speech", options)
    source: Twice
    if isinstance(input, Tokens):
        source, found = "-", input
    else:
        source = seekable(input)
        found, _ = _tokens_of(source, chosen, codec)
    if output is not None:
        target = target_of(source, output, "", chosen.force)
        _write(found, Ends(source, target, chosen, codec), _suffix(target, ".npz"))
    return found


@documented(TokenKeywords)
def convert(
    input: Source,
    output: Target | None = None,
    *,
    codec: Codec | None = None,
    **options: Any,
) -> TokenResult:
    """Write the tokens of a speech or .plc file, or what a file of tokens stands for.

    As `tokens`, for the command line: ``output`` is .npz or .wav unless told.
    """
    input = seekable(input)
    chosen: TokenOptions = choose({"speech": TokenOptions}, "speech", options)
    back = holds_tokens(input)
    usual = ".wav" if back else ".npz"
    target = target_of(input, output, usual, chosen.force)
    ends = Ends(input, target, chosen, codec)
    suffix = _suffix(target, usual)
    if back == (suffix in TOKEN_SUFFIXES):
        raise UsageError(
            f"cannot write '{suffix}' from {'tokens' if back else 'speech'}; expected "
            + ("an audio format or .plc" if back else " or ".join(TOKEN_SUFFIXES))
        )
    found, notes = _tokens_of(input, chosen, codec)
    _write(found, ends, suffix)
    count, levels, frames = found.codes.shape
    return TokenResult(
        **ends.about(found.model),
        digest=found.digest,
        channels=count,
        levels=levels,
        frames=frames,
        frame_rate=found.frame_rate,
        duration=found.samples / found.rate,
        notes=notes,
    )


def holds_tokens(input: Source) -> bool:
    """Whether a file begins as those of NumPy."""
    with opened(input) as file:
        start = file.read(6)
        file.seek(0)
    return start[:4] == b"PK\x03\x04" or start == b"\x93NUMPY"


def _suffix(target: Target, usual: str) -> str:
    if not isinstance(target, (str, os.PathLike)):
        return usual
    return os.path.splitext(target)[1].lower()


def _tokens_of(
    input: Twice, options: TokenOptions, codec: Any
) -> tuple[Tokens, list[str]]:
    """The tokens of a file, and what a person should know of it."""
    if holds_tokens(input):
        with opened(input) as file:
            return read_tokens(file), []
    stored = stored_kind(input)
    if (stored or kind_of(input)) not in ("speech", None if stored else "video"):
        raise InputError(f"{name_of(input)} holds no speech; tokens are made of speech")
    if stored:
        with opened(input) as file:
            reader = Reader(file)
            left = ["tags are not kept in files of tokens"]
            notes = left if reader.header.record("tags") else []
            return _read(reader, options, codec), [*notes, *reader.warnings]
    codec = codec or zoo.load(
        options.model or KINDS["speech"].model,
        options.device,
        checkpoint=options.checkpoint,
    )
    asked = SpeechEncode(quality=options.quality, channels=options.channels)
    ends = Ends(input, "-", asked, _with_codebooks(codec))
    survey = surveyed(input)
    with open_speech(input) as speech:
        job = Job(codec, speech, survey, ends)
        parts = [part.numpy() for part in job.codes(codec.level_of(options.quality))]
        notes = job.notes()
        if speech.info.tags:
            notes.append("tags are not kept in files of tokens")
        condition = job.condition.pack() if job.condition.lossless else b""
        return _of(job.header(0.0), codec, parts, condition), notes


def _write(tokens: Tokens, ends: Ends[TokenOptions], suffix: str) -> None:
    """Write tokens, or what they stand for."""
    if suffix not in TOKEN_SUFFIXES:
        _write_back(tokens, ends, suffix)
        return
    with ends.writing() as file:
        write_tokens(file, tokens, plain=suffix == ".npy")


def write_plc(tokens: Tokens, file: BinaryIO, codec: Codec) -> None:
    """Entropy-code tokens into a .plc file; ``codec``: of their digest."""
    levels = (tokens.codes >= 0).sum(axis=1).min(axis=0)  # of each frame
    chosen, span = [], tokens.span // tokens.hop
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
            writer.add(write_chunk(codec, codes, count, len(chosen) - 1)[0])
        quality = mean_quality(chosen, codec.levels)
        writer.finish(file, _header(tokens, quality))


def _header(tokens: Tokens, quality: float) -> Header:
    """The header of the .plc file that holds the tokens."""
    channels = len(tokens.codes)
    source = tokens.source_channels
    condition = _bytes_of(tokens.condition, "condition")
    return Header(
        model=tokens.model,
        digest=_digest(tokens),
        records=[Record("condition", condition)] if condition else [],
        kind="speech",
        geometry=SpeechGeometry(
            rate=tokens.rate,
            samples=tokens.samples,
            span=tokens.span,
            channels=channels,
            sample=tokens.sample,
            coded_rate=0 if tokens.coded_rate == tokens.rate else tokens.coded_rate,
            source_channels=0 if source == channels else source,
        ),
        quality=quality,
    )


def _write_back(tokens: Tokens, ends: Ends[TokenOptions], suffix: str) -> None:
    """Tokens to .plc, or on to an audio format."""
    codec = _with_codebooks(codec_of(_header(tokens, 0.0), ends.options, ends.codec))
    if tuple(tokens.sizes) != tuple(codec.sizes) or tokens.hop != codec.stride:
        raise ModelError(
            f"the tokens are of codebooks {tokens.sizes.tolist()} every {tokens.hop} "
            f"samples, '{codec.name}' has {list(codec.sizes)} every {codec.stride}"
        )
    if suffix == ".plc":
        with ends.writing() as file:
            write_plc(tokens, file, codec)
        return
    with tempfile.TemporaryFile() as plc:
        write_plc(tokens, plc, codec)
        plc.seek(0)
        asked = SpeechDecode(force=ends.options.force)
        decode_speech(Reader(plc), Ends(plc, ends.target, asked, codec, suffix=suffix))


def _with_codebooks(codec: Codec) -> TokenCodec:
    """The codec; ModelError for one of scalar latents, which have no codebooks."""
    if not isinstance(codec, TokenCodec):
        raise ModelError(
            f"the weights at hand ('{codec.name}') code scalar latents; tokens are "
            "indexes of codebooks; use a codec of the token family"
        )
    return codec


def _digest(tokens: Tokens) -> bytes:
    digest = _bytes_of(tokens.digest, "digest")
    if len(digest) != 4:
        raise InputError(f"the digest '{tokens.digest}' of the tokens is none")
    return digest


def _bytes_of(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError(f"the {what} '{text[:40]}' of the tokens is none") from error


def _read(reader: Reader, options: TokenOptions, given: Codec | None) -> Tokens:
    """Tokens of an opened .plc file, chunk by chunk."""
    codec = _with_codebooks(codec_of(reader.header, options, given))
    decoder = chunk_decoder(codec, reader)
    parts = [decoder.codes(k)[0].cpu().numpy() for k in range(reader.n_chunks)]
    condition = reader.header.record("condition") or b""
    return _of(reader.header, codec, parts, condition)


def _of(
    header: Header, codec: TokenCodec, parts: Sequence[np.ndarray], condition: bytes
) -> Tokens:
    """Tokens of codes (channels, levels, frames) of all chunks, and a file's header."""
    geometry = header.geometry
    assert isinstance(geometry, SpeechGeometry)
    most = max(part.shape[1] for part in parts)
    pad = ((0, 0), (0, most), (0, 0))
    codes = [np.pad(p, pad, constant_values=-1)[:, :most] for p in parts]
    return Tokens(
        codes=np.concatenate(codes, axis=2).astype(np.int32),
        sizes=np.array(codec.sizes, np.int32),
        model=header.model,
        digest=header.digest.hex(),
        rate=geometry.rate,
        samples=geometry.samples,
        coded_rate=geometry.codec_rate,
        hop=codec.stride,
        span=geometry.span,
        sample=geometry.sample,
        source_channels=geometry.source_channels or geometry.channels,
        condition=condition.hex(),
    )
