# SPDX-License-Identifier: Apache-2.0
"""Functions as tables of integers: logarithms and powers that are equal everywhere.

exp, log, tanh and erf differ from machine to machine in their last bits; a table of
whole numbers does not.  # BITSTREAM, all of it
"""

from __future__ import annotations

import functools

import numpy as np

UNIT = 32  # logarithms count in 1/32 bit
POWER_BITS = 18  # of the largest power
LOG_SIZE = 1 << 16


@functools.cache
def log_table() -> np.ndarray:
    """32 log2 i, rounded, for i = 0 (as 1) … 65535, int64."""
    return np.rint(UNIT * np.log2(np.maximum(np.arange(LOG_SIZE), 1))).astype(np.int64)


@functools.cache
def power_table() -> np.ndarray:
    """2^18 · 2^(-i / 32), rounded, for i = 0 … 608, int64: 2^18 … 1, 0."""
    steps = np.arange(UNIT * (POWER_BITS + 1) + 1)
    return np.rint(2.0 ** (POWER_BITS - steps / UNIT)).astype(np.int64)
