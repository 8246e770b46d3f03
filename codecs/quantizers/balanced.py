# SPDX-License-Identifier: Apache-2.0
"""Codes that are used evenly: while training, assigned by optimal transport.

    training     max_Q  -Σ_ik Q_ik |y_i - e_k|² + ε H(Q),   rows of Q sum to 1/N and
                 columns to 1/K;  i_n = argmax_k Q_nk
    otherwise    i = argmin_k |y - e_k|²

A batch's rows are spread over all K points as cheaply as that can be, so none is left
without rows to learn from, and encoders learn to use them all: the constraint is of
training alone. Q by Sinkhorn's iterations, of logarithms. Zhan et al. 2022, "Learning
discrete representations via constrained clustering for effective and efficient dense
retrieval" (RepCONC, arXiv 2110.05789), sections 3.2 and 3.3, which splits vectors into
parts; here levels follow one another, as of the other quantizers. Its losses, of a task
that retrieves, are the codec's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polycodec.codecs.quantizers.factorized import FactorizedQuantizer, FactorizedStage
from polycodec.registry import register

EPSILON = 0.05  # of the mean squared distance
ITERATIONS = 20


class BalancedStage(FactorizedStage):
    """K learned points; the nearest one, but evenly while training."""

    def distances(self, y: Tensor) -> Tensor:
        """|y - e|² of rows (N, d) and the K points, (N, K)."""
        norms = self.vectors.square().sum(1)
        return y.square().sum(1, keepdim=True) + norms - 2 * y @ self.vectors.T

    def choose(self, y: Tensor) -> Tensor:
        return self.distances(y).argmin(1)

    @torch.no_grad()
    def assign(self, y: Tensor) -> Tensor:
        """See `Stage.assign`: codes (N,) of an even spread of the batch."""
        distances = self.distances(y)
        scale = EPSILON * distances.mean().clamp_min(1e-12)
        return transport(-distances / scale).argmax(1)


def transport(logits: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """log Q (N, K) of e^logits scaled to row sums 1/N and column sums 1/K."""
    rows, columns = logits.shape
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0, keepdim=True) - math.log(columns)
        logits = logits - logits.logsumexp(1, keepdim=True) - math.log(rows)
    return logits


@register("quantizer/balanced")
class BalancedQuantizer(FactorizedQuantizer):
    """As `quantizer/factorized`, with codes assigned evenly while training."""

    stage = BalancedStage
