# SPDX-License-Identifier: Apache-2.0
"""What codecs for sound share, of whatever family: streams, blocks, checks, bytes.

    samples ── analysis_stream(levels) ──► codes (C, F) ── code_tokens ──► bytes
    samples ◄─ synthesis_stream(levels) ── codes        ◄─ decode_tokens ── bytes

``levels`` is the rate, a number from 1 to all. What it means is the family's own: how
many levels of a codebook, or which steps scalar latents are rounded with. A family
brings five things: `levels`, `codes_of`, `latents_of`, `check_codes` and `_code`.

Networks see a signal in fixed blocks (`blocks.py`): the codes of a signal do not
depend on the pieces in which it came, and memory does not depend on its length.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.codecs.signals.windows import BlockStream
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.errors import (
    BitstreamError,
    InputError,
    ModelError,
    TruncatedError,
    UsageError,
)

RAW = struct.Struct("<IB")  # BITSTREAM: samples, levels
MAX_SAMPLES = 1 << 31
UNBOUNDED = 50  # frames of context given to a transform that remembers for ever


@dataclass
class CodedTokens:
    """What encoding yields, per signal of the batch: bytes, and the bits that the
    tables say they should take."""

    data: list[bytes]
    estimated_bits: list[float]


class SoundCodec(Codec, abc.ABC):
    """Base of speech codecs. ``rate``: samples a second; ``channels``: of a latent;
    ``block``: frames that networks handle at once."""

    kind = "speech"
    levels: int
    transform: nn.Module
    rate: int
    channels: int
    block: int
    hop: int

    @abc.abstractmethod
    def codes_of(self, z: Tensor, levels: int) -> Tensor:
        """Codes (B, C, F) int64 of latents z (B, D, F)."""

    @abc.abstractmethod
    def latents_of(self, codes: Tensor, levels: int) -> Tensor:
        """Latents (B, D, F) of codes (B, C, F)."""

    @abc.abstractmethod
    def check_codes(self, codes: Tensor) -> None:
        """InputError for codes that these weights cannot have made."""

    @abc.abstractmethod
    def _code(
        self, coder: Any, codes: Tensor | None, levels: int, size: tuple[int, int]
    ) -> Tensor:
        """Code, or decode, codes of ``size`` (B, F) with either coder."""

    def _levels_of(self, codes: Tensor, levels: int | None) -> int:
        """The rate of codes (B, C, F), where their caller may not say it."""
        return self._check_levels(levels)

    def any_rate_stream(self) -> BlockStream:
        """A stream from samples to what `at_rate` makes codes of any rate of."""
        return self._analysis(lambda z: z)

    def at_rate(self, kept: Tensor, levels: int) -> Tensor:
        """Codes (B, C, F) at a rate, of what `any_rate_stream` gave, (B, K, F)."""
        return self.codes_of(kept, self._check_levels(levels))

    @property
    def frame_rate(self) -> float:
        """Code positions a second."""
        return self.rate / self.hop

    def levels_of(self, quality: float) -> int:
        """Levels for a quality in 0 … 100; UsageError outside."""
        if not 0 <= quality <= 100:
            raise UsageError(f"quality is {quality}; expected 0 to 100")
        return 1 + round(quality / 100 * (self.levels - 1))

    def frames_of(self, samples: int) -> int:
        """Code positions of a signal of ``samples``."""
        return -(-samples // self.hop)

    def pad(self, x: Tensor) -> Tensor:
        """Silence after the end, up to a multiple of the hop."""
        return F.pad(x, (0, -x.shape[-1] % self.hop))

    def analysis_stream(self, levels: int | None = None) -> BlockStream:
        """A stream from samples (1, n) to codes (C, frames); see `blocks.py`."""
        count = self._check_levels(levels)
        return self._analysis(lambda z: self.codes_of(z, count))

    def _analysis(self, finish: Callable[[Tensor], Tensor]) -> BlockStream:
        @torch.inference_mode()
        def run(samples: Tensor) -> Tensor:
            return finish(self.transform.g_a(samples[None]).float())[0]

        context = self.transform.context_a or (UNBOUNDED, 0)
        return BlockStream(run, block=self.block, context=context, step=self.hop)

    def synthesis_stream(self, levels: int | None = None) -> BlockStream:
        """A stream from codes (C, frames) to samples (1, n); see `blocks.py`."""

        @torch.inference_mode()
        def run(codes: Tensor) -> Tensor:
            count = self._levels_of(codes[None], levels)
            return self.transform.g_s(self.latents_of(codes[None], count))[0]

        context = self.transform.context_s or (UNBOUNDED, 0)
        return BlockStream(run, block=self.block, context=context, out=self.hop)

    def encode_codes(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Codes (B, C, F) of x (B, 1, T); InputError for NaN or infinite samples."""
        self._check_signal(x)
        rows = []
        for item in self.pad(x.float()):
            stream = self.analysis_stream(levels)
            rows.append(torch.cat([*stream.push(item), *stream.flush()], dim=1))
        return torch.stack(rows)

    def decode_codes(self, codes: Tensor, levels: int | None = None) -> Tensor:
        """Samples (B, 1, F · hop), not clamped, of codes (B, C, F)."""
        self.check_codes(codes)
        rows = []
        for item in codes.to(next(self.parameters()).device):
            stream = self.synthesis_stream(levels)
            rows.append(torch.cat([*stream.push(item), *stream.flush()], dim=1))
        return torch.stack(rows)

    def code_with(self, coder: Any, codes: Tensor, levels: int | None = None) -> None:
        """Hand codes (B, C, F) to any coder, such as one that counts."""
        size = (codes.shape[0], codes.shape[2])
        self._code(coder, codes, self._levels_of(codes, levels), size)

    @torch.inference_mode()
    def code_tokens(self, codes: Tensor, levels: int | None = None) -> CodedTokens:
        """Real and estimated size of codes (B, C, F), for each signal of the batch."""
        self._require_ready()
        self.check_codes(codes)
        serial = getattr(self.entropy, "serial", False)
        coder = RangeEncoder(codes.shape[0], estimate=True, serial=serial)
        self.code_with(coder, codes, levels)
        return CodedTokens(coder.finish(), coder.estimated_bits)

    def encode_tokens(self, codes: Tensor, levels: int | None = None) -> list[bytes]:
        """Real bytes of codes (B, C, F), one item for each signal of the batch."""
        return self.code_tokens(codes, levels).data

    @torch.inference_mode()
    def decode_tokens(self, data: Sequence[bytes], levels: int, frames: int) -> Tensor:
        """Codes (B, C, F) from the bytes of signals of one length."""
        self._require_ready()
        coder = RangeDecoder(data)
        codes = self._code(coder, None, levels, (len(data), frames)).to(torch.int64)
        coder.finish()
        return codes

    def compress(self, x: Tensor, levels: int | None = None) -> list[bytes]:
        """Signals x (B, 1, T) float in [-1, 1] -> a list of B byte strings."""
        codes = self.encode_codes(x, levels)
        count = self._levels_of(codes, levels)
        head = RAW.pack(x.shape[-1], count)
        return [head + item for item in self.encode_tokens(codes, count)]

    def decompress(self, data: Sequence[bytes]) -> Tensor:
        """Byte strings of signals of one length -> (B, 1, T) float in [-1, 1]."""
        heads = {self._raw_header(item) for item in data}
        if len(heads) != 1:
            raise BitstreamError("signals of several lengths or rates; one at a time")
        samples, levels = heads.pop()
        streams = [item[RAW.size :] for item in data]
        codes = self.decode_tokens(streams, levels, self.frames_of(samples))
        return self.decode_codes(codes, levels)[..., :samples].clamp(-1, 1)

    def _raw_header(self, data: bytes) -> tuple[int, int]:
        if len(data) < RAW.size:
            raise TruncatedError(
                f"a compressed signal has {len(data)} bytes; expected at least "
                f"{RAW.size}"
            )
        samples, levels = RAW.unpack_from(data)
        if not (0 < samples <= MAX_SAMPLES and 1 <= levels <= self.levels):
            raise BitstreamError(
                f"the header asks for {samples} samples at {levels} levels; expected "
                f"at most {MAX_SAMPLES} and {self.levels}"
            )
        return samples, levels

    def _check_levels(self, levels: int | None) -> int:
        if levels is None:
            return self.levels
        if not 1 <= levels <= self.levels:
            raise UsageError(f"levels is {levels}; expected 1 to {self.levels}")
        return levels

    @staticmethod
    def _check_signal(x: Tensor) -> None:
        if x.ndim != 3 or x.shape[1] != 1 or x.shape[2] == 0:
            raise InputError(
                f"a signal has shape {tuple(x.shape)}; expected (batch, 1, samples)"
            )
        if not bool(x.isfinite().all()):
            raise InputError(
                "the signal has samples that are NaN or infinite; expected finite "
                "numbers in -1 … 1"
            )

    def _require_ready(self) -> None:
        if not self.ready:
            raise ModelError(
                "this codec has no tables for its tokens; export the run first, or "
                "load exported weights"
            )


def check_width(name: str, part: nn.Module, channels: int) -> None:
    """Refuse a part of pictures, or whose width is not the codec's, naming both."""
    if name.startswith("transform/") and not hasattr(part, "hop"):
        raise ModelError(
            f"{name} has no hop: it is a part for images, the codec around it codes "
            "speech; take another part, or the codec of that kind"
        )
    if part.channels != channels:
        raise ModelError(
            f"{name} has {part.channels} channels, the codec around it {channels}; "
            "leave 'channels' to the codec"
        )
