# SPDX-License-Identifier: Apache-2.0
"""The token family: latents become indexes of codebooks.

    x ── g_a ──► z ── quantizer ──► codes ──[ entropy: code(coder, codes) ]── codes
    x̂ ◄─ g_s ── ẑ ◄── vectors ────────────────────────────────────────────────┘

A codec here is a composition: any `transform/*` with any `quantizer/*` of as many
channels and any `entropy/tokens-*`. The first levels of a residual codebook are a
coarser version of all, so one set of weights has as many rates as levels.

Networks see a signal in fixed blocks (`blocks.py`): the codes of a signal do not
depend on the pieces in which it came, and memory does not depend on its length.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.blocks import BlockStream
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.errors import (
    BitstreamError,
    InputError,
    ModelError,
    TruncatedError,
    UsageError,
)
from polycodec.registry import build, register

RAW = struct.Struct("<IB")  # BITSTREAM: samples, levels
MAX_SAMPLES = 1 << 31
UNBOUNDED = 50  # frames of context given to a transform that remembers for ever


@dataclass
class TokenOutput:
    """What training sees: x_hat (B, 1, T), z and z_hat (B, D, F), codes (B, L, F)
    and the quantizer's own loss (B,)."""

    x_hat: Tensor
    z: Tensor
    z_hat: Tensor
    codes: Tensor
    loss: Tensor


@dataclass
class CodedTokens:
    """What encoding yields, per signal of the batch: bytes, and the bits that the
    tables say they should take."""

    data: list[bytes]
    estimated_bits: list[float]


@register("codec/token")
class TokenCodec(Codec):
    """A transform, a codebook quantizer and an entropy model for its indexes.

    ``rate``: samples a second. ``block``: frames that networks handle at once.
    Without ``entropy`` it can be trained and gives codes, but no bytes.
    """

    kind = "speech"

    def __init__(
        self,
        *,
        rate: int = 16000,
        channels: int = 64,
        transform: dict[str, Any] | None = None,
        quantizer: dict[str, Any] | None = None,
        entropy: dict[str, Any] | None = None,
        block: int = 50,
    ) -> None:
        super().__init__()
        transform = {"name": "spectral", **(transform or {})}
        quantizer = {"name": "residual", **(quantizer or {})}
        names = (
            f"transform/{transform.pop('name')}",
            f"quantizer/{quantizer.pop('name')}",
        )
        self.transform = build(names[0], **{"channels": channels, **transform})
        self.quantizer = build(names[1], **{"channels": channels, **quantizer})
        _check_fit(names, self.transform, self.quantizer, channels)
        self.rate, self.block, self.hop = rate, block, self.transform.hop
        self.entropy = None
        if entropy is not None:
            options = {k: v for k, v in entropy.items() if k != "name"}
            sizes = {"sizes": self.quantizer.sizes}
            self.entropy = build(f"entropy/{entropy['name']}", **{**sizes, **options})

    @property
    def ready(self) -> bool:
        """Whether there is an entropy model with tables: real bytes can be made."""
        return self.entropy is not None and super().ready

    @property
    def levels(self) -> int:
        """Levels of the codebook."""
        return self.quantizer.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each level."""
        return self.quantizer.sizes

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

    def forward(
        self, x: Tensor, active: Tensor | None = None, *, quantize: bool = True
    ) -> TokenOutput:
        """Train: x (B, 1, T), T a multiple of the hop, ``active`` levels (B,)."""
        z = self.transform.g_a(x)
        if not quantize:
            empty = torch.empty(x.shape[0], 0, z.shape[-1], dtype=torch.int64)
            return TokenOutput(
                self.transform.g_s(z), z, z, empty, z.new_zeros(x.shape[0]).float()
            )
        q = self.quantizer(z, active)
        return TokenOutput(self.transform.g_s(q.z_hat), z, q.z_hat, q.codes, q.loss)

    def analysis_stream(self, levels: int | None = None) -> BlockStream:
        """A stream from samples (1, n) to codes (l, frames); see `blocks.py`."""
        count = self._check_levels(levels)

        @torch.inference_mode()
        def run(samples: Tensor) -> Tensor:
            z = self.transform.g_a(samples[None])
            return self.quantizer.encode(z.float(), count)[0]

        context = self.transform.context_a or (UNBOUNDED, 0)
        return BlockStream(run, block=self.block, context=context, step=self.hop)

    def synthesis_stream(self) -> BlockStream:
        """A stream from codes (l, frames) to samples (1, n); see `blocks.py`."""

        @torch.inference_mode()
        def run(codes: Tensor) -> Tensor:
            z_hat = self.quantizer.decode(codes[None])
            return self.transform.g_s(z_hat)[0]

        context = self.transform.context_s or (UNBOUNDED, 0)
        return BlockStream(run, block=self.block, context=context, out=self.hop)

    def encode_codes(self, x: Tensor, levels: int | None = None) -> Tensor:
        """Codes (B, l, F) of x (B, 1, T); InputError for NaN or infinite samples."""
        self._check_signal(x)
        rows = []
        for item in self.pad(x.float()):
            stream = self.analysis_stream(levels)
            rows.append(torch.cat([*stream.push(item), *stream.flush()], dim=1))
        return torch.stack(rows)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Samples (B, 1, F · hop), not clamped, of codes (B, l, F)."""
        self.quantizer.check_codes(codes)
        rows = []
        for item in codes:
            stream = self.synthesis_stream()
            rows.append(torch.cat([*stream.push(item), *stream.flush()], dim=1))
        return torch.stack(rows)

    @torch.inference_mode()
    def code_tokens(self, codes: Tensor) -> CodedTokens:
        """Real and estimated size of codes (B, l, F), for each signal of the batch."""
        self._require_ready()
        self.quantizer.check_codes(codes)
        coder = RangeEncoder(codes.shape[0], estimate=True)
        self.entropy.code(coder, codes, tuple(codes.shape))
        return CodedTokens(coder.finish(), coder.estimated_bits)

    def encode_tokens(self, codes: Tensor) -> list[bytes]:
        """Real bytes of codes (B, l, F), one item for each signal of the batch."""
        return self.code_tokens(codes).data

    @torch.inference_mode()
    def decode_tokens(self, data: Sequence[bytes], levels: int, frames: int) -> Tensor:
        """Codes (B, l, F) from the bytes of signals of one length."""
        self._require_ready()
        coder = RangeDecoder(data)
        shape = (len(data), levels, frames)
        codes = self.entropy.code(coder, None, shape).to(torch.int64)
        coder.finish()
        return codes

    def compress(self, x: Tensor, levels: int | None = None) -> list[bytes]:
        """Signals x (B, 1, T) float in [-1, 1] -> a list of B byte strings."""
        codes = self.encode_codes(x, levels)
        head = RAW.pack(x.shape[-1], codes.shape[1])
        return [head + item for item in self.encode_tokens(codes)]

    def decompress(self, data: Sequence[bytes]) -> Tensor:
        """Byte strings of signals of one length -> (B, 1, T) float in [-1, 1]."""
        heads = {self._raw_header(item) for item in data}
        if len(heads) != 1:
            raise BitstreamError("signals of several lengths or rates; one at a time")
        samples, levels = heads.pop()
        streams = [item[RAW.size :] for item in data]
        codes = self.decode_tokens(streams, levels, self.frames_of(samples))
        return self.decode_codes(codes)[..., :samples].clamp(-1, 1)

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


def _check_fit(names: tuple[str, str], transform, quantizer, channels: int) -> None:
    """Refuse parts whose widths differ, naming both sides and both numbers."""
    for name, part in zip(names, (transform, quantizer), strict=True):
        if part.channels != channels:
            raise ModelError(
                f"{name} has {part.channels} channels, the codec around it {channels}; "
                "leave 'channels' to the codec"
            )
