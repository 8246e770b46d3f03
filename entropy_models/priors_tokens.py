# SPDX-License-Identifier: Apache-2.0
"""How likely each token is: tables picked by an index, nothing subtracted.

    Indexed(tables, index)    token v at a position costs  P - log2 f[index][v]  bits

Tokens are numbers of a codebook's entries: they have no mean, are not rounded, and a
wrong one is as wrong as any other. The coders of `coders.py` take this prior as they
take a Gaussian one.
"""

from __future__ import annotations

import functools
import weakref

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet


class Indexed:
    """Tokens under table ``index`` (B, ...) of ``tables``, position by position."""

    fixed = True  # nothing is rounded: an index follows from tokens by integers alone
    means = offsets = 0.0

    def __init__(self, tables: TableSet, index: Tensor) -> None:
        self.tables, self.index = tables, index

    @property
    def device(self) -> torch.device:
        """Where decoded tokens are wanted."""
        return self.index.device

    def indexes(self, shape: tuple[int, ...]) -> Tensor:
        """The table of every position of ``shape``."""
        return self.index.expand(shape)

    def bits(self, v: Tensor) -> Tensor:
        """Bits of tokens ``v`` under the integer tables, float32 of the same shape."""
        first, costs = _costs(self.tables)
        rows = (
            first[self.indexes(tuple(v.shape)).long().cpu()] + v.detach().long().cpu()
        )
        return costs[rows].to(v.device)


_COSTS: weakref.WeakKeyDictionary[TableSet, tuple] = weakref.WeakKeyDictionary()


def _costs(tables: TableSet) -> tuple[Tensor, Tensor]:
    """The row of symbol 0 of each table, and the bits of every row."""
    if tables not in _COSTS:
        first = tables.first[:-1] + 1 - tables.minimum
        costs = torch.from_numpy(tables.ideal.astype(np.float32))
        _COSTS[tables] = torch.from_numpy(first), costs
    return _COSTS[tables]


@functools.cache
def binary_tables(precision: int) -> TableSet:
    """Tables of two symbols; symbol 1 of table i has frequency i + 1.

    The last table, 2^P - 1, knows only symbol 0: it costs nothing.
    """
    whole = 1 << precision
    one = np.arange(1, whole)
    rows = np.stack([0 * one, whole - one, one], axis=1).reshape(-1)
    sizes = np.append(np.full(one.size, 3), 2)
    freqs = np.concatenate([rows, [0, whole]])
    return TableSet(precision, sizes, np.zeros(whole, np.int32), freqs)
