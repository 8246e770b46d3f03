# SPDX-License-Identifier: Apache-2.0
"""From g to logits in integers, and how a model adapts while it codes.

    logit_i[k] = ⌊O_i[k]·(g_i + r_i) / 2^s⌋ + 32 log2 f_i[k] + c_i[k]     in 1/32 bit

O (int8) and f (order-0 frequencies) come from training, g_i from a context: the part
that looks at earlier columns. Two things adapt, from nothing in every sequence:

    r_i ← r_i + rate · (O_i[v] - Σ_k p_k O_i[k])     the gradient of log p(v)
    c_i[k] = share · log2((A_k + n_k) / A_k)         n_k: how often k came, A_k ∝ f_i[k]

Sums of products stay below 2^24, so that float32 carries them exactly whatever the
order; all else is int64. Every machine has the same logits.  # BITSTREAM, all of it
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from polycodec.entropy_models.exact.functions import (
    LOG_SIZE,
    UNIT,
    log_table,
    power_table,
)
from polycodec.entropy_models.tokens.steps import delayed

NEVER = -(1 << 15)  # logit of a token that its level has not
LEAST = 1 - (1 << 15)  # logit of all others, at least
G_TOP = 127
R_SHIFT = 6  # r is kept in 1/64 of g's unit
R_LIMIT = 64  # of |r|
COUNT_UNIT = 16  # of one token in A and n


class Context(Protocol):
    """What a network's frozen trunk knows of B sequences."""

    def next(self) -> np.ndarray:
        """g of the next column, (B, L, D), whole numbers in -127 … 127."""

    def push(self, column: np.ndarray) -> None:
        """The column was (B, L) int64, max(sizes) where there is no token."""


class Tail:
    """O and f, laid out for coding.

    out: (L, K, D) int8. shift: (L,) integers. frequencies: (L, K) int64, 0 where a
    level has no such token.
    """

    def __init__(
        self, out: np.ndarray, shift: np.ndarray, frequencies: np.ndarray
    ) -> None:
        self.levels, self.most, self.width = out.shape
        narrow = self.width * (G_TOP + R_LIMIT) * 128 <= 1 << 24
        self.out = out.astype(np.float32 if narrow else np.float64)
        self.out_wide = out.astype(np.float64)
        self.scale = np.ldexp(self.out.dtype.type(1), -shift.astype(np.int32))
        self.frequencies, self.missing = frequencies, frequencies == 0
        self.order0 = log_table()[frequencies]


class Walk:
    """A context and a tail on their way over B sequences, adapting. See `Steps`.

    adapt: (L, 3), or (B, L, 3): rate of r, log2 of how many tokens A stands for, share
    of c in 1/16.
    """

    def __init__(
        self, context: Context, tail: Tail, batch: int, levels: int, adapt: np.ndarray
    ) -> None:
        self.context, self.t, self.batch = context, tail, batch
        adapt = adapt.astype(np.int64)[..., :levels, :]
        self.adapt = np.broadcast_to(adapt, (batch, levels, 3))
        self.r = np.zeros((batch, levels, tail.width), np.int64)
        weight = tail.frequencies[:levels] << self.adapt[..., 1:2]
        self.seen = np.clip(weight * COUNT_UNIT >> 15, 1, LOG_SIZE - 1)
        self.before = log_table()[self.seen]
        self.bias = np.tile(tail.order0[:levels], (batch, 1, 1))
        self.row = np.arange(batch)[:, None]
        self.below: np.ndarray | None = None

    def logits(self, low: int, high: int) -> np.ndarray:
        """Logits (B, high - low, K) int16 of the next column; 0 is the largest."""
        t = self.t
        g = self.context.next()[:, low:high] + (self.r[:, low:high] >> R_SHIFT)
        z = t.out[low:high] @ g.astype(t.out.dtype)[..., None]  # (B, n, K, 1)
        z = np.floor(z[..., 0] * t.scale[low:high, None]).astype(np.int64)
        z += self.bias[:, low:high]
        z[:, t.missing[low:high]] = -(1 << 40)
        z -= z.max(axis=2, keepdims=True)
        self.below = z
        return np.where(t.missing[low:high], NEVER, np.maximum(z, LEAST)).astype(
            np.int16
        )

    def push(self, low: int, high: int, tokens: np.ndarray) -> None:
        """Go on, and adapt to the tokens (B, high - low) of the column."""
        column = np.full((self.batch, self.t.levels), self.t.most)
        column[:, low:high] = tokens
        self.context.push(column)
        self._adapt_hidden(low, high, tokens)
        self._adapt_counts(np.arange(low, high), tokens)

    def _adapt_hidden(self, low: int, high: int, tokens: np.ndarray) -> None:
        assert self.below is not None, "logits come before push"
        powers, level = power_table(), np.arange(low, high)
        p = powers[np.minimum(-self.below, len(powers) - 1)]
        # At most 2^18 · 2^12 · 2^7: whole in float64.
        mean = (p[:, :, None].astype(np.float64) @ self.t.out_wide[low:high])[:, :, 0]
        mean = (mean.astype(np.int64) << 4) // p.sum(axis=2)[..., None]
        seen = self.t.out[level, tokens].astype(np.int64) << 4
        rate, limit = self.adapt[:, low:high, 0:1], R_LIMIT << R_SHIFT
        moved = self.r[:, low:high] + (rate * (seen - mean) >> 4)
        self.r[:, low:high] = np.clip(moved, -limit, limit)

    def _adapt_counts(self, level: np.ndarray, tokens: np.ndarray) -> None:
        at = self.row, level, tokens
        count = np.minimum(self.seen[at] + COUNT_UNIT, LOG_SIZE - 1)
        self.seen[at] = count
        gain = self.adapt[:, level, 2] * (log_table()[count] - self.before[at]) >> 4
        self.bias[at] = self.t.order0[level, tokens] + gain


def cost(walk: Walk, pieces: list[np.ndarray]) -> np.ndarray:
    """Bits (n, L) of n sequences (L, F), side by side in a walk over them."""
    columns = [delayed(one, -1) for one in pieces]
    length = max(one.shape[1] for one in columns)
    columns = [
        np.pad(one, ((0, 0), (0, length - one.shape[1])), constant_values=-1)
        for one in columns
    ]
    tokens = np.stack(columns)  # (n, L, S)
    bits = np.zeros(tokens.shape[:2])
    for column in np.moveaxis(tokens, 2, 0):
        logits = walk.logits(0, tokens.shape[1]).astype(np.float64) / UNIT
        known = np.maximum(column, 0)
        got = np.take_along_axis(logits, known[..., None], 2)[..., 0]
        loss = np.log2(np.exp2(logits).sum(axis=2)) - got
        bits += np.where(column >= 0, loss, 0)
        walk.push(0, tokens.shape[1], known)
    return bits
