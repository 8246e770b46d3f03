# SPDX-License-Identifier: Apache-2.0
"""Linear attention: every position sees all others, at the cost of two products.

    for each head    A = softmax_positions(k) vᵀ      (d, e)   what each key channel saw
                     out = Aᵀ softmax_channels(q)     (e, n)

Both softmaxes are whole weights from a table (`softmax`): the sums of A are whole, its
quotients go on a grid of 1/16 of v's step, and the second sums are whole again. Keys
that are not there yet are hidden: one half of a checkerboard may ask the other.
Positions may turn the weights (`rotary`), rounded to whole ones again; what they are
divided by stays that of the weights before, as a turn can make a sum 0.

Shen et al. 2021, "Efficient attention" (arXiv 1812.01243); in image compression MLIC++,
Jiang et al. 2023 (arXiv 2307.15421); turned: MLICv2 (arXiv 2504.19119).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from polycodec.entropy_models.exact import softmax
from polycodec.entropy_models.exact.grid import GridLayer
from polycodec.entropy_models.exact.layer import looked_up
from polycodec.errors import ModelError

SCORE_BITS, VALUE_BITS = 12, 12
FINE = 16  # BITSTREAM: A is kept in 1/16 of v's step
MOST_POSITIONS = 1 << 22  # of keys: 32768 x 32768 pixels at stride 16


Turn = Callable[[Tensor], Tensor]


class LinearAttention(GridLayer):
    """q, k (B, h, d, n or m), v (B, h, e, m) -> (B, h, e, n) float32.

    q and k are log2 of weights. It has no parameters: they are in the layers before it.
    """

    def __init__(self) -> None:
        super().__init__(SCORE_BITS, SCORE_BITS, VALUE_BITS)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        hidden: Tensor | None = None,
        turns: tuple[Turn, Turn] | None = None,
    ) -> Tensor:
        """hidden: bool (m,), keys that nobody may see; 0 where that is all of them.

        turns: of queries and of keys, on (..., positions, d).
        """
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = self.take(q, k, v)
            if not self.frozen:
                return _trained(q, k, v, hidden, turns)
            if k.shape[-1] > MOST_POSITIONS:
                raise ModelError(
                    f"attention over {k.shape[-1]} positions; expected at most "
                    f"{MOST_POSITIONS}; use smaller tiles"
                )
            step = self.input_step[2].double()
            turn_q, turn_k = turns or (None, None)
            weight = softmax.weights(k, hidden)
            total = weight.sum(-1, keepdim=True)
            weight = _whole(weight, turn_k)
            seen = softmax.mean(weight @ (v / step).mT, total)
            seen = torch.floor(seen * FINE + 0.5)  # (B, h, d, e)
            weight = softmax.weights(q, dim=2)
            total = weight.sum(2, keepdim=True)
            out = softmax.mean(seen.mT @ _whole(weight, turn_q), total)
            out = (out * (step / FINE)).float()
            floats = q.float(), k.float(), v.float()
            near = functools.partial(_trained, *floats, hidden, turns)
            return looked_up(out, near, q, k, v)

    def bound(self) -> float:
        """Of the first sums; the second ones have a head's channels as terms."""
        turned = math.ceil(math.sqrt(2) * softmax.WEIGHT_TOP)
        return float(turned * self.top(2) * MOST_POSITIONS)


def _whole(weight: Tensor, turn: Turn | None) -> Tensor:
    """Weights (B, h, d, positions), turned if asked for, whole again."""
    if turn is None:
        return weight
    return torch.floor(turn(weight.mT).mT.double() + 0.5)


def _trained(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hidden: Tensor | None,
    turns: tuple[Turn, Turn] | None,
) -> Tensor:
    q, k = softmax.shares(q, dim=2), softmax.shares(k, hidden)
    if turns is not None:
        q, k = (turn(x.mT).mT for turn, x in zip(turns, (q, k), strict=True))
    return (k @ v.mT).mT @ q
