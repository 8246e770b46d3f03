# SPDX-License-Identifier: Apache-2.0
"""How likely each token is: tables picked by an index, nothing subtracted.

    Indexed(tables, index)    token v at a position costs  P - log2 f[index][v]  bits
    Categorical(logits)       every position has a distribution of its own

Tokens are numbers of a codebook's entries: they have no mean, are not rounded, and a
wrong one is as wrong as any other. The coders of `coders.py` take this prior as they
take a Gaussian one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.cuda.priors import categorical
from polycodec.cuda.priors.integer_cdf import PRECISION
from polycodec.entropy_models.base import DistributionPrior, Shape, TablePrior


class Indexed(TablePrior):
    """Tokens under table ``index`` (B, ...) of ``tables``, position by position."""

    hashed = False  # an index follows from tokens by integers alone
    thrifty = False  # nothing is rounded
    tables: TableSet

    def __init__(self, tables: TableSet, index: Tensor) -> None:
        self.tables, self.index = tables, index

    @property
    def device(self) -> torch.device:
        """Where decoded tokens are wanted."""
        return self.index.device

    def indexes(self, shape: Shape) -> Tensor:
        return self.index.expand(shape)

    def bits(self, v: Tensor) -> Tensor:
        """By the integer tables, no gradient."""
        return self.table_bits(v.detach()).float()


class Categorical(DistributionPrior):
    """Tokens 0 … K-1 under integer logits (B, ..., K) int16, log2 p in 1/32 bit.

    The range coder turns logits into frequencies, in integers
    (cuda/priors/categorical.py).
    """

    hashed = False
    thrifty = False

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
