# SPDX-License-Identifier: Apache-2.0
"""Loss weights that mean what they say: shares of the gradient, not of the loss.

    g_l = ∂l/∂x̂,   n_l = running mean of the items' mean |g_l|
    ∂/∂x̂  =  Σ_l  w_l / Σ w  ·  g_l / n_l

Terms of an adversary change their size by orders of magnitude while it learns; their
share of what the decoder hears then stays. Défossez et al. 2022 (arXiv 2210.13438).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Balancer:
    """Combine the gradients of terms that depend on the decoder's output alone.

    ``reduce`` averages a tensor over processes.
    """

    def __init__(
        self, *, decay: float = 0.999, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.decay, self.reduce = decay, reduce or (lambda value: value)
        self.sums: dict[str, float] = {}  # decayed sums of norms, and of ones
        self.counts: dict[str, float] = {}

    def gradient(
        self, terms: dict[str, Tensor], weights: dict[str, float], x_hat: Tensor
    ) -> Tensor:
        """∂/∂x̂ of the balanced terms; ``x_hat`` (B, 1, T) is what they came from."""
        total = torch.zeros_like(x_hat)
        shares = sum(weights[name] for name in terms)
        for name, value in terms.items():
            (grad,) = torch.autograd.grad(value, [x_hat], retain_graph=True)
            norm = self._mean_norm(name, grad)
            if norm > 0:
                total.add_(grad, alpha=weights[name] / shares / norm)
        return total

    def _mean_norm(self, name: str, grad: Tensor) -> float:
        norm = float(self.reduce(grad.flatten(1).norm(dim=1).mean()))
        self.sums[name] = self.decay * self.sums.get(name, 0.0) + norm
        self.counts[name] = self.decay * self.counts.get(name, 0.0) + 1
        return self.sums[name] / self.counts[name]

    def state(self) -> dict[str, dict[str, float]]:
        """Return what a checkpoint keeps."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state(self, state: dict[str, dict[str, float]]) -> None:
        """Restore `state`."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
