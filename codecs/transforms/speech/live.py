# SPDX-License-Identifier: Apache-2.0
"""Live speech: frames of 20 ms through causal blocks that remember, one at a time.

    x ─ STFT 400/160 ─ compressed ─ linear(4 columns) ─ CN × 4 ─ linear ─ z
    T     100 Hz          402              50 Hz, width                   D, T/320
    x̂ ─ overlap-add ─ expanded ── linear(2 columns) ── CN × 4 ── linear(2) ─ ẑ or lost

    CN    y + γ · linear(gelu(linear(norm(taps(y)))))         taps: this frame, and past

All layers run at 50 frames a second, and what they saw of earlier frames is kept in a
`Memory`: no frame is computed twice, as blocks with contexts must. Spectra in, spectra
out and ConvNeXt blocks are those of `spectral`.

    first sample of a frame  20 ms  its end  20 ms, ahead = 1  latent
    latent  20 ms, windows overlap the next frame  first sample  20 ms  last sample

so 40 ms from sample to latent and 40 ms from latent to sample, 60 ms from end to end.

Packet loss: in place of a latent that did not come stands a learned vector, the mark of
loss, and synthesis is trained with frames lost in bursts (``drop``). It sees the next
frame before it speaks, so that a gap of one is filled from both sides. A lost frame is
heard in its own 20 ms, in 15 ms before and in (taps - 1) · depth + 1 frames behind it:
180 ms with 3 taps and 4 blocks, whatever was lost.

Budget: Low-Resource Audio Codec challenge, 2025: 700 million floating-point operations
a second in all and 300 at the receiver, counted here with two for each multiply-add.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.transforms.base import CausalTransform, Context, Memory
from polycodec.codecs.transforms.numbers import real
from polycodec.codecs.transforms.speech.spectral import (
    BINS,
    HOP,
    WINDOW,
    compressed,
    expanded,
)
from polycodec.codecs.transforms.speech.waveform import check_sizes
from polycodec.errors import ModelError
from polycodec.registry import register

COLUMNS = 2  # of the STFT in a frame of the latent
MOST_LOST = 0.3  # share of frames that bursts begin at, at most, while training
GOES_ON, LONGEST = 0.4, 5  # chance that a loss goes on; frames of a burst at most


class Taps(nn.Module):
    """A convolution over time, each channel for itself: (B, T, C) -> (B, T, C)."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        start = torch.randn(taps, width) / taps**0.5
        self.weight, self.bias = nn.Parameter(start), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        taps, length = len(self.weight), x.shape[1]
        x, y = memory.joined(self, x, taps - 1), self.bias
        for k, weight in enumerate(self.weight):
            y = y + x[:, k : k + length] * weight
        return y


class Block(nn.Module):
    """ConvNeXt on (B, T, C), looking back only."""

    def __init__(self, width: int, hidden: int, taps: int) -> None:
        super().__init__()
        self.mix, self.norm = Taps(width, taps), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        y = self.norm(self.mix(x, memory))
        return x + self.down(F.gelu(self.up(y))) * self.gamma


@register("transform/live")
class LiveTransform(CausalTransform):
    """g_a: (B, 1, T) -> (B, D, T/320); g_s: (B, D, F) -> (B, 1, 320 F).

    Of analysis and synthesis each: ``widths``, ``depths`` their blocks, ``hidden``
    widths inside blocks, ``taps`` frames that a block sees. ``ahead``: frames that
    analysis waits for, 0 or more. ``drop``: share of a batch's items that lose frames
    while training.
    """

    window: Tensor
    weights: Tensor

    def __init__(
        self,
        channels: int = 64,
        *,
        widths: tuple[int, int] = (320, 320),
        depths: tuple[int, int] = (4, 4),
        hidden: tuple[int, int] = (1120, 960),
        taps: tuple[int, int] = (5, 3),
        ahead: int = 1,
        drop: float = 0.5,
    ) -> None:
        check_sizes("live", channels=channels, widths=widths, depths=depths)
        check_sizes("live", hidden=hidden, taps=taps)
        if ahead < 0 or not 0 <= drop <= 1:
            raise ModelError(
                f"live: ahead is {ahead}, drop {drop}; expected frames from 0 upwards "
                "and a share of 0 to 1; correct the config"
            )
        super().__init__(channels, COLUMNS * HOP)
        self.ahead, self.drop = (ahead, 1), drop
        self.depths, self.taps = tuple(depths), tuple(taps)
        self._seen = COLUMNS * (ahead + 1)  # columns that a frame is made of
        a, s = widths
        self.spectra, self.overlap = nn.Identity(), nn.Identity()  # keys of memories
        self.enter = nn.Linear(self._seen * 2 * BINS, a)
        self.analysis = _blocks(a, depths[0], hidden[0], taps[0])
        self.leave = nn.Linear(a, channels)
        self.lost = nn.Parameter(torch.randn(channels))
        self.receive = nn.Linear(2 * channels, s)
        self.synthesis = _blocks(s, depths[1], hidden[1], taps[1])
        self.speak = nn.Linear(s, COLUMNS * 2 * BINS)
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        # Overlapping windows times these sum to one at every sample.
        square = F.pad(window.square(), (0, -WINDOW % HOP)).view(-1, HOP).sum(0)
        weights = window / square.repeat(3)[:WINDOW]
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("weights", weights.float(), persistent=False)

    def contexts(self) -> tuple[Context, Context]:
        # A frame's windows begin 240 samples before it: one frame more.
        left = (self.taps[0] - 1) * self.depths[0] + 1
        behind = (self.taps[1] - 1) * self.depths[1] + 1
        return (left, self.ahead[0]), (behind, self.ahead[1])

    def g_a(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Latents of the whole, or of a piece; see `CausalTransform`."""
        if memory is None:
            memory, x = Memory(), F.pad(x, (0, self.ahead[0] * self.hop))
        with torch.autocast(x.device.type, enabled=False):
            x = memory.joined(self.spectra, real(x).transpose(1, 2), WINDOW - HOP)
            frames = x[..., 0].unfold(1, WINDOW, HOP) * self.window
            y = compressed(frames)  # (B, 2n, 402)
        y = memory.joined(self.enter, y, self._seen - COLUMNS)
        y = y.unfold(1, self._seen, COLUMNS).transpose(2, 3).flatten(2)
        y = memory.behind(self.enter, self.enter(y), self.ahead[0])
        for block in self.analysis:
            y = block(y, memory)
        return self.leave(y).transpose(1, 2)

    def g_s(self, z_hat: Tensor, memory: Memory | None = None) -> Tensor:
        """Samples of the whole, or of a piece; see `CausalTransform`."""
        if self.training and self.drop:
            gone = bursts(len(z_hat), z_hat.shape[2], self.drop).to(z_hat.device)
            z_hat = torch.where(gone[:, None], self.lost[:, None], z_hat)
        if memory is None:  # what comes behind the end never comes
            memory = Memory()
            z_hat = torch.cat([z_hat, self.concealed(z_hat[..., -1:])], dim=2)
        y = memory.joined(self.receive, z_hat.transpose(1, 2), 1)
        y = self.receive(torch.cat([y[:, 1:], y[:, :-1]], dim=2))
        for block in self.synthesis:
            y = block(y, memory)
        y = self.speak(y).unflatten(2, (COLUMNS, -1)).flatten(1, 2)  # (B, 2n, 402)
        with torch.autocast(y.device.type, enabled=False):
            frames = memory.joined(self.overlap, expanded(real(y)), COLUMNS)
            x = _overlapped(frames * self.weights)
            return memory.behind(self.overlap, x, self.hop).transpose(1, 2)

    def concealed(self, before: Tensor) -> Tensor:
        """See `SpeechTransform.concealed`: the mark of loss, whatever came before."""
        return self.lost[:, None].to(before.dtype).expand(len(before), -1, 1)


def _blocks(width: int, depth: int, hidden: int, taps: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width, hidden, taps) for _ in range(depth))


def _overlapped(frames: Tensor) -> Tensor:
    """Samples (B, 160 n, 1) of n hops, of their n + 2 windowed frames (B, n + 2, 400).

    A frame begins one hop and a half before its own.
    """
    own, next_, last = frames[:, :-2], frames[:, 1:-1], frames[:, 2:]
    half, reach = HOP // 2, WINDOW - HOP
    x = own[..., reach:] + next_[..., half:reach] + F.pad(last[..., :half], (half, 0))
    return x.flatten(1)[..., None]


def bursts(batch: int, frames: int, share: float) -> Tensor:
    """Which frames (B, F) are lost, bool, drawn: of a ``share`` of the items, some."""
    rate = MOST_LOST * torch.rand(batch, 1) * (torch.rand(batch, 1) < share)
    begins = gone = torch.rand(batch, frames) < rate
    for _ in range(LONGEST - 1):
        begins = F.pad(begins, (1, 0))[:, :-1] & (torch.rand(batch, frames) < GOES_ON)
        gone = gone | begins
    return gone
