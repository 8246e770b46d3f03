# SPDX-License-Identifier: Apache-2.0
"""Which symbols meet which table: what tables are fitted to.

A normal density is what training assumes. What an encoder then sends differs: tails
are heavier, and rate-distortion optimised quantization turns ones into zeros. Tables
that follow the counts cost nothing in a decoder, since tables are data of the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.base import Counter, Prior, Shape, TablePrior
from polycodec.entropy_models.coders import quantize


class TableCounter(Counter):
    """Counts which symbols meet which table of the priors of one class.

    counts: (tables, 2 reach + 3) int64, symbols -reach-1 … reach+1 of each table; what
    lies beyond counts at the ends.
    """

    def __init__(self, kind: type, tables: int, reach: int) -> None:
        self.kind, self.reach = kind, reach
        self.counts = np.zeros((tables, 2 * reach + 3), np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """Count ``value`` of ``shape`` (B, C, h, w); return it rounded."""
        assert value is not None
        offsets = prior.offsets
        rounded = prior.codable(quantize((value - offsets).float(), prior))
        if isinstance(prior, TablePrior) and isinstance(prior, self.kind):
            end = self.reach + 1
            column = rounded.clamp(-end, end).long() + end
            place = column + self.counts.shape[1] * prior.indexes(shape).long()
            found = torch.bincount(place.flatten(), minlength=self.counts.size)
            self.counts += found.cpu().numpy().reshape(self.counts.shape)
        return rounded + offsets
