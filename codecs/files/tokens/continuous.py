# SPDX-License-Identifier: Apache-2.0
"""Latents of speech as nothing has rounded them, for models that generate them.

    talk.flac ── g_a ──► z (channels, D, frames) float32     talk.npz
    talk.plc ─ codes ─► ẑ ─────────────────────────►           │
    talk.wav ◄── g_s ──────────────────────────────────────────┘

A diffusion model of z in place of a mel spectrogram is LatentSpeech's (Lou, Paik, Hu,
Xing 2024, arXiv 2412.08117): 16 numbers 46.875 times a second of 48 kHz speech, 4.7 %
of 80 bands 200 times a second. That model, and its conditioning by text, are not here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.files.container.file import Reader, SpeechGeometry
from polycodec.codecs.files.ends import Ends, Given, codec_for, codec_of
from polycodec.codecs.files.options import LatentOptions, SpeechEncode, TokenOptions
from polycodec.codecs.files.sources import Twice
from polycodec.codecs.files.speech.chunks import ChunkDecoder
from polycodec.codecs.files.speech.decode import chunk_decoder, decoded
from polycodec.codecs.files.speech.encode import Job
from polycodec.codecs.files.speech.write import SpeechWriter, plan_output
from polycodec.codecs.files.tokens.file import Latents, bytes_of
from polycodec.codecs.files.tokens.speech import header_of, recorded, stored
from polycodec.errors import ModelError, UsageError

Asked = TokenOptions | LatentOptions


def tokens_of(input: Twice, options: Asked, codec: Given) -> tuple[Latents, list[str]]:
    """The latents of a recording, and what a person should know of it."""
    codec = _with_latents(codec_for("speech", Ends[Any](input, "-", options, codec)))
    asked = SpeechEncode(channels=options.channels)
    parts, about, notes = recorded(input, codec, asked, "latents", Job.latents)
    return _of(parts, about), notes


def read(reader: Reader, options: Asked, given: Given) -> tuple[Latents, list[str]]:
    """Latents of the codes of an opened .plc file, and notes."""
    codec = _with_latents(codec_of(reader.header, options, given))
    decoder = chunk_decoder(codec, reader)
    coded = (decoder.codes(k) for k in range(reader.n_chunks))
    parts = [codec.dequantize(codes, level).float().cpu() for codes, level in coded]
    about, notes = stored(reader, codec, "latents")
    return _of(parts, about), notes


def write(latents: Latents, ends: Ends[Any], suffix: str) -> None:
    """Write what latents sound like; ModelError for those of other weights."""
    if suffix == ".plc":
        raise UsageError(
            ".plc files hold codes, and latents are none; expected a format of sounds, "
            "such as .wav; leave --continuous out for tokens"
        )
    header = header_of(latents, 0.0)
    geometry = header.geometry
    assert isinstance(geometry, SpeechGeometry)
    codec = _with_latents(codec_of(header, ends.options, ends.codec))
    dimensions = latents.latents.shape[1]
    expected = codec.transform.channels, codec.transform.stride
    if (dimensions, latents.hop) != expected:
        raise ModelError(
            f"the latents have {dimensions} numbers every {latents.hop} samples; "
            f"'{codec.name}' has {expected[0]} every {expected[1]}"
        )
    plan = plan_output(
        suffix,
        rate=geometry.rate,
        channels=geometry.channels,
        sample=geometry.sample,
        samples=geometry.samples,
    )
    last = max(1, round(geometry.samples * plan.rate / geometry.rate))
    decoder = _Given(codec, latents, geometry)
    taken = bytes_of(latents.condition, "condition")
    blocks = decoded(decoder, geometry, taken, 0, last, plan.rate)
    with ends.writing() as file, SpeechWriter(file, plan, {}) as writer:
        for block in blocks:
            writer.write(block)


class _Given(ChunkDecoder):
    """Samples of latents that are there."""

    def __init__(
        self, codec: Codec, latents: Latents, geometry: SpeechGeometry
    ) -> None:
        super().__init__(
            codec,
            lambda k: b"",
            samples=geometry.coded_samples,
            span=geometry.span,
            channels=geometry.channels,
            beside=b"",
        )
        self.given = torch.from_numpy(latents.latents)

    def _chunk(self, k: int) -> Tensor:
        at = k * self.span
        return self.given[..., at : at + self.span].to(self.codec.device)


def _with_latents(codec: Codec) -> Codec:
    if codec.fitted:
        raise ModelError(
            f"'{codec.name}' fits a network to each sound, whose weights are no "
            "latents; expected a codec with a transform, such as speech/default"
        )
    return codec


def _of(parts: list[Tensor], about: dict[str, Any]) -> Latents:
    """Latents of all chunks (channels, D, frames)."""
    return Latents(latents=np.concatenate([p.numpy() for p in parts], axis=2), **about)
