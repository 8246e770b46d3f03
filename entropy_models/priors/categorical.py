# SPDX-License-Identifier: Apache-2.0
"""How likely each token is: tables picked by an index, nothing subtracted.

    Indexed(tables, index)    token v at a position costs  P - log2 f[index][v]  bits
    Categorical(logits)       every position has a distribution of its own

Tokens are numbers of a codebook's entries: they have no mean, are not rounded, and a
wrong one is as wrong as any other. The coders of `coders.py` take this prior as they
take a Gaussian one.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.cuda.priors import categorical
from polycodec.cuda.priors.integer_cdf import PRECISION


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


class Categorical:
    """Tokens 0 … K-1 under integer logits (B, ..., K) int16, log2 p in 1/32 bit.

    The range coder turns logits into frequencies, in integers
    (cuda/priors/categorical.py).
    """

    fixed = True
    means = offsets = 0.0
    tables = None

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    @property
    def device(self) -> torch.device:
        """Where decoded tokens are wanted: tokens are coded on the host."""
        return torch.device("cpu")

    def distributions(self) -> list[categorical.Categorical]:
        """What codes the positions of each item of the batch."""
        rows = self.logits.reshape(len(self.logits), -1, self.logits.shape[-1])
        return [categorical.Categorical(row) for row in rows]

    def bits(self, v: Tensor) -> Tensor:
        """Bits of tokens ``v`` by the coder's frequencies, float32 of the shape."""
        flat = self.logits.reshape(-1, self.logits.shape[-1])
        symbols = v.detach().to(torch.int32).numpy().reshape(-1)
        freqs = categorical.Categorical(flat).intervals(symbols).freqs
        bits = PRECISION - np.log2(freqs)
        return torch.from_numpy(bits.astype(np.float32)).view(v.shape)
