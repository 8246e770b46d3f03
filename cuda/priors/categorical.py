# SPDX-License-Identifier: Apache-2.0
"""Distributions over a small alphabet from integer logits, as a network emits them.

    x_k   logit of value k = 0 .. A-1, log2 of a probability, in 1/32 bit
    d_k   = max x - x_k
    e_k   = POWERS[d_k mod 32] >> min(d_k / 32, 31)      2^18 * 2^(-d_k / 32)
    c(k)  = (e_0 + ... + e_(k-1)) * (2^15 - A) / (e_0 + ... + e_(A-1)) + k

All integers, divisions rounded down, products below 2^45. Every value has a slot, slot
k is value k, and there is no escape. The 1 that each slot has at least costs about
1.44 A / 2^15 bits a symbol: 0.011 for 256 values, 0.045 for 1024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polycodec.cuda.priors.integer_cdf import (
    PRECISION,
    WHOLE,
    Expanded,
    Intervals,
    as_array,
    integers,
    within,
)
from polycodec.errors import InputError

LOGIT_UNIT = 32  # BITSTREAM: logits in 1/32 bit
MAX_VALUES = 4096  # BITSTREAM
# BITSTREAM: round(2^(18 - f / 32))
POWERS = np.array(
    [
        *(262144, 256527, 251030, 245651, 240387, 235236, 230195, 225263),
        *(220436, 215712, 211090, 206567, 202141, 197809, 193571, 189423),
        *(185364, 181392, 177505, 173701, 169979, 166337, 162773, 159285),
        *(155872, 152532, 149263, 146065, 142935, 139872, 136875, 133942),
    ],
    np.uint32,
)
POWERS.flags.writeable = False


def powers(logits: np.ndarray) -> np.ndarray:
    """Return e_k of logits (..., A), int64: 2^18 for the largest."""
    d = logits.max(axis=-1, keepdims=True).astype(np.int64) - logits
    return POWERS[d % LOGIT_UNIT].astype(np.int64) >> np.minimum(d // LOGIT_UNIT, 31)


def shares(logits: Any, total: int) -> np.ndarray:
    """Return integers (..., A) int64, 1 at least, that sum to ``total``.

    In proportion to 2^(logit / 32), by the rule of c(k) above with ``total`` for 2^15:
    so a network's integers become weights of a mixture, exactly. Raises InputError for
    a total below A.
    """
    logits = as_array(logits, "logits")
    if logits.dtype.kind not in "iu" or not (logits.ndim and logits.shape[-1]):
        raise InputError(
            f"logits of {logits.dtype}, shape {logits.shape}; expected integers, at "
            "least one for each share"
        )
    e = powers(logits)
    sums, size = np.cumsum(e, axis=-1), e.shape[-1]
    if not size <= total <= 1 << 44:  # products stay below 2^63
        raise InputError(
            f"a total of {total} for {size} shares; expected {size} or more, for each "
            "is 1 at least, and 2^44 at most"
        )
    below = sums * (total - size) // sums[..., -1:]
    return np.diff(below, axis=-1, prepend=0) + 1


@dataclass(frozen=True, eq=False)
class Categorical:
    """The distributions of n symbols over the values 0 .. A-1.

    logits: (n, A) int16, log2 probability in 1/32 bit, of any offset; A is 1..4096

    A NumPy array or CPU tensor of any integer type. Raises InputError for other
    shapes and numbers.
    """

    logits: np.ndarray

    def __post_init__(self) -> None:
        logits = integers(self.logits, "logits", "(n, values)", 2)
        if not 1 <= logits.shape[1] <= MAX_VALUES:
            raise InputError(f"{logits.shape[1]} values; expected 1..{MAX_VALUES}")
        limits = np.iinfo(np.int16)
        within(logits, limits.min, limits.max, "logits")
        object.__setattr__(self, "logits", np.ascontiguousarray(logits, np.int16))

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    def check(self) -> None:
        """Do nothing: whatever its logits are, they are a distribution."""

    @property
    def values(self) -> int:
        """Size A of the alphabet."""
        return int(self.logits.shape[1])

    def clamp(self, values: Any) -> np.ndarray:
        """Return the nearest values that can be coded, int32."""
        return np.clip(np.asarray(values), 0, self.values - 1).astype(np.int32)

    def intervals(self, symbols: np.ndarray) -> Intervals:
        """Return where symbols (n,) int32 in 0 .. A-1 lie."""
        at = np.arange(len(self))
        e = powers(self.logits)
        ends = np.cumsum(e, axis=1)
        upper, whole = ends[at, symbols], ends[:, -1]
        rest = WHOLE - self.values
        starts = (upper - e[at, symbols]) * rest // whole + symbols
        stops = upper * rest // whole + symbols + 1
        return Intervals(starts, stops - starts, np.zeros(at.size, bool))

    def expand(self, begin: int, end: int) -> Expanded:
        """Return all slots of the symbols ``begin`` .. ``end - 1``."""
        freqs = shares(self.logits[begin:end], WHOLE)
        starts = np.cumsum(freqs, axis=1) - freqs
        first = np.arange(end - begin + 1) * self.values
        base = np.zeros(end - begin, np.int64)
        return Expanded(first, starts.reshape(-1), freqs.reshape(-1), base, False)

    def bits(self, values: Any) -> float:
        """Return the cost of values (n,) in bits."""
        found = self.intervals(np.asarray(values).reshape(-1))
        return float((PRECISION - np.log2(found.freqs)).sum())
