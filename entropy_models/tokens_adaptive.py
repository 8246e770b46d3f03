# SPDX-License-Identifier: Apache-2.0
"""The default for tokens: integers that learned on training speech, and go on learning.

A small integer network (tokens_integers.py) looks at the last columns of tokens and
gives all tokens of the next column their weights; while coding, it follows the file it
codes. Sequences are short, a few hundred frames, so the warm start brings most of the
gain and adaptation the rest. How fast a level adapts was chosen by what held-out
training sequences cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from polycodec.entropy_models.tokens_integers import Frozen, Walk, quantized
from polycodec.entropy_models.tokens_network import TokenNetwork, train
from polycodec.entropy_models.tokens_steps import StepTokens, delayed
from polycodec.registry import register

NETWORK = ("embed", "up", "up_bias", "up_shift", "down", "down_bias", "down_shift")
NETWORK = (*NETWORK, "out", "out_shift")
HELD_OUT = 12  # of so many training sequences, one chooses the speed of adaptation
TRIED_FRAMES = 500  # of a held-out sequence: as long as a file's chunk
TRIED = 16  # sequences at most
RATES = (0, 2, 4, 8, 16, 32)
COUNTS = ((10, 0), (6, 16), (7, 16), (8, 16), (9, 16), (10, 16))  # log2 tokens, share


@register("entropy/tokens-adaptive")
class AdaptiveTokens(StepTokens):
    """``sizes``: tokens of each level; ``width``: numbers that stand for a token;
    ``columns``: how far back; ``hidden``: width of the network."""

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        width: int = 16,
        columns: int = 4,
        hidden: int = 256,
    ) -> None:
        super().__init__(sizes)
        self.options = {"width": width, "columns": columns, "hidden": hidden}
        levels, largest = len(self.sizes), max(self.sizes)
        shapes = {
            "embed": (levels, largest + 1, width),
            "up": (hidden, columns * levels * width),
            "up_bias": (hidden,),
            "up_shift": (hidden,),
            "down": (levels * width, hidden),
            "down_bias": (levels * width,),
            "down_shift": (levels * width,),
            "out": (levels, largest, width),
            "out_shift": (levels,),
        }
        for name, shape in shapes.items():
            dtype = torch.int32 if name.endswith("bias") else torch.int8
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        # Not fitted: a network of zeros, and counts that learn quickly.
        start = torch.tensor([[0, 6, 16]], dtype=torch.int16)
        self.register_buffer("adapt", start.repeat(levels, 1))

    def fit(
        self,
        codes: Sequence[np.ndarray],
        *,
        steps: int = 1000,
        seed: int = 0,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Learn from training sequences (L, F); minutes on one core. Reproducible."""
        sequences = [one for one in self.sequences(codes) if one.size]
        kept = sequences[HELD_OUT - 1 :: HELD_OUT]
        learned = [s for i, s in enumerate(sequences) if i % HELD_OUT != HELD_OUT - 1]
        super().fit(learned)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = TokenNetwork(self.sizes, **self.options)
        frequencies = self._frequencies()
        log = np.log(np.maximum(frequencies, 2.0**-16) / 2.0**15)
        network.order0.copy_(torch.from_numpy(log))
        train(network, learned, steps=steps, seed=seed, progress=progress)
        sample = [
            delayed(one, max(self.sizes), network.columns) for one in learned[:40]
        ]
        typical = torch.from_numpy(np.concatenate(sample, axis=1))[None]
        for name, value in quantized(network, typical).items():
            getattr(self, name).copy_(torch.from_numpy(value))
        self.adapt.copy_(torch.from_numpy(self._choose_speed(kept or learned)))

    def start(self, batch: int, levels: int) -> Walk:
        """A walk over ``batch`` new sequences."""
        return Walk(self._frozen(), batch, levels, self.adapt.cpu().numpy())

    def _frozen(self) -> Frozen:
        integers = {name: getattr(self, name).cpu().numpy() for name in NETWORK}
        return Frozen(integers, self._frequencies())

    def _frequencies(self) -> np.ndarray:
        """Order-0 frequencies (L, K) int64, 0 where a level has no such token."""
        tables = self.tables["order0"]
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
            cost = self._cost(pieces, trials)
            best = trials[np.argmin(cost, axis=0), np.arange(len(best))]
        return best

    def _cost(self, pieces: list[np.ndarray], trials: np.ndarray) -> np.ndarray:
        """Bits of each level over the pieces, (T, L), for (T, L, 3) ways to adapt."""
        tried, levels = len(trials), len(self.sizes)
        columns = [delayed(one, -1) for one in pieces]
        length = max(one.shape[1] for one in columns)
        columns = [
            np.pad(one, ((0, 0), (0, length - one.shape[1])), constant_values=-1)
            for one in columns
        ]
        tokens = np.concatenate([np.stack(columns)] * tried)  # (T n, L, S)
        adapt = np.repeat(trials, len(pieces), axis=0)
        walk = Walk(self._frozen(), len(tokens), levels, adapt)
        bits = np.zeros((len(tokens), levels))
        for column in np.moveaxis(tokens, 2, 0):
            weights = walk.weights(0, levels)
            known = np.maximum(column, 0)
            got = np.take_along_axis(weights, known[..., None], 2)[..., 0]
            share = np.maximum(got, 1) / weights.sum(axis=2)
            bits -= np.where(column >= 0, np.log2(share), 0)
            walk.push(0, levels, known)
        return bits.reshape(tried, len(pieces), levels).sum(axis=1)
