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

from polycodec.entropy_models.coders import quantize
from polycodec.entropy_models.priors.gaussian import SCALE_BINS, Gaussian
from polycodec.entropy_models.priors.tables import LARGEST


class SymbolCounter:
    """A coder that codes nothing: it rounds as an encoder does, and counts.

    counts: (64, 2 LARGEST + 3) int64, symbols -LARGEST-1 … LARGEST+1 of each table;
    what lies beyond counts at the ends.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((SCALE_BINS, 2 * LARGEST + 3), np.int64)

    def code(self, value: Tensor, prior, shape: tuple[int, ...]) -> Tensor:
        """Count ``value`` of ``shape`` (B, C, h, w); return it rounded."""
        offsets = prior.offsets
        rounded = quantize((value - offsets).float(), prior)
        if isinstance(prior, Gaussian):
            width = self.counts.shape[1]
            place = rounded.clamp(-LARGEST - 1, LARGEST + 1).long() + LARGEST + 1
            place += width * prior.indexes(shape).to(place)
            found = torch.bincount(place.flatten(), minlength=self.counts.size)
            self.counts += found.cpu().numpy().reshape(self.counts.shape)
        return rounded + offsets
