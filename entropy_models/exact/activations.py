# SPDX-License-Identifier: Apache-2.0
"""Functions of one number that are the same bits on every machine.

    hard swish   x · min(max(x + 3, 0), 6) / 6     sums and products alone, each rounded
                                                   as IEEE 754 says
    tanh         a table over whole 1/64           values in whole 1/64

A function of a library (erf, tanh, exp, or hardswish, which may fuse its steps) is not.
Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244), for the first.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

GRID = 64  # BITSTREAM: of arguments and values of tables
TOP = 4 * GRID  # BITSTREAM: arguments beyond ±4 count as ±4


def hard_swish(x: Tensor) -> Tensor:
    """x · min(max(x + 3, 0), 6) / 6."""
    return x * (x + 3).clamp(0, 6) * (1 / 6)


@functools.cache
def tanh_table() -> Tensor:
    """64 tanh(i / 64), rounded, for i = -256 … 256, float32; libm of one value each."""
    # Half a unit in the last place of tanh moves none of these from its whole number:
    # the nearest comes within 2e-4 of a half (`tests/entropy_models`).
    values = [round(GRID * math.tanh(i / GRID)) for i in range(-TOP, TOP + 1)]
    return torch.tensor(values, dtype=torch.float32)


def exact_tanh(x: Tensor) -> Tensor:
    """tanh of x on its grid of 1/64, in multiples of 1/64."""
    index = torch.floor(x * GRID + 0.5).clamp(-TOP, TOP).long() + TOP
    return tanh_table().to(x.device)[index] / GRID
