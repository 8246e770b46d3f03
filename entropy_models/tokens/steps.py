# SPDX-License-Identifier: Apache-2.0
"""Coding tokens step by step, all levels of a step side by side.

    level 0    a0  a1  a2  a3  ·   ·         step s holds level i of frame s - i:
    level 1    ·   b0  b1  b2  b3  ·         one pass of the coder
    level 2    ·   ·   c0  c1  c2  c3

Levels are delayed against each other, so a step costs one pass although each token may
depend on the lower levels of its own frame (and on what those levels do next): all
earlier columns are known. A model gives each token of each level of a column an integer
logit, and the coder's categorical prior turns logits into frequencies, in integers.

Delays between levels: Copet et al. 2023, "Simple and controllable music generation"
(arXiv 2306.05284).
"""

from __future__ import annotations

import abc
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.base import Coder
from polycodec.entropy_models.priors.categorical import Categorical
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.errors import BitstreamError

MOST = 4096  # tokens of a level that the coder's categorical prior can tell apart


class Steps(Protocol):
    """A model while it goes over B sequences, column by column."""

    def logits(self, low: int, high: int) -> np.ndarray:
        """Logits (B, high - low, K) int16 of the next column's levels low … high - 1.

        log2 of a probability in 1/32 bit, of any offset.
        """

    def push(self, low: int, high: int, tokens: np.ndarray) -> None:
        """Go on: the column's tokens were (B, high - low) int64."""


class StepTokens(TokenModel):
    """Base of models that code column by column."""

    largest = MOST

    @abc.abstractmethod
    def start(self, batch: int, levels: int) -> Steps:
        """A walk over ``batch`` new sequences of ``levels`` levels."""

    def code_sequence(
        self, coder: Coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """Code column after column, as the picture says."""
        batch, levels, frames = shape
        out = torch.zeros(shape, dtype=torch.int64)
        steps = self.start(batch, levels)
        for step in range(frames + levels - 1 if frames else 0):
            low, high = max(0, step - frames + 1), min(levels, step + 1)
            level = torch.arange(low, high)
            given = None if codes is None else codes[:, level, step - level]
            prior = Categorical(steps.logits(low, high))
            coded = coder.code(given, prior, (batch, high - low)).to(torch.int64)
            self._check_column(coded, low)
            out[:, level, step - level] = coded
            steps.push(low, high, coded.numpy())
        return out

    def _check_column(self, coded: Tensor, low: int) -> None:
        """Levels share a pass: a damaged stream may name what a smaller one lacks."""
        sizes = torch.tensor(self.sizes[low : low + coded.shape[1]])
        if bool((coded >= sizes).any()):
            raise BitstreamError(
                "the stream holds a token outside its codebook; it is corrupt, or was "
                "coded with other weights"
            )


def delayed(codes: np.ndarray, fill: int, lead: int = 0) -> np.ndarray:
    """Columns of codes (L, F): (L, lead + F + L - 1), ``fill`` where there is none."""
    levels, frames = codes.shape
    out = np.full((levels, lead + frames + levels - 1), fill, np.int64)
    for level in range(levels):
        out[level, lead + level : lead + level + frames] = codes[level]
    return out
