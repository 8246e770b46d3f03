# SPDX-License-Identifier: Apache-2.0
"""Adan, which torch has not, and the shape of learning rates while fitting.

    m ← β₁m + (1-β₁) g        v ← β₂v + (1-β₂)(g - g₋₁)
    n ← β₃n + (1-β₃)(g + β₂(g - g₋₁))²
    θ ← θ - η (m̂ + β₂ v̂) / (√n̂ + ε)

Xie et al. 2022, "Adan: adaptive Nesterov momentum algorithm" (arXiv 2208.06677),
algorithm 1, β as factors that keep; hats are the corrections 1 - β^k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Adan(torch.optim.Optimizer):
    """Adan without weight decay; the first step takes g - g₋₁ as zero."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is not None:
                    self._one(value, value.grad, group)

    def _one(self, value: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[value]
        if not state:
            state["step"] = torch.zeros(())
            state |= {k: torch.zeros_like(value) for k in ("m", "v", "n")}
            state["last"] = grad.clone()
        one, two, three = group["betas"]
        state["step"] += 1
        step = int(state["step"])
        change = grad - state["last"]
        state["m"].lerp_(grad, 1 - one)
        state["v"].lerp_(change, 1 - two)
        state["n"].lerp_((grad + two * change).square(), 1 - three)
        state["last"].copy_(grad)
        size = (state["n"] / (1 - three**step)).sqrt() + group["eps"]
        move = state["m"] / (1 - one**step) + two * state["v"] / (1 - two**step)
        value.addcdiv_(move, size, value=-group["lr"])


def optimizer_of(name: str, params: Iterable[Any], lr: float) -> torch.optim.Optimizer:
    """Adam as NeRV has it, or Adan."""
    if name == "adan":
        return Adan(params, lr)
    return torch.optim.Adam(params, lr, betas=(0.9, 0.99))


def rate_at(progress: float, warm: float, floor: float) -> float:
    """What a learning rate is multiplied by: up from ``floor``, then half a cosine."""
    if progress < warm:
        return floor + (1 - floor) * progress / warm
    rest = min(1.0, (progress - warm) / (1 - warm))
    return 0.5 * (1 + math.cos(math.pi * rest))
