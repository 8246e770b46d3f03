# SPDX-License-Identifier: Apache-2.0
"""Live sound: samples pushed as they come, packets out; and packets to samples.

    encoder = codec.encoder(quality)      decoder = codec.decoder()
    encoder.push(samples) -> packets      decoder.push(packet or None) -> samples
    encoder.flush()       -> packets      decoder.flush()              -> samples

None is a packet that was lost. What an encoder or a decoder keeps does not grow with
time; each belongs to one signal and is used by one thread at a time, any number of them
at once. Packets do not depend on the pieces that samples come in, on threads, nor on
the signals beside: `Encoders` and `Decoders` take many that run in step, a server's
calls, through a network together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.signals.packets import (
    MOST_FRAMES,
    check_has_packets,
    read_packets,
    write_packets,
)
from polycodec.codecs.signals.speech import speech_signal, speech_transform
from polycodec.codecs.signals.windows import FrameStream, Stream
from polycodec.codecs.transforms.base import CausalTransform
from polycodec.errors import InputError, UsageError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

# Of losses in a row: so long they are concealed in full, then fade within as much.
FADES_AFTER = 0.1  # seconds


class _Ongoing:
    """The middle of a signal: it is neither copied nor pickled."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UsageError(
            f"{type(self).__name__} is in the middle of a signal, and cannot be copied "
            "or pickled; hand over the codec, and make one of it there"
        )


class Encoders(_Ongoing):
    """``count`` signals in step: samples (B, n) to packets, a list for each signal.

    ``frames``: of a packet, 1 to 8; more of them are fewer bytes around codes, and
    later. ``quality`` may be set between pushes.
    """

    def __init__(
        self, codec: Codec, quality: float = 50.0, *, count: int = 1, frames: int = 1
    ) -> None:
        _check_counts(count, frames)
        self.codec, self.count, self.frames = codec, count, frames
        self.signal, self.quality = speech_signal(codec), quality
        check_has_packets(codec)
        self._streams = _split(codec, self.signal.analysis, count)
        self._codes: Tensor | None = None  # of a packet that is not full yet
        self._samples, self._ended = 0, False

    @property
    def quality(self) -> float:
        """0 … 100: what packets from now on are coded with."""
        return self._quality

    @quality.setter
    def quality(self, quality: float) -> None:
        self._level, self._quality = self.codec.level_of(quality), quality

    @property
    def latency(self) -> float:
        """Seconds from a sample's push to its packet, at most: sound, not computing."""
        stream = self._streams[0]
        longest = max(self.frames, stream.block)
        return (longest + stream.context[1]) * self.codec.stride / self.signal.rate

    def push(self, x: Any) -> list[list[bytes]]:
        """Packets that are now complete; InputError for what are no samples.

        x: (B, n), float in [-1, 1] or int16, a tensor or an array.
        """
        _check_goes_on(self._ended, "encoder")
        x = _tensor_of(x, "(signals, n)", 2)
        if len(x) != self.count:
            raise InputError(f"{len(x)} signals are pushed; expected {self.count}")
        if not x.shape[1]:
            return [[] for _ in range(self.count)]
        x = self.signal.checked(x[:, None])
        self._samples += x.shape[-1]
        return self._packets(_pushed(self._streams, x.to(self.codec.device)))

    def flush(self) -> list[list[bytes]]:
        """End the signals, with silence up to a whole frame; the last packets."""
        found = self.push(torch.zeros(self.count, -self._samples % self.codec.stride))
        more = self._packets(_flushed(self._streams), last=True)
        self._ended = True
        return [a + b for a, b in zip(found, more, strict=True)]

    def _packets(self, codes: list[Tensor], last: bool = False) -> list[list[bytes]]:
        """Packets of codes (B, C, n) of the finest level, after those that are held."""
        held = [] if self._codes is None else [self._codes]
        packets: list[list[bytes]] = [[] for _ in range(self.count)]
        if not (held or codes):
            return packets
        every = torch.cat([*held, *codes], dim=-1)
        whole = every.shape[-1] // self.frames * self.frames
        stop = every.shape[-1] if last else whole
        for first in range(0, stop, self.frames):
            part = every[..., first : min(first + self.frames, stop)]
            at_level = self.codec.coarsened(part, self._level)
            made = write_packets(self.codec, at_level.cpu(), self._level)
            for own, packet in zip(packets, made, strict=True):
                own.append(packet)
        self._codes = every[..., stop:].clone()
        return packets

    @property
    def bytes(self) -> int:
        """What is remembered of all signals between two pushes."""
        return sum(map(_kept, self._streams))


class LiveEncoder(_Ongoing):
    """One signal: samples (n,) to packets. See `Encoders`."""

    def __init__(self, codec: Codec, quality: float = 50.0, *, frames: int = 1) -> None:
        self._all = Encoders(codec, quality, frames=frames)

    @property
    def quality(self) -> float:
        """See `Encoders.quality`."""
        return self._all.quality

    @quality.setter
    def quality(self, quality: float) -> None:
        self._all.quality = quality

    @property
    def latency(self) -> float:
        """See `Encoders.latency`."""
        return self._all.latency

    def push(self, x: Any) -> list[bytes]:
        """Packets that are now complete, of samples (n,); see `Encoders.push`."""
        return self._all.push(_tensor_of(x, "(n,), one channel", 1)[None])[0]

    def flush(self) -> list[bytes]:
        """See `Encoders.flush`."""
        return self._all.flush()[0]


class Decoders(_Ongoing):
    """``count`` signals in step: a packet of each, or None, to samples (B, n).

    ``frames``: of packets that are lost before any came; later packets say it.
    """

    def __init__(self, codec: Codec, *, count: int = 1, frames: int = 1) -> None:
        _check_counts(count, frames)
        self.codec, self.count, self.signal = codec, count, speech_signal(codec)
        check_has_packets(codec)
        self._streams = _split(codec, lambda c: self.signal.sound(c), count)
        self._before = torch.zeros(count, speech_transform(codec).channels, 1)
        self._before = self._before.to(codec.device)
        self._frames = frames  # of the last packet that came
        self._gone = [0] * count  # frames lost in a row
        self._gains = torch.ones(count, 1)  # of frames to come, the last one first
        self._some = self._ended = False
        frame = codec.stride / self.signal.rate
        self._patience = max(1, round(FADES_AFTER / frame))

    @property
    def latency(self) -> float:
        """Seconds from a packet's push to the end of its samples, at most."""
        stream = self._streams[0]
        late = max(self._frames, stream.block) + stream.context[1]
        return late * self.codec.stride / self.signal.rate

    def push(self, packets: Sequence[bytes | None]) -> Tensor:
        """Samples (B, n), float32 in [-1, 1], that are now fixed.

        packets: of each signal, all of equally many frames; None: it was lost. A packet
        that is damaged raises BitstreamError before anything changes: push None then.
        """
        _check_goes_on(self._ended, "decoder")
        if len(packets) != self.count:
            raise UsageError(f"{len(packets)} packets; expected {self.count}")
        there = [b for b, packet in enumerate(packets) if packet is not None]
        given = [packet for packet in packets if packet is not None]
        found = read_packets(self.codec, given) if given else []
        lengths = {codes.shape[-1] for codes, _ in found} or {self._frames}
        if len(lengths) > 1:
            raise UsageError(
                f"packets hold {sorted(lengths)} frames; expected equally many of "
                "signals that run in step"
            )
        self._frames = lengths.pop()
        return self._sound(self._latents(there, found))

    def flush(self) -> Tensor:
        """End the signals; the last samples."""
        _check_goes_on(self._ended, "decoder")
        self._ended = True
        if not self._some:
            return torch.zeros(self.count, 0)
        return self._faded(_flushed(self._streams))

    @torch.inference_mode()
    def _latents(self, there: list[int], found: list[tuple[Tensor, float]]) -> Tensor:
        """ẑ (B, D, frames), concealed where nothing came."""
        lost = speech_transform(self.codec).concealed(self._before)
        z = lost.expand(-1, -1, self._frames).float().clone()
        for level in {level for _, level in found}:  # those that are alike together
            alike = [k for k, (_, own) in enumerate(found) if own == level]
            codes = torch.stack([found[k][0] for k in alike]).to(z.device)
            z[[there[k] for k in alike]] = self.codec.dequantize(codes, level)
        self._before[there] = z[there, :, -1:]
        gains = torch.ones(self.count, self._frames)
        for b in range(self.count):
            for k in range(self._frames):
                self._gone[b] = 0 if b in there else self._gone[b] + 1
                gains[b, k] = 2 - self._gone[b] / self._patience
        self._gains = torch.cat([self._gains, gains.clamp(0, 1)], dim=1)
        return z

    def _sound(self, z: Tensor) -> Tensor:
        self._some = True
        return self._faded(_pushed(self._streams, z))

    def _faded(self, parts: list[Tensor]) -> Tensor:
        """Samples of the next frames, fainter the longer nothing came."""
        if not parts:
            return torch.zeros(self.count, 0)
        x, hop = torch.cat(parts, dim=-1)[:, 0].cpu(), self.codec.stride
        frames = x.shape[1] // hop
        gains, self._gains = self._gains[:, : frames + 1], self._gains[:, frames:]
        if bool((gains < 1).any()):
            ramp = torch.arange(1, hop + 1) / hop
            slopes = gains[:, :-1, None] + gains.diff(dim=1)[..., None] * ramp
            x = x * slopes.flatten(1)
        return x.clamp(self.signal.low, self.signal.high)

    @property
    def bytes(self) -> int:
        """What is remembered of all signals between two pushes."""
        own = self._before.numel() + self._gains.numel()
        return 4 * own + sum(map(_kept, self._streams))


class LiveDecoder(_Ongoing):
    """One signal: a packet or None to samples (n,). See `Decoders`."""

    def __init__(self, codec: Codec, *, frames: int = 1) -> None:
        self._all = Decoders(codec, frames=frames)

    @property
    def latency(self) -> float:
        """See `Decoders.latency`."""
        return self._all.latency

    def push(self, packet: bytes | None) -> Tensor:
        """Samples (n,) that are now fixed; see `Decoders.push`."""
        return self._all.push([packet])[0]

    def flush(self) -> Tensor:
        """The last samples (n,)."""
        return self._all.flush()[0]


class Live:
    """What codecs of speech have for live sound; InputError from others."""

    def encoder(self, quality: float = 50.0, *, frames: int = 1) -> LiveEncoder:
        """What makes packets of samples as they come, of ``frames`` each."""
        return LiveEncoder(cast("Codec", self), quality, frames=frames)

    def decoder(self, *, frames: int = 1) -> LiveDecoder:
        """What makes samples of packets, and of None for lost ones.

        ``frames``: of packets that are lost before any came.
        """
        return LiveDecoder(cast("Codec", self), frames=frames)


def _check_counts(count: int, frames: int) -> None:
    if not isinstance(frames, int) or not 1 <= frames <= MOST_FRAMES:
        raise UsageError(
            f"frames is {frames!r}; expected a whole number, 1 to {MOST_FRAMES} of a "
            "packet"
        )
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"count is {count!r}; expected 1 signal or more")


def _check_goes_on(ended: bool, what: str) -> None:
    if ended:
        raise UsageError(f"this signal was ended by flush(); take a new {what}")


def _tensor_of(x: Any, form: str, axes: int) -> Tensor:
    """Samples of so many axes, of an array a copy in this machine's order of bytes.

    InputError for what are none.
    """
    if not isinstance(x, (Tensor, np.ndarray)):
        kind = type(x).__name__
        raise InputError(f"samples are of type {kind}; expected a tensor or an array")
    if x.ndim != axes:
        raise InputError(f"samples have shape {tuple(x.shape)}; expected {form}")
    if isinstance(x, Tensor):
        return x
    if x.dtype.str[1:] not in ("f2", "f4", "f8", "i2"):
        raise InputError(f"samples are {x.dtype}; expected floating point or int16")
    return torch.from_numpy(x.astype(x.dtype.newbyteorder("="), order="C"))


def _split(codec: Codec, made: Any, count: int) -> list[Stream]:
    """One stream for all signals where layers remember; elsewhere one for each."""
    if isinstance(speech_transform(codec), CausalTransform):
        count = 1
    return [made(codec) for _ in range(count)]


def _pushed(streams: list[Stream], x: Tensor) -> list[Tensor]:
    """Results (B, C, n) of pieces (B, C, m)."""
    if isinstance(streams[0], FrameStream):
        return streams[0].push(x)
    return _stacked([stream.push(one) for stream, one in zip(streams, x, strict=True)])


def _flushed(streams: list[Stream]) -> list[Tensor]:
    if isinstance(streams[0], FrameStream):
        return streams[0].flush()
    return _stacked([stream.flush() for stream in streams])


def _stacked(results: list[list[Tensor]]) -> list[Tensor]:
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


def _kept(stream: Stream) -> int:
    held = stream.held
    own = 0 if held is None else held.numel() * held.element_size()
    return own + (stream.memory.bytes if isinstance(stream, FrameStream) else 0)
