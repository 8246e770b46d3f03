# SPDX-License-Identifier: Apache-2.0
"""Which symbols meet which table: what `gaussian_tables` is fitted to.

A normal density is what training assumes. What an encoder then sends differs: tails
are heavier, and rate-distortion optimised quantization turns ones into zeros. Tables
that follow the counts cost nothing in a decoder, since tables are data of the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models.base import Counter, Prior, Shape
from polycodec.entropy_models.coders import quantize
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.scales import SCALE_BINS
from polycodec.entropy_models.priors.tables import LARGEST


def count_pairs(counts: np.ndarray, rows: Tensor, columns: Tensor) -> None:
    """Add 1 to counts[row, column] for each element of two integer tensors."""
    place = columns.long() + counts.shape[1] * rows.long()
    found = torch.bincount(place.flatten(), minlength=counts.size)
    counts += found.cpu().numpy().reshape(counts.shape)


class SymbolCounter(Counter):
    """Counts which symbols meet which table of Gaussian priors.

    counts: (64, 2 LARGEST + 3) int64, symbols -LARGEST-1 … LARGEST+1 of each table;
    what lies beyond counts at the ends.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((SCALE_BINS, 2 * LARGEST + 3), np.int64)

    @property
    def total(self) -> int:
        """See :meth:`Counter.total`."""
        return int(self.counts.sum())

    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """Count ``value`` of ``shape`` (B, C, h, w); return it rounded."""
        assert value is not None
        offsets = prior.offsets
        rounded = quantize((value - offsets).float(), prior)
        if isinstance(prior, Gaussian):
            place = rounded.clamp(-LARGEST - 1, LARGEST + 1).long() + LARGEST + 1
            count_pairs(self.counts, prior.indexes(shape), place)
        return rounded + offsets
