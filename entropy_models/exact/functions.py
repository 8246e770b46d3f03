# SPDX-License-Identifier: Apache-2.0
"""Functions as tables of integers: logarithms and powers that are equal everywhere.

exp, log, tanh and erf differ from machine to machine in their last bits; a table of
whole numbers does not.  # BITSTREAM, all of it
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.exact.grid import GridLayer
from polycodec.entropy_models.exact.layer import input_exponent, looked_up, power_of_two
from polycodec.errors import ModelError

UNIT = 32  # logarithms count in 1/32 bit
POWER_BITS = 18  # of the largest power
LOG_SIZE = 1 << 16
TABLE_BITS, TABLE_STEP = 12, 2.0**-16  # of a function's inputs and outputs


@functools.cache
def log_table() -> np.ndarray:
    """32 log2 i, rounded, for i = 0 (as 1) … 65535, int64."""
    return np.rint(UNIT * np.log2(np.maximum(np.arange(LOG_SIZE), 1))).astype(np.int64)


@functools.cache
def power_table() -> np.ndarray:
    """2^18 · 2^(-i / 32), rounded, for i = 0 … 608, int64: 2^18 … 1, 0."""
    steps = np.arange(UNIT * (POWER_BITS + 1) + 1)
    return np.rint(2.0 ** (POWER_BITS - steps / UNIT)).astype(np.int64)


class FunctionTable(GridLayer):
    """An elementwise function as a table of 2^12 whole numbers, kept with the weights.

    ``function``: what training computes, of bounded values where inputs are not (tanh,
    sigmoid): beyond the largest input of calibration stands the table's end. The table
    is made once, at export, and never on a user's machine.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(TABLE_BITS)
        self.function = function
        table = torch.zeros(1 << TABLE_BITS, dtype=torch.int32)
        self.register_buffer("table", table, persistent=False)

    table: Tensor

    def forward(self, x: Tensor) -> Tensor:
        (taken,) = self.take(x)
        if not self.frozen:
            return self.function(taken)
        index = (taken.detach() / self.input_step[0]).long() + self.top(0)
        out = (self.table[index] * TABLE_STEP).to(torch.float32)
        return looked_up(out, lambda: self.function(taken.float()), taken)

    @torch.no_grad()
    def freeze(self) -> None:
        exponent = input_exponent(self.peak.cpu(), self.top(0))
        x = torch.arange(1 << TABLE_BITS) - self.top(0)
        y = self.function(x.double() * power_of_two(exponent)) / TABLE_STEP
        y = torch.round(y).clamp(-(2**30), 2**30)
        widths = torch.tensor(self.bits)
        whole = y.to(torch.int32)
        self.load_integers(
            {"input_exp": exponent, "widths": widths, "table_int": whole}
        )

    def integers(self) -> dict[str, Tensor]:
        """Also table_int (4096,) int32, multiples of 2^-16."""
        return super().integers() | {"table_int": self.table.clone()}

    def load_integers(self, integers: dict[str, Tensor]) -> None:
        table = integers["table_int"]
        if table.shape != self.table.shape or int(integers["widths"]) != TABLE_BITS:
            raise ModelError(
                f"the table of a function has shape {tuple(table.shape)}; expected "
                f"({1 << TABLE_BITS},); the weights file is damaged: get it again"
            )
        self.table.copy_(table)
        super().load_integers(integers)

    def bound(self) -> float:
        return float(self.table.abs().max())
