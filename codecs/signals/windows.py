# SPDX-License-Identifier: Apache-2.0
"""A long signal through a network in fixed blocks: the cut never shows.

    frames   0 ... |  l  |   block k   |  r  | ...
                   └──── window k ─────┘        -> results of block k only

Window k reaches `l` frames to the left and `r` to the right of block k, or to the ends
of the signal. Which samples a result depends on, and the shape they pass the network
in, follow from k and from where the signal ends: never from the pieces in which it
arrived. So codes are equal for any chunk length, floating point or not, memory is
bounded by a window, and a part of a signal can be had from its windows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) go in; of the results [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def kept(self) -> slice:
        """The kept frames, counted from ``start``."""
        return slice(self.first - self.start, self.last - self.start)


def window_of(k: int, block: int, context: tuple[int, int], frames: int) -> Window:
    """Window k of a signal of ``frames`` frames."""
    first, last = k * block, min((k + 1) * block, frames)
    left, right = context
    stop = min((k + 1) * block + right, frames)
    return Window(max(first - left, 0), stop, first, last)


def windows(frames: int, block: int, context: tuple[int, int]) -> Iterator[Window]:
    """All windows of a signal."""
    for k in range(-(-frames // block)):
        yield window_of(k, block, context, frames)


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
        self._held: Tensor | None = None  # input from frame _start on
        self._start = 0

    @property
    def delay(self) -> int:
        """Frames that must have arrived before the first result leaves."""
        return self.block + self.context[1]

    def push(self, piece: Tensor) -> list[Tensor]:
        """Take (C, n) more elements; return the blocks (D, block·out) now fixed."""
        if self._held is None:
            self._held = piece
        else:
            self._held = torch.cat([self._held, piece], dim=1)
        results = []
        while self._have() >= (self._next + 1) * self.block + self.context[1]:
            results.append(self._compute(frames=1 << 62))
        return results

    def flush(self) -> list[Tensor]:
        """End the signal at the last whole frame pushed; return what is left."""
        results = []
        frames = self._have()
        while self._next * self.block < frames:
            results.append(self._compute(frames))
        return results

    def _have(self) -> int:
        held = 0 if self._held is None else self._held.shape[1]
        return self._start + held // self.step

    def _compute(self, frames: int) -> Tensor:
        window = window_of(self._next, self.block, self.context, frames)
        a, b = window.start - self._start, window.stop - self._start
        held = self._held
        assert held is not None, "a window of nothing: push comes first"
        given = held[:, a * self.step : b * self.step]
        kept = window.kept
        result = self.run(given)[:, kept.start * self.out : kept.stop * self.out]
        self._next += 1
        keep = max(self._next * self.block - self.context[0], 0)
        if keep > self._start:
            self._held = held[:, (keep - self._start) * self.step :].clone()
            self._start = keep
        return result
