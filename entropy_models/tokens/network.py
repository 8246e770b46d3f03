# SPDX-License-Identifier: Apache-2.0
"""Networks that warm-start token models: what they share, and their training.

    columns before ─► trunk ─► g_i (L, D)     level i: O_i · g_i + log order 0

A table of counts for every pair of tokens would have few counts in each entry; here
tokens share what they have in common through D numbers each. Trained in floating point
on the CPU in minutes; what codes are integers made of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.tokens.steps import delayed

WINDOW, BATCH = 128, 16  # columns of a training example, examples of a step
FULL_SHARE = 0.7  # of the examples have all levels, the others a random number


class Trunk(nn.Module):
    """Maps columns (B, L, lead + S) to g (B, S, L D), one for each of the last S.

    g at a column depends on earlier columns only. The number max(sizes) stands for "no
    token here". ``lead``: empty columns wanted before the first.
    """

    lead: int


class Perceptron(Trunk):
    """The embeddings of the last ``columns`` columns through one hidden layer."""

    def __init__(
        self, sizes: Sequence[int], *, width: int, columns: int, hidden: int
    ) -> None:
        super().__init__()
        self.lead, levels = columns, len(sizes)
        self.embed = nn.Parameter(0.3 * torch.randn(levels, max(sizes) + 1, width))
        self.up = nn.Linear(columns * levels * width, hidden)
        self.down = nn.Linear(hidden, levels * width)

    def context(self, columns: Tensor) -> Tensor:
        """Embeddings of the J columns before each: (B, L, J + S) -> (B, S, J L D)."""
        picked = [self.embed[i][plane] for i, plane in enumerate(columns.unbind(1))]
        e = torch.cat(picked, dim=2)
        j, s = self.lead, columns.shape[2] - self.lead
        return torch.cat([e[:, j - k : j - k + s] for k in range(1, j + 1)], dim=2)

    def forward(self, columns: Tensor) -> Tensor:
        return self.down(F.relu(self.up(self.context(columns))))


class TokenNetwork(nn.Module):
    """Predicts each level of a column from the columns before it."""

    order0: Tensor

    def __init__(self, sizes: Sequence[int], trunk: Trunk, width: int) -> None:
        super().__init__()
        self.sizes, self.trunk = tuple(sizes), trunk
        self.out = nn.Parameter(0.05 * torch.randn(len(sizes), max(sizes), width))
        self.register_buffer("order0", torch.zeros(len(sizes), max(sizes)))

    def forward(self, columns: Tensor, target: Tensor) -> Tensor:
        """Mean nats of the tokens of target (B, L, S), the last of columns (B, L, lead
        + S).

        Levels go one by one: with their own number of tokens, and without the columns
        that have none, a step takes half as long as with all at once.
        """
        g = self.trunk(columns).unflatten(2, (len(self.sizes), -1))
        total, known = g.new_zeros(()), target < max(self.sizes)
        for level, size in enumerate(self.sizes):
            here = known[:, level]
            logits = g[:, :, level][here] @ self.out[level, :size].T
            logits = logits + self.order0[level, :size]
            tokens = target[:, level][here]
            total = total + F.cross_entropy(logits, tokens, reduction="sum")
        return total / known.sum().clamp_min(1)


def train(
    network: TokenNetwork,
    sequences: Sequence[np.ndarray],
    *,
    steps: int,
    rate: float,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Adam on random windows of (L, F) sequences; ``progress(step, bits a token)``."""
    rng = np.random.default_rng(seed)
    fill, lead = max(network.sizes), network.trunk.lead
    stream = np.concatenate([delayed(one, fill, lead) for one in sequences], axis=1)
    short = max(0, WINDOW - stream.shape[1])
    stream = np.pad(stream, ((0, 0), (0, short)), constant_values=fill)
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    # The schedule divides by the steps of its rise less one: no number of steps makes
    # 0.11 of them one.
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        adam, rate, total_steps=steps, pct_start=min(0.11, 50 / steps)
    )
    for step in range(steps):
        columns, target = _windows(stream, network, rng)
        loss = network(columns, target)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        cycle.step()
        if progress:
            progress(step + 1, float(loss.detach()) / np.log(2))


def _windows(
    stream: np.ndarray, network: TokenNetwork, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Examples (B, L, lead + S), the first columns empty, and what to predict."""
    levels = len(network.sizes)
    starts = rng.integers(0, stream.shape[1] - WINDOW + 1, BATCH)
    parts = np.stack([stream[:, a : a + WINDOW] for a in starts])
    kept = rng.integers(1, levels + 1, BATCH)
    kept[rng.random(BATCH) < FULL_SHARE] = levels
    parts[np.arange(levels)[None] >= kept[:, None]] = max(network.sizes)
    target = torch.from_numpy(parts)
    return led(target, network), target


def led(windows: Tensor, network: TokenNetwork) -> Tensor:
    """Windows (B, L, S) with the empty columns before them that the trunk wants."""
    return F.pad(windows, (network.trunk.lead, 0), value=max(network.sizes))
