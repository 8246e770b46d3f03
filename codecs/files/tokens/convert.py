# SPDX-License-Identifier: Apache-2.0
"""Sound to token files and back; `polycodec tokens` calls this.

    talk.flac ─ encode ─┐                      ┌─ entropy code ─► talk.plc
                        ├─► talk.npz (tokens) ─┤
    talk.plc  ──────────┘                      └─ synthesis ────► talk.wav

Everything passes the .plc container, so tokens of a sound are those that its file
holds, and sound from tokens is what that file decodes to.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from polycodec.codecs import zoo
from polycodec.codecs.files.container.file import Header, Reader, SpeechGeometry, Writer
from polycodec.codecs.files.ends import (
    Source,
    Target,
    codec_of,
    name_of,
    opened,
    seekable,
    target_of,
    writing,
)
from polycodec.codecs.files.kinds import kind_of, stored_kind
from polycodec.codecs.files.speech import decode as api_speech_decode
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.files.speech.chunks import pack_chunk, unpack_chunk
from polycodec.codecs.files.speech.rate import mean_quality
from polycodec.codecs.files.tokens.file import Tokens, read_tokens, write_tokens
from polycodec.errors import BitstreamError, InputError, ModelError, UsageError

TOKEN_SUFFIXES = (".npz", ".npy")


@dataclass
class TokenResult:
    """What was made. ``levels``: of the codes; ``duration``: seconds of sound."""

    input: str
    output: str
    model: str
    digest: str
    channels: int
    levels: int
    frames: int
    frame_rate: float
    duration: float
    seconds: float


def convert(
    input: Source,
    output: Target | None = None,
    *,
    model: str | None = None,
    quality: float = 100.0,
    channels: str = "mix",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    force: bool = False,
    codec: Any = None,
) -> TokenResult:
    """Tokens of a sound or .plc file, or what a file of tokens stands for.

    The suffix of ``output`` decides: .npz or .npy (tokens), .plc or a sound format
    (from tokens). ``quality`` (levels), ``model`` and ``channels`` are for sound; all
    levels unless told. Raises the errors of `polycodec.errors`.
    """
    started, input = time.perf_counter(), seekable(input)
    common = {"device": device, "checkpoint": checkpoint, "codec": codec}
    back = _holds_tokens(input)
    target = target_of(input, output, ".wav" if back else ".npz", force)
    suffix = os.path.splitext(name_of(target))[1].lower()
    if back == (suffix in TOKEN_SUFFIXES):
        raise UsageError(
            f"cannot write '{suffix}' from {'tokens' if back else 'sound'}; expected "
            + ("a sound format or .plc" if back else " or ".join(TOKEN_SUFFIXES))
        )
    if back:
        with opened(input) as file:
            tokens = read_tokens(file)
        _write_back(tokens, target, suffix, force, common)
    else:
        options = {"model": model, "quality": quality, "channels": channels}
        tokens = tokens_of(input, **options, **common)
        with writing(target, force) as file:
            write_tokens(file, tokens, plain=suffix == ".npy")
    count, levels, frames = tokens.codes.shape
    return TokenResult(
        input=name_of(input),
        output=name_of(target),
        model=tokens.model,
        digest=tokens.digest,
        channels=count,
        levels=levels,
        frames=frames,
        frame_rate=tokens.frame_rate,
        duration=tokens.samples / tokens.rate,
        seconds=time.perf_counter() - started,
    )


def tokens_of(
    input: Source,
    *,
    model: str | None = None,
    quality: float = 100.0,
    channels: str = "mix",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    codec: Any = None,
) -> Tokens:
    """The tokens of a sound file or of a .plc file that holds sound."""
    input = seekable(input)
    common = {"device": device, "checkpoint": checkpoint}
    stored = stored_kind(input)
    if (stored or kind_of(input)) != "speech":
        raise InputError(f"{name_of(input)} holds no sound; tokens are made of sound")
    if stored:
        with opened(input) as file:
            return _read(Reader(file), codec, common)
    codec = codec or zoo.load(model or "speech/default", **common)
    _require_codebooks(codec)
    with tempfile.TemporaryFile() as plc:
        api_speech.encode(
            input, plc, quality=quality, channels=channels, codec=codec, **common
        )
        plc.seek(0)
        return _read(Reader(plc), codec, common)


def write_plc(tokens: Tokens, file: BinaryIO, codec: Any) -> None:
    """Entropy-code tokens into a .plc file; ``codec``: of their digest."""
    levels = (tokens.codes >= 0).sum(axis=1).min(axis=0)  # of each frame
    chosen = []
    with Writer() as writer:
        for first in range(0, tokens.codes.shape[2], tokens.span // tokens.hop):
            part = slice(first, first + tokens.span // tokens.hop)
            if levels[part].min() != levels[part].max():
                raise InputError(
                    f"levels change inside the chunk at frame {first}; they may where "
                    f"chunks of {tokens.span // tokens.hop} frames meet"
                )
            chosen.append(int(levels[first]))
            codes = torch.from_numpy(
                tokens.codes[:, : chosen[-1], part].astype(np.int64)
            )
            writer.add(pack_chunk(chosen[-1], codec.encode_tokens(codes)))
        coded_rate = 0 if tokens.coded_rate == tokens.rate else tokens.coded_rate
        count = len(tokens.codes)
        geometry = SpeechGeometry(
            rate=tokens.rate,
            samples=tokens.samples,
            span=tokens.span,
            channels=count,
            sample=tokens.sample,
            coded_rate=coded_rate,
            source_channels=0
            if tokens.source_channels == count
            else tokens.source_channels,
        )
        quality = round(100 * mean_quality(chosen, codec.levels))
        header = Header(
            model=tokens.model,
            digest=bytes.fromhex(tokens.digest),
            kind="speech",
            geometry=geometry,
            params=quality.to_bytes(2, "little"),
        )
        writer.finish(file, header)


def _holds_tokens(input: Source) -> bool:
    with opened(input) as file:
        start = file.read(6)
        file.seek(0)
    return start[:4] == b"PK\x03\x04" or start == b"\x93NUMPY"


def _write_back(
    tokens: Tokens, target: Target, suffix: str, force: bool, common: dict[str, Any]
) -> None:
    """Tokens to .plc, or on to sound."""
    codec = codec_of(
        *(tokens.model, _digest(tokens), "speech", common.pop("codec")), **common
    )
    _require_codebooks(codec)
    if tuple(tokens.sizes) != tuple(codec.sizes) or tokens.hop != codec.hop:
        raise ModelError(
            f"the tokens are of codebooks {tokens.sizes.tolist()} every {tokens.hop} "
            f"samples, '{codec.name}' has {list(codec.sizes)} every {codec.hop}"
        )
    if suffix == ".plc":
        with writing(target, force) as file:
            write_plc(tokens, file, codec)
        return
    with tempfile.TemporaryFile() as plc:
        write_plc(tokens, plc, codec)
        plc.seek(0)
        api_speech_decode.decode(
            Reader(plc), plc, target, force=force, codec=codec, **common
        )


def _require_codebooks(codec: Any) -> None:
    """Tokens are indexes of codebooks; scalar latents have none."""
    if not hasattr(codec, "sizes"):
        raise ModelError(
            f"the weights at hand ('{codec.name}') code scalar latents; tokens are "
            "indexes of codebooks; use a codec of the token family"
        )


def _digest(tokens: Tokens) -> bytes:
    try:
        digest = bytes.fromhex(tokens.digest)
    except ValueError:
        digest = b""
    if len(digest) != 4:
        raise InputError(f"the digest '{tokens.digest}' of the tokens is none")
    return digest


def _read(reader: Reader, codec: Any, common: dict[str, Any]) -> Tokens:
    """Tokens of an opened .plc file, chunk by chunk."""
    header, geometry = reader.header, reader.header.geometry
    codec = codec_of(header.model, header.digest, "speech", codec, **common)
    _require_codebooks(codec)
    # Checks the rate and the span on the way.
    frames = api_speech_decode.chunk_decoder(codec, reader).frames
    parts = list(_chunks(reader, codec, frames, geometry.span // codec.hop))
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
        hop=codec.hop,
        span=geometry.span,
        sample=geometry.sample,
        source_channels=geometry.source_channels or geometry.channels,
    )


def _chunks(reader: Reader, codec: Any, frames: int, span: int) -> Iterator[np.ndarray]:
    """Codes (channels, levels, frames) of each chunk."""
    for k in range(reader.n_chunks):
        channels = reader.header.geometry.channels
        levels, streams = unpack_chunk(reader.chunk(k), channels)
        if not 1 <= levels <= codec.levels:
            raise BitstreamError(
                f"chunk {k} has {levels} levels; expected 1 to {codec.levels}"
            )
        count = min(span, frames - k * span)
        yield codec.decode_tokens(streams, levels, count).cpu().numpy()
