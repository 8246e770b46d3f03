# SPDX-License-Identifier: Apache-2.0
"""Base of token models that learn a network and adapt: fitting, step by step.

    count tokens ─► train the network ─► integers ─► how fast to adapt, for each level,
                                                     by held-out sequences

The parts differ in their trunk only: `_trunk` makes one, `_freeze` turns it into
integers, `_context` goes over sequences with them.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.tokens.network import (
    BATCH,
    WINDOW,
    TokenNetwork,
    Trunk,
    led,
    train,
)
from polycodec.entropy_models.tokens.steps import StepTokens, delayed
from polycodec.entropy_models.tokens.walk import G_TOP, UNIT, Context, Tail, Walk, cost

TRIED_FRAMES = 500  # of a held-out sequence: as long as a file's chunk
TRIED = 16  # sequences at most
RATES = (0, 1, 2, 4, 8, 32)
COUNTS = ((10, 0), (6, 16), (7, 16), (8, 16), (9, 16), (10, 16))  # log2 tokens, share
TYPICAL = 40  # windows that fix the grids
PASSES, STEPS = 24, (800, 3200)  # over all training columns, in so many steps
WEIGHT_TOP = 127

AnyTrunk = TypeVar("AnyTrunk", bound=Trunk)


class LearnedTokens(StepTokens, Generic[AnyTrunk]):
    """``sizes``: tokens of each level; ``width``: D, numbers that stand for one."""

    rate = 4e-3  # of learning
    out: Tensor
    out_shift: Tensor
    adapt: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__(sizes)
        levels, most = len(self.sizes), max(self.sizes)
        out = torch.zeros((levels, most, width), dtype=torch.int8)
        self.register_buffer("out", out)
        self.register_buffer("out_shift", torch.zeros(levels, dtype=torch.int8))
        # Not fitted: the network says nothing, and counts learn quickly.
        start = torch.tensor([[0, 6, 16]], dtype=torch.int16)
        self.register_buffer("adapt", start.repeat(levels, 1))

    @abc.abstractmethod
    def _trunk(self) -> AnyTrunk:
        """A new trunk, in floating point."""

    @abc.abstractmethod
    def _freeze(self, trunk: AnyTrunk, typical: Tensor) -> np.ndarray:
        """Keep the trunk in integers; returns what one unit of g is, (L D,) float.

        typical: columns (N, L, lead + S) that fix the grids.
        """

    @abc.abstractmethod
    def _context(self, batch: int) -> Context:
        """The frozen trunk at the start of ``batch`` sequences."""

    def fit(
        self,
        codes: Sequence[np.ndarray],
        *,
        steps: int | None = None,
        seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Learn from training sequences (L, F); minutes on one core. Reproducible.

        ``steps``: by default 24 passes over all columns, no fewer steps than 800, no
        more than 3,200.
        """
        learned, kept = self.apart([s for s in self.sequences(codes) if s.size])
        if steps is None:
            passes = sum(s.shape[1] for s in learned) // (WINDOW * BATCH)
            steps = min(max(PASSES * passes, STEPS[0]), STEPS[1])
        super().fit(learned)
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(seed)
            trunk = self._trunk()
            network = TokenNetwork(self.sizes, trunk, self.out.shape[2])
            share = np.maximum(self._frequencies(), 2.0**-16) / 2.0**15
            network.order0.copy_(torch.from_numpy(np.log(share)))
            with torch.enable_grad():
                train(
                    network,
                    learned,
                    steps=steps,
                    rate=self.rate,
                    seed=seed,
                    progress=progress,
                )
        with torch.no_grad():
            self._keep(network, trunk, learned)
        self.adapt.copy_(torch.from_numpy(self._choose_speed(kept)))

    def start(self, batch: int, levels: int) -> Walk:
        """A walk over ``batch`` new sequences."""
        return self._walk(batch, levels, self.adapt.cpu().numpy())

    def _walk(self, batch: int, levels: int, adapt: np.ndarray) -> Walk:
        out, shift = self.out.cpu().numpy(), self.out_shift.cpu().numpy()
        tail = Tail(out, shift, self._frequencies())
        return Walk(self._context(batch), tail, batch, levels, adapt)

    def _keep(
        self, network: TokenNetwork, trunk: AnyTrunk, sequences: list[np.ndarray]
    ) -> None:
        """Turn the trained network, whose trunk it is, into integers."""
        fill, levels = max(self.sizes), len(self.sizes)
        columns = np.concatenate([delayed(one, fill) for one in sequences], axis=1)
        columns = columns[:, : WINDOW * TYPICAL]
        short = -columns.shape[1] % WINDOW
        columns = np.pad(columns, ((0, 0), (0, short)), constant_values=fill)
        windows = columns.reshape(levels, -1, WINDOW).swapaxes(0, 1)
        typical = led(torch.from_numpy(windows.copy()), network)
        unit = self._freeze(trunk, typical)
        out = network.out.double().numpy() * UNIT / np.log(2)
        out = out * unit.reshape(len(out), 1, -1)
        shift = shift_for(np.abs(out).max(axis=(1, 2)))
        out = np.rint(out * 2.0 ** shift[:, None, None])
        self.out.copy_(torch.from_numpy(out.astype(np.int8)))
        self.out_shift.copy_(torch.from_numpy(shift))

    def _frequencies(self) -> np.ndarray:
        """Order-0 frequencies (L, K) int64, 0 where a level has no such token."""
        tables = self.order0
        out = np.zeros((len(self.sizes), max(self.sizes)), np.int64)
        for level, size in enumerate(self.sizes):
            first = tables.first[level] + 1
            out[level, :size] = tables.freqs[first : first + size]
        return out

    def _choose_speed(self, sequences: list[np.ndarray]) -> np.ndarray:
        """The (L, 3) `adapt` that costs least, level by level."""
        pieces = [one[:, :TRIED_FRAMES] for one in sequences[:TRIED]]
        best = np.array([[0, 10, 0]] * len(self.sizes))
        for column, choices in ((slice(0, 1), RATES), (slice(1, 3), COUNTS)):
            trials = np.repeat(best[None], len(choices), axis=0)
            trials[:, :, column] = np.array(choices).reshape(len(choices), 1, -1)
            adapt = np.repeat(trials, len(pieces), axis=0)
            walk = self._walk(len(adapt), len(self.sizes), adapt)
            bits = cost(walk, pieces * len(trials))
            bits = bits.reshape(len(trials), len(pieces), -1).sum(axis=1)
            best = trials[np.argmin(bits, axis=0), np.arange(len(best))]
        return best


def shift_for(largest: np.ndarray) -> np.ndarray:
    """Powers of two by which rows of this ``largest`` size just fit int8."""
    shift = np.floor(np.log2(WEIGHT_TOP / (largest + 1e-12)))
    return np.clip(shift, -6, 20).astype(np.int8)


def unit_of(values: Tensor, top: int = G_TOP, quantile: float = 0.9995) -> np.ndarray:
    """What one of ``top`` units of each column of values (n, C) is, (C,) float64."""
    rows = values.abs().double().numpy()
    return (np.quantile(rows, quantile, axis=0) + 1e-3) / top
