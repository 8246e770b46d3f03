# SPDX-License-Identifier: Apache-2.0
"""Tables fitted to what the frozen codec sends of its own training images.

Costs nothing in files or decoders: tables are data of the weights. Every rate of
``eval.qualities`` counts alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from polycodec.entropy_models.priors.statistics import SymbolCounter


@torch.no_grad()
def fit_tables(codec, crops: Iterable[Tensor], qualities: Iterable[float]) -> int:
    """Count symbols of crops (B, 3, H, W) and refit; returns how many were seen."""
    counter, qualities = SymbolCounter(), tuple(qualities)
    for x in crops:
        for quality in qualities:
            y = codec.analyse(x, codec.level_of(quality, len(x)))
            codec.entropy.code(counter, y.float(), (len(x), *y.shape[2:]))
    codec.entropy.refit(counter.counts)
    return int(counter.counts.sum())
