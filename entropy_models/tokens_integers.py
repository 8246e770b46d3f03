# SPDX-License-Identifier: Apache-2.0
"""The token network in integers, and how it adapts while coding.

    x = E[last J columns]            (J L D)  |x| <= 127
    h = clip(⌊(W1 x + b1) / 2^s1⌋, 0, 255)    g = clip(⌊(W2 h + b2) / 2^s2⌋, ±127)
    logit_i[k] = ⌊O_i[k]·(g_i + r_i) / 2^s3⌋ + 64 log2 f_i[k] + c_i[k]    in 1/64 bit
    weight     = 2^20 · 2^((logit - largest) / 64), at least 1             by table

Two things adapt, from nothing at the start of every sequence:

    r_i ← r_i + rate · (O_i[v] - Σ_k p_k O_i[k])     the gradient of log p(v)
    c_i[k] = share · log2((A_k + n_k) / A_k)         n_k: how often k came, A_k ∝ f_i[k]

Weights are int8. Sums of products stay below 2^24, so that float32 carries them exactly
whatever the order (2^53 and float64 for wide networks); all else is int64. Every
machine gets the same weights, hence the same tables.  # BITSTREAM, all of it
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from polycodec.entropy_models.tokens_network import TokenNetwork
from polycodec.errors import ModelError

UNIT = 64  # logits count in 1/64 bit
TOP_BITS = 20  # the largest weight is 2^20
INPUT_TOP, HIDDEN_TOP, WEIGHT_TOP, BIAS_TOP = 127, 255, 127, 1 << 22
ADAPT_SHIFT = 6  # r is kept in 1/64 of g's unit
ADAPT_LIMIT = 64  # of |r|
COUNT_UNIT = 16  # of one token in A and n
LOG_SIZE = 1 << 16
PEAK_QUANTILE = 0.9995  # of activations: what is larger is clipped
CALIBRATION = 4096  # columns
NATS = UNIT / np.log(2)


@functools.cache
def log_table() -> np.ndarray:
    """64 log2 i, rounded, for i = 0 (as 1) … 65535, int64."""
    return np.rint(UNIT * np.log2(np.maximum(np.arange(LOG_SIZE), 1))).astype(np.int64)


@functools.cache
def power_table() -> np.ndarray:
    """2^20 · 2^(-i / 64), rounded, for i = 0 … 1280, int64: 2^20 … 1."""
    steps = np.arange(UNIT * TOP_BITS + 1)
    return np.rint(2.0 ** (TOP_BITS - steps / UNIT)).astype(np.int64)


def quantized(network: TokenNetwork, columns: torch.Tensor) -> dict[str, np.ndarray]:
    """The network's integers; ``columns`` (1, L, S) are typical ones.

    embed (L, K+1, D), up (H, J L D), down (L D, H), out (L, K, D) int8; up_bias (H,),
    down_bias (L D,) int32; up_shift, down_shift, out_shift (L,) int8.
    """
    with torch.no_grad():
        x = network.context(columns)
        a = torch.relu(network.up(x))
        peak_h = _peaks(a)
        peak_g = _peaks(network.down(a).abs())
    embed, out = _array(network.embed), _array(network.out)
    levels, _, width = embed.shape
    unit = np.abs(embed).max(axis=1) / INPUT_TOP + 1e-12  # (L, D)
    up = _array(network.up.weight) * np.tile(unit.reshape(-1), network.columns)
    up, up_shift, up_bias = _rows(
        up * (HIDDEN_TOP / peak_h)[:, None],
        _array(network.up.bias) * HIDDEN_TOP / peak_h,
    )
    down, down_shift, down_bias = _rows(
        _array(network.down.weight)
        * (peak_h / HIDDEN_TOP)
        * (INPUT_TOP / peak_g)[:, None],
        _array(network.down.bias) * INPUT_TOP / peak_g,
    )
    out = out * (peak_g / INPUT_TOP).reshape(levels, 1, width) * NATS
    out_shift = _shift(np.abs(out).max(axis=(1, 2)))
    return {
        "embed": np.rint(embed / unit[:, None]).astype(np.int8),
        "up": up,
        "up_bias": up_bias,
        "up_shift": up_shift,
        "down": down,
        "down_bias": down_bias,
        "down_shift": down_shift,
        "out": np.rint(out * 2.0 ** out_shift[:, None, None]).astype(np.int8),
        "out_shift": out_shift,
    }


def _peaks(values: torch.Tensor) -> np.ndarray:
    rows = values.flatten(0, -2)[-CALIBRATION:]
    return np.quantile(_array(rows), PEAK_QUANTILE, axis=0) + 1e-3


def _rows(
    weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows as int8, each with its shift, and the bias with a half for rounding."""
    shift = _shift(np.abs(weight).max(axis=1))
    # Beside rows that are nearly zero, the bias alone must fit.
    room = np.floor(np.log2(BIAS_TOP / (np.abs(bias) + 1.0))).astype(np.int8)
    shift = np.minimum(shift, room)
    grid = 2.0**shift
    rounded = np.rint(weight * grid[:, None]).astype(np.int8)
    return rounded, shift, np.floor((bias + 0.5) * grid).astype(np.int32)


def _shift(largest: np.ndarray) -> np.ndarray:
    shift = np.floor(np.log2(WEIGHT_TOP / (largest + 1e-12)))
    return np.clip(shift, -6, 20).astype(np.int8)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


class Frozen:
    """The integers, laid out for coding. ``frequencies``: order 0, (L, K) int64."""

    def __init__(
        self, integers: dict[str, np.ndarray], frequencies: np.ndarray
    ) -> None:
        bounds = (
            integers["up"].shape[1] * INPUT_TOP * 128 + BIAS_TOP,
            integers["down"].shape[1] * HIDDEN_TOP * 128 + BIAS_TOP,
            integers["out"].shape[2] * (INPUT_TOP + ADAPT_LIMIT) * 128,
        )
        self.dtype = np.float32 if max(bounds) <= 1 << 24 else np.float64
        biases = (integers["up_bias"], integers["down_bias"])
        shifts = [integers[name] for name in ("up_shift", "down_shift", "out_shift")]
        if max(np.abs(b.astype(np.int64)).max() for b in biases) > BIAS_TOP or any(
            s.min() < -32 or s.max() > 32 for s in shifts
        ):
            raise ModelError(
                "the integers of the token network leave their range; the weights file "
                "is damaged: get it again"
            )
        carry = functools.partial(np.asarray, dtype=self.dtype)
        self.embed = carry(integers["embed"])
        self.up = np.ascontiguousarray(carry(integers["up"]).T)
        self.down = np.ascontiguousarray(carry(integers["down"]).T)
        self.biases = tuple(carry(bias) for bias in biases)
        self.scales = tuple(carry(2.0 ** -s.astype(np.float64)) for s in shifts)
        self.out = carry(integers["out"])  # (L, K, D)
        self.levels, self.largest, self.width = self.out.shape
        self.columns = self.up.shape[0] // (self.levels * self.width)
        self.frequencies = frequencies
        self.exists = frequencies > 0
        self.prior = log_table()[frequencies]


class Walk:
    """Frozen integers on their way over B sequences, adapting. See `Steps`.

    adapt: (L, 3), or (B, L, 3): rate of r, log2 of how many tokens A stands for, share
    of c in 1/16.
    """

    def __init__(
        self, frozen: Frozen, batch: int, levels: int, adapt: np.ndarray
    ) -> None:
        self.f = frozen
        adapt = adapt.astype(np.int64)[..., :levels, :]
        self.adapt = np.broadcast_to(adapt, (batch, levels, 3))
        empty = frozen.embed[:, -1].reshape(-1)
        self.recent = np.tile(empty, (batch, frozen.columns))
        shape = (batch, levels, frozen.largest)
        self.r = np.zeros((batch, levels, frozen.width), np.int64)
        weight = frozen.frequencies[:levels] << self.adapt[..., 1:2]
        self.seen = np.clip(weight * COUNT_UNIT >> 15, 1, LOG_SIZE - 1)
        self.before = log_table()[self.seen]
        self.bias = self.f.prior[:levels] + np.zeros(shape, np.int64)
        self.power: np.ndarray | None = None

    def weights(self, low: int, high: int) -> np.ndarray:
        """Weights (B, high - low, K) of the next column."""
        f = self.f
        (up_bias, down_bias), (up, down, out) = f.biases, f.scales
        h = np.clip(np.floor((self.recent @ f.up + up_bias) * up), 0, HIDDEN_TOP)
        g = np.clip(np.floor((h @ f.down + down_bias) * down), -INPUT_TOP, INPUT_TOP)
        g = g.reshape(len(g), f.levels, f.width)[:, low:high]
        g = g + (self.r[:, low:high] >> ADAPT_SHIFT)
        z = f.out[low:high] @ g.astype(f.dtype)[..., None]  # (B, n, K, 1)
        logit = np.floor(z[..., 0] * out[low:high, None]).astype(np.int64)
        logit += self.bias[:, low:high]
        logit[:, ~f.exists[low:high]] = -(1 << 40)
        below = logit.max(axis=2, keepdims=True) - logit
        weights = power_table()[np.minimum(below, UNIT * TOP_BITS)]
        self.power = weights * f.exists[low:high]
        return self.power

    def push(self, low: int, high: int, tokens: np.ndarray) -> None:
        """Go on, and adapt to the tokens (B, high - low) of the column."""
        f, batch, level = self.f, np.arange(len(tokens))[:, None], np.arange(low, high)
        empty = f.embed[:, -1]
        column = np.repeat(empty[None], len(tokens), axis=0)
        column[:, low:high] = f.embed[level, tokens]
        size = column[0].size
        self.recent[:, size:] = self.recent[:, :-size].copy()
        self.recent[:, :size] = column.reshape(len(tokens), -1)
        self._adapt_hidden(batch, level, tokens)
        self._adapt_counts(batch, level, tokens)

    def _adapt_hidden(self, batch: np.ndarray, level: np.ndarray, tokens) -> None:
        total = self.power.sum(axis=2)[..., None]
        # At most 2^20 · 2^13 · 2^7: whole in float64.
        mean = (self.power[:, :, None].astype(np.float64) @ self.f.out[level])[:, :, 0]
        mean = (mean.astype(np.int64) << 4) // total
        seen = self.f.out[level, tokens].astype(np.int64) << 4
        rate = self.adapt[:, level, 0:1]
        limit = ADAPT_LIMIT << ADAPT_SHIFT
        moved = self.r[:, level] + ((rate * (seen - mean)) >> 4)
        self.r[:, level] = np.clip(moved, -limit, limit)

    def _adapt_counts(self, batch: np.ndarray, level: np.ndarray, tokens) -> None:
        count = self.seen[batch, level, tokens] + COUNT_UNIT
        self.seen[batch, level, tokens] = np.minimum(count, LOG_SIZE - 1)
        gain = log_table()[np.minimum(count, LOG_SIZE - 1)]
        gain = gain - self.before[batch, level, tokens]
        share = self.adapt[:, level, 2] * gain >> 4
        self.bias[batch, level, tokens] = self.f.prior[level, tokens] + share
