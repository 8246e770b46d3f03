# SPDX-License-Identifier: Apache-2.0
"""Coding tokens step by step, all levels of a step side by side.

    level 0    a0  a1  a2  a3  ·   ·         step s holds level i of frame s - i:
    level 1    ·   b0  b1  b2  b3  ·         one pass of the coder
    level 2    ·   ·   c0  c1  c2  c3

Levels are delayed against each other, so a step costs one pass although each token may
depend on the lower levels of its own frame (and on what those levels do next): all
earlier columns are known. A model gives integer weights, any scale, to all tokens of
all levels of a column; the weights decide the coder's tables by integer division.

Delays between levels: Copet et al. 2023, "Simple and controllable music generation"
(arXiv 2306.05284).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.priors_tokens import Indexed, binary_tables
from polycodec.entropy_models.tokens import TokenModel

SPLIT_PRECISION = 12  # BITSTREAM: of each yes or no on the way to a token
MAX_WEIGHT = 1 << 20  # sums of weights times 2^P stay far below 2^63


class Steps(Protocol):
    """A model while it goes over B sequences, column by column."""

    def weights(self, low: int, high: int) -> np.ndarray:
        """Weights (B, high - low, K) int64 of the next column's levels low … high - 1.

        At least 1 for each token of the level and 0 beyond its size.
        """

    def push(self, low: int, high: int, tokens: np.ndarray) -> None:
        """Go on: the column's tokens were (B, high - low) int64."""


class StepTokens(TokenModel):
    """Base of models that code column by column."""

    def start(self, batch: int, levels: int) -> Steps:
        """A walk over ``batch`` new sequences of ``levels`` levels."""
        raise NotImplementedError

    def code_sequence(
        self, coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """Code column after column, as the picture says."""
        batch, levels, frames = shape
        out = torch.zeros(shape, dtype=torch.int64)
        steps = self.start(batch, levels)
        for step in range(frames + levels - 1 if frames else 0):
            low, high = max(0, step - frames + 1), min(levels, step + 1)
            level = torch.arange(low, high)
            given = None if codes is None else codes[:, level, step - level]
            tokens = code_weighted(coder, given, steps.weights(low, high))
            out[:, level, step - level] = torch.from_numpy(tokens)
            steps.push(low, high, tokens)
        return out


def delayed(codes: np.ndarray, fill: int, lead: int = 0) -> np.ndarray:
    """Columns of codes (L, F): (L, lead + F + L - 1), ``fill`` where there is none."""
    levels, frames = codes.shape
    out = np.full((levels, lead + frames + levels - 1), fill, np.int64)
    for level in range(levels):
        out[level, lead + level : lead + level + frames] = codes[level]
    return out


def code_weighted(coder, tokens: Tensor | None, weights: np.ndarray) -> np.ndarray:
    """Code tokens (B, n) int64 with probabilities weights / Σ; decode when None.

    weights: (B, n, K) int64, as `Steps.weights`. A token is a path of yes or no in a
    balanced tree over its number: no frequency has to be rounded up to 1 / 2^P, however
    many tokens there are. A branch that holds no token is never asked for.  # BITSTREAM
    """
    sums = _tree(weights)
    depth = len(sums) - 1
    shape, row = weights.shape[:2], np.arange(weights.shape[0] * weights.shape[1])
    node = np.zeros(row.size, np.int64)
    tables = binary_tables(SPLIT_PRECISION)
    for d in range(1, depth + 1):
        index = split_index(*sums[d][row, node].T)
        given = None if tokens is None else (tokens >> (depth - d)) & 1
        prior = Indexed(tables, torch.from_numpy(index.reshape(shape)))
        right = coder.code(given, prior, shape)
        node = 2 * node + right.numpy().reshape(-1).astype(np.int64)
    return node.reshape(shape)


def split_index(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which of `binary_tables` says "right" with probability right / (left + right)."""
    whole = 1 << SPLIT_PRECISION
    frequency = (right << SPLIT_PRECISION) // (left + right)  # BITSTREAM
    index = np.clip(frequency, 1, whole - 1) - 1
    return np.where(right == 0, whole - 1, index).astype(np.int32)


def _tree(weights: np.ndarray) -> list[np.ndarray]:
    """Sums (B n, 2^(d-1), 2) of the branches at depth d, deepest last; [0]: of all."""
    size = weights.shape[2]
    depth = max(size - 1, 1).bit_length()
    padded = np.zeros((weights.shape[0] * weights.shape[1], 1 << depth), np.int64)
    padded[:, :size] = weights.reshape(len(padded), size)
    sums = [padded.reshape(len(padded), -1, 2)]
    for _ in range(depth):
        upper = sums[0].sum(axis=2)
        sums.insert(0, upper.reshape(len(padded), -1, min(2, upper.shape[1])))
    return sums
