# SPDX-License-Identifier: Apache-2.0
"""The small network that warm-starts the adaptive token model: its training.

    E[code] of the last J columns ─► W1, ReLU ─► W2 ─► g_i (L, D)
    logits of level i  =  O_i · g_i + log(order 0)

A table of counts for every pair of tokens would have few counts in each entry; here
tokens share what they have in common through D numbers each. Trained in floating point
on the CPU in a minute or two, then turned into integers (tokens_integers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.entropy_models.tokens_steps import delayed

WINDOW, BATCH = 128, 16  # columns of a training example, examples of a step
LEARNING_RATE = 4e-3
FULL_SHARE = 0.7  # of the examples have all levels, the others a random number


class TokenNetwork(nn.Module):
    """Logits of each level of a column from the columns before it."""

    def __init__(
        self, sizes: Sequence[int], *, width: int, columns: int, hidden: int
    ) -> None:
        super().__init__()
        levels, largest = len(sizes), max(sizes)
        self.sizes, self.columns = tuple(sizes), columns
        # Number `largest` stands for "no token here", at any level.
        self.embed = nn.Parameter(0.3 * torch.randn(levels, largest + 1, width))
        self.out = nn.Parameter(0.05 * torch.randn(levels, largest, width))
        self.up = nn.Linear(columns * levels * width, hidden)
        self.down = nn.Linear(hidden, levels * width)
        self.register_buffer("order0", torch.zeros(levels, largest))

    def context(self, columns: Tensor) -> Tensor:
        """Embeddings of the J columns before each: (B, L, J + S) -> (B, S, J L D)."""
        picked = [self.embed[i][plane] for i, plane in enumerate(columns.unbind(1))]
        e = torch.cat(picked, dim=2)
        j, s = self.columns, columns.shape[2] - self.columns
        return torch.cat([e[:, j - k : j - k + s] for k in range(1, j + 1)], dim=2)

    def forward(self, columns: Tensor) -> Tensor:
        """Logits (B, L, S, K) of the last S of (B, L, J + S) columns."""
        g = self.down(F.relu(self.up(self.context(columns))))
        g = g.unflatten(2, (len(self.sizes), -1))
        return torch.einsum("bsld,lkd->blsk", g, self.out) + self.order0[:, None]


def train(
    network: TokenNetwork,
    sequences: Sequence[np.ndarray],
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Adam on random windows of (L, F) sequences; ``progress(step, bits a token)``."""
    rng = np.random.default_rng(seed)
    fill = max(network.sizes)
    stream = np.concatenate(
        [delayed(one, fill, network.columns) for one in sequences], 1
    )
    short = max(0, WINDOW + network.columns - stream.shape[1])
    stream = np.pad(stream, ((0, 0), (0, short)), constant_values=fill)
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    cosine = torch.optim.lr_scheduler.OneCycleLR(
        adam, LEARNING_RATE, total_steps=steps, pct_start=min(0.1, 50 / steps)
    )
    for step in range(steps):
        columns, target = _windows(stream, network, rng)
        logits = network(columns)
        loss = F.cross_entropy(
            logits.flatten(0, 2), target.flatten(), ignore_index=fill
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        cosine.step()
        if progress:
            progress(step + 1, float(loss.detach()) / np.log(2))


def _windows(
    stream: np.ndarray, network: TokenNetwork, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Examples (B, L, J + S), the first J columns empty, and what to predict."""
    fill, levels = max(network.sizes), len(network.sizes)
    starts = rng.integers(0, stream.shape[1] - WINDOW + 1, BATCH)
    parts = np.stack([stream[:, a : a + WINDOW] for a in starts])
    kept = rng.integers(1, levels + 1, BATCH)
    kept[rng.random(BATCH) < FULL_SHARE] = levels
    parts[np.arange(levels)[None] >= kept[:, None]] = fill
    target = torch.from_numpy(parts)
    return F.pad(target, (network.columns, 0), value=fill), target
