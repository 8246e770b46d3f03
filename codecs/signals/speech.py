# SPDX-License-Identifier: Apache-2.0
"""Speech: (B, 1, T) in [-1, 1], coded in fixed windows (`windows.py`).

    samples ── analysis(level) ──► codes (C, F)      as they come, in any pieces
    samples ◄─ synthesis(level) ── codes

Networks see a signal in fixed blocks: the codes of a signal do not depend on the pieces
in which it came, and memory does not depend on its length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.signals.base import Signal, Size
from polycodec.codecs.signals.precise import precise
from polycodec.codecs.signals.windows import (
    BlockStream,
    FrameStream,
    Stream,
    window_of,
)
from polycodec.codecs.transforms.base import CausalTransform, Memory, SpeechTransform
from polycodec.codecs.transforms.numbers import made_by
from polycodec.errors import BitstreamError, InputError, ModelError, TruncatedError
from polycodec.registry import register

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

RAW = struct.Struct("<IB")  # BITSTREAM: samples, level
MAX_SAMPLES = 1 << 31
UNBOUNDED = 50  # frames of context given to a transform that remembers for ever


@register("signal/speech")
class SpeechSignal(Signal):
    """``rate``: samples a second; ``block``: frames that networks handle at once.

    ``condition``: whether files take out what no speech has (`condition.py` there).
    """

    kind = "speech"
    low, high = -1.0, 1.0
    whole, full = torch.int16, 1 << 15
    shape = ("batch", 1, "samples")
    head_size = RAW.size

    def __init__(
        self, *, rate: int = 16000, block: int = 50, condition: bool = True
    ) -> None:
        self.rate, self.block, self.condition = rate, block, condition

    def pad(self, x: Tensor, stride: int) -> Tensor:
        """Silence after the end, up to a multiple of the hop."""
        return F.pad(x, (0, -x.shape[-1] % stride))

    def prepared(self, x: Tensor) -> Tensor:
        return x

    def restored(self, x_hat: Tensor) -> Tensor:
        return x_hat.float()

    def analysis(
        self, codec: Codec, level: float | None = None, *, latents: bool = False
    ) -> Stream:
        """A stream from samples (1, n) to codes (C, frames); see `windows.py`.

        Without a level to what codes of any level follow from: `Codec.finest`.
        ``latents``: to latents (D, frames), which no level changes.
        """
        if isinstance(codec.transform, CausalTransform):
            return self.frames(codec, level, latents=latents)
        finish: Callable[[Tensor], Tensor] = codec.finest
        if latents:

            def finish(z: Tensor) -> Tensor:
                return z

        elif level is not None:
            checked = codec.check_level(level)

            def finish(z: Tensor) -> Tensor:
                return codec.quantize(z, checked)

        @torch.inference_mode()
        def run(samples: Tensor) -> Tensor:
            wanted = codec.levels if level is None else level
            return finish(codec.latents_of(samples[None], wanted).float())[0]

        context = speech_transform(codec).contexts()[0] or (UNBOUNDED, 0)
        return BlockStream(run, block=self.block, context=context, step=codec.stride)

    def frames(
        self, codec: Codec, level: float | None = None, *, latents: bool = False
    ) -> FrameStream:
        """The same of a transform that remembers; or (B, 1, n) to codes (B, C, n)."""
        twin = precise(codec)
        transform = twin.transform
        assert isinstance(transform, CausalTransform)
        if level is not None:
            level = codec.check_level(level)

        @torch.inference_mode()
        def run(samples: Tensor, memory: Memory) -> Tensor:
            x = twin.signal.prepared(samples.double()).view(-1, 1, samples.shape[-1])
            z = made_by(codec.name, transform.g_a(x, memory))
            if not z.shape[2]:  # the start, for which analysis waits
                return z
            if latents:
                found = z.float()
            else:
                found = twin.finest(z) if level is None else twin.quantize(z, level)
            return found.view(*samples.shape[:-2], *found.shape[1:])

        ahead, _ = transform.ahead
        return FrameStream(run, step=codec.stride, ahead=ahead, rest=silence(codec))

    def sound(self, codec: Codec) -> Stream:
        """A stream from latents (D, frames) to samples (1, n), as calls want them.

        Of a transform that remembers also from (B, D, frames) to (B, 1, n).
        """
        transform, level = codec.transform, codec.levels

        @torch.inference_mode()
        def run(z_hat: Tensor) -> Tensor:
            return codec.signals(z_hat[None], level)[0]

        @torch.inference_mode()
        def go_on(z_hat: Tensor, memory: Memory) -> Tensor:
            assert isinstance(transform, CausalTransform)
            z = z_hat.view(-1, *z_hat.shape[-2:])
            x = made_by(codec.name, self.restored(transform.g_s(z, memory)))
            return x.view(*z_hat.shape[:-2], *x.shape[1:])

        if not isinstance(transform, CausalTransform):
            context = self._behind(codec)
            return BlockStream(run, block=self.block, context=context, out=codec.stride)

        def lost(none: Tensor) -> Tensor:
            mark = none.new_zeros(*none.shape[:-1], 1).view(-1, none.shape[-2], 1)
            return transform.concealed(mark).view(*none.shape[:-1], 1)

        return FrameStream(go_on, step=1, ahead=transform.ahead[1], rest=lost)

    def synthesis(self, codec: Codec, level: float) -> BlockStream:
        """A stream from codes (C, frames) to samples (1, n); see `windows.py`."""

        @torch.inference_mode()
        def run(codes: Tensor) -> Tensor:
            return codec.signals(codec.dequantize(codes[None], level), level)[0]

        context, hop = self._behind(codec), codec.stride
        return BlockStream(run, block=self.block, context=context, out=hop)

    @torch.inference_mode()
    def synthesised(
        self,
        codec: Codec,
        latents: Callable[[int, int], Tensor],
        k: int,
        frames: int,
    ) -> Tensor:
        """Samples (B, n) of block k of a signal of ``frames`` frames.

        latents(start, stop) gives ẑ (B, D, stop - start) of these frames.
        """
        window = window_of(k, self.block, self._behind(codec), frames)
        z_hat = latents(window.start, window.stop)
        x = codec.signals(z_hat, codec.levels)
        return x[:, 0, window.kept(codec.stride)]

    def encode(self, codec: Codec, x: Tensor, level: float) -> Tensor:
        items = self.pad(x, codec.stride)
        return torch.stack([self.analysis(codec, level).whole(item) for item in items])

    def decode(self, codec: Codec, codes: Tensor, level: float) -> Tensor:
        items = codes.to(codec.device)
        return torch.stack([self.synthesis(codec, level).whole(item) for item in items])

    def head(self, size: Sequence[int], quality: float, level: float) -> bytes:
        return RAW.pack(size[0], int(level))

    def parse(self, data: bytes) -> tuple[Size, int]:
        if len(data) < RAW.size:
            raise TruncatedError(
                f"a compressed signal has {len(data)} bytes; expected at least "
                f"{RAW.size}"
            )
        samples, level = RAW.unpack_from(data)
        if not 0 < samples <= MAX_SAMPLES:
            raise BitstreamError(
                f"the header asks for {samples} samples; expected at most {MAX_SAMPLES}"
                "; a .plc file is for polycodec.decode"
            )
        return (samples,), level

    def level_in(self, codec: Codec, stored: int) -> float:
        """What is stored is the level itself."""
        if not 1 <= stored <= codec.levels:
            raise BitstreamError(
                f"the header asks for {stored} levels; expected at most {codec.levels}"
            )
        return stored

    def _behind(self, codec: Codec) -> tuple[int, int]:
        return speech_transform(codec).contexts()[1] or (UNBOUNDED, 0)


def silence(codec: Codec) -> Callable[[Tensor], Tensor]:
    """What makes a frame of silence (..., hop) of a piece (..., n) of any length."""
    return lambda piece: piece.new_zeros(*piece.shape[:-1], codec.stride)


def speech_signal(codec: Codec) -> SpeechSignal:
    """The signal of a codec for speech; InputError for another."""
    if not isinstance(codec.signal, SpeechSignal):
        raise InputError(f"'{codec.name}' codes {codec.kind}; expected speech")
    return codec.signal


def speech_transform(codec: Codec) -> SpeechTransform:
    """The transform of a codec for speech; ModelError for another."""
    if not isinstance(codec.transform, SpeechTransform):
        raise ModelError(f"'{codec.name}' has no transform of speech")
    return codec.transform
