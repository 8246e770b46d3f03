# SPDX-License-Identifier: Apache-2.0
"""A long signal through a network in fixed blocks: the cut never shows.

    frames   0 ... |  l  |   block k   |  r  | ...
                   └──── window k ─────┘        -> results of block k only

Window k reaches `l` frames to the left and `r` to the right of block k, or to the ends
of the signal. Which samples a result depends on, and the shape they pass the network
in, follow from k and from where the signal ends: never from the pieces in which it
arrived. So codes are equal for any chunk length, floating point or not, memory is
bounded by a window, and a part of a signal can be had from its windows alone.

Where layers remember (`transforms.base.Memory`), frames go in one after the other and
no window is needed: `FrameStream`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from polycodec.codecs.transforms.base import Memory


class Window(NamedTuple):
    """Frames [start, stop) go in; of the results those from ``first`` on are kept."""

    start: int
    stop: int
    first: int
    last: int

    def kept(self, step: int) -> slice:
        """What is kept of results of ``step`` elements a frame."""
        first, last = self.first - self.start, self.last - self.start
        return slice(first * step, last * step)


def window_of(k: int, block: int, context: tuple[int, int], frames: int) -> Window:
    """Window k of a signal of ``frames`` frames."""
    first, end = k * block, (k + 1) * block
    start, stop = max(first - context[0], 0), min(end + context[1], frames)
    return Window(start, stop, first, min(end, frames))


class BlockStream:
    """Push pieces of a signal, get results of whole blocks as soon as they are fixed.

    ``run`` maps (C, n·step) to (D, n·out) for one window of n frames; ``step``:
    elements of the input in a frame, ``out``: of the output. Pieces have any length.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        *,
        block: int,
        context: tuple[int, int],
        step: int = 1,
        out: int = 1,
    ) -> None:
        self.run, self.block, self.context = run, block, context
        self.step, self.out = step, out
        self._next = 0  # the block to come
        self.held: Tensor | None = None  # input from frame _start on
        self._start = 0

    def push(self, piece: Tensor) -> list[Tensor]:
        """Take (C, n) more elements; return the blocks (D, block·out) now fixed."""
        held = [piece] if self.held is None else [self.held, piece]
        self.held = torch.cat(held, dim=1)
        results = []
        while self._have() >= (self._next + 1) * self.block + self.context[1]:
            results.append(self._compute(frames=1 << 62))
        # Once: a long piece has many blocks, each of which would copy the rest.
        keep = max(self._next * self.block - self.context[0], 0)
        if keep > self._start:
            self.held = self.held[:, (keep - self._start) * self.step :].clone()
            self._start = keep
        return results

    def flush(self) -> list[Tensor]:
        """End the signal at the last whole frame pushed; return what is left."""
        results = []
        frames = self._have()
        while self._next * self.block < frames:
            results.append(self._compute(frames))
        return results

    def whole(self, signal: Tensor) -> Tensor:
        """All results (D, n·out) of a signal (C, n·step) that came in one piece."""
        return torch.cat([*self.push(signal), *self.flush()], dim=1)

    def _have(self) -> int:
        held = 0 if self.held is None else self.held.shape[1]
        return self._start + held // self.step

    def _compute(self, frames: int) -> Tensor:
        window = window_of(self._next, self.block, self.context, frames)
        a, b = window.start - self._start, window.stop - self._start
        assert self.held is not None, "a window of nothing: push comes first"
        result = self.run(self.held[:, a * self.step : b * self.step])
        self._next += 1
        return result[:, window.kept(self.out)]


class FrameStream:
    """Push pieces of signals, get results of every frame as soon as it is fixed.

    ``run`` maps (..., n·step) and a memory to (..., m) for n frames; ``ahead``: frames
    that its results come late, so many of what ``rest`` makes of the last piece end a
    signal. Frames are run as they come, up to MOST at once: results may differ by the
    rounding of sums for other pieces.
    """

    MOST = 50
    block = 1

    def __init__(
        self,
        run: Callable[[Tensor, Memory], Tensor],
        *,
        step: int,
        ahead: int,
        rest: Callable[[Tensor], Tensor],
    ) -> None:
        self.run, self.step, self.ahead, self.rest = run, step, ahead, rest
        self.context = 0, ahead
        self.memory = Memory()
        self.held: Tensor | None = None
        self._frames = 0

    def push(self, piece: Tensor) -> list[Tensor]:
        """Take (..., n) more elements; return what is now fixed."""
        held = piece if self.held is None else torch.cat([self.held, piece], dim=-1)
        results, step = [], self.step
        while held.shape[-1] >= step:
            count = min(held.shape[-1] // step, self.MOST)
            results.append(self.run(held[..., : count * step], self.memory))
            held = held[..., count * step :]
            self._frames += count
        self.held = held.clone()
        return [result for result in results if result.shape[-1]]

    def flush(self) -> list[Tensor]:
        """End the signal at the last whole frame pushed; return what is left."""
        if not self._frames:
            return []
        assert self.held is not None
        end = self.rest(self.held[..., :0])
        self.held = None
        return self.push(torch.cat([end] * self.ahead, dim=-1)) if self.ahead else []

    def whole(self, signal: Tensor) -> Tensor:
        """All results of a signal that came in one piece."""
        return torch.cat([*self.push(signal), *self.flush()], dim=-1)


Stream = BlockStream | FrameStream
