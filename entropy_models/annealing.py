# SPDX-License-Identifier: Apache-2.0
"""Rounding at random while encoding: stochastic Gumbel annealing and its "+" variants.

    r = value - mean,  candidates n: floor, ceiling; or nearest, both beside
    weight(n)  = rule(|r - n|) / τ + a Gumbel sample
    softly     = Σ n · softmax(weights / s)

Where rounding itself has no gradient, descent with a straight-through one makes latents
worse; this finds which of them are better rounded the other way. Yang, Bamler, Mandt
2020, "Improving inference for neural image compression" (arXiv 2006.04240): `atanh`,
two candidates, s = τ. Perugachi-Diaz, Gansekoele, Bhulai 2024, "Robustly overfitting
latents for flexible neural image compression" (arXiv 2401.17789), SGA+: `linear`,
`cosine`, `logit`, and three candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.entropy_models.base import Prior, Shape, TablePrior
from polycodec.entropy_models.coders import RateEstimator, straight_through

# Log-weight of a candidate at distance d in (0, 1), by the slope a of `logit`.
RULES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "atanh": lambda d, a: -torch.atanh(d),
    "linear": lambda d, a: torch.log1p(-d),
    "cosine": lambda d, a: 2 * torch.log(torch.cos(math.pi / 2 * d).clamp_min(1e-4)),
    "logit": lambda d, a: F.logsigmoid(-a * torch.logit(d)),
}
# Of three candidates, as its authors have them: the distance is shrunk into (0, 1),
# and the weights are sharpened.
SHRINK, SHARPEN = 0.98 / 1.5, 1.4
EDGE = 1e-4  # distances keep that far from 0 and 1, where weights have no gradient


@dataclass(frozen=True)
class Annealing:
    """A rule, its ``slope`` (of `logit`), the number of ``candidates``, 2 or 3.

    ``warm``, ``cold``: τ of the first and the last step, falling exponentially.
    ``softness``: s; None: τ, as published.
    """

    rule: str = "atanh"
    slope: float = 1.4
    candidates: int = 2
    warm: float = 0.3
    cold: float = 0.08
    softness: float | None = 0.8

    def temperature(self, progress: float) -> float:
        """τ after a share of the search, 0 … 1."""
        return self.warm * (self.cold / self.warm) ** progress

    def round(
        self, r: Tensor, temperature: float, generator: torch.Generator
    ) -> Tensor:
        """Values r (...) softly rounded; differentiable."""
        if self.candidates == 2:
            low = torch.floor(r.detach())
            whole = torch.stack([low, low + 1])
            distance, power = (r - whole).abs(), 1.0
        else:
            near = torch.round(r.detach())
            whole = torch.stack([near - 1, near, near + 1])
            distance, power = SHRINK * (r - whole).abs(), SHARPEN
        distance = distance.clamp(EDGE, 1 - EDGE)
        weights = power / temperature * RULES[self.rule](distance, self.slope)
        uniform = torch.empty_like(weights).uniform_(generator=generator)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        softness = temperature if self.softness is None else self.softness
        shares = torch.softmax((weights + gumbel) / softness, dim=0)
        return (shares * whole).sum(dim=0)


def coded_bits(prior: Prior, v: Tensor) -> Tensor:
    """Bits of values v (...), offsets subtracted, by the tables that will code them.

    Between two whole numbers a mean of both: what rounding at random costs. The density
    there is no such thing: halfway to a symbol that costs 18 bits it may say 1. Where
    there are tables the scale's gradient is that of the density.
    """
    low = torch.floor(v.detach())
    if not isinstance(prior, TablePrior) or prior.tables is None:
        return torch.lerp(prior.bits(low), prior.bits(low + 1), v - low)
    symbols = low.to(torch.int32)
    below, above = (prior.table_bits(symbols + k).float() for k in (0, 1))
    smooth = prior.bits(v.detach())
    return torch.lerp(below, above, v - low) + (smooth - smooth.detach())


class Rounded(RateEstimator):
    """Counts the bits of the nearest values, as `Annealer` does; nothing is thrifty."""

    def __init__(self, batch: int) -> None:
        super().__init__(batch, noise=False, thrifty=False)

    def count(self, v: Tensor, prior: Prior) -> None:
        self.parts.append(coded_bits(prior, v).flatten(1).sum(1))


class Annealer(Rounded):
    """Counts the bits of values that are rounded at random, the surer the colder.

    ``progress``: how far the search is, 0 … 1. ``generator``: of the samples, on the
    device of the latents.
    """

    def __init__(
        self,
        batch: int,
        progress: float,
        generator: torch.Generator,
        annealing: Annealing = Annealing(),  # frozen
    ) -> None:
        super().__init__(batch)
        self.generator, self.annealing = generator, annealing
        self.temperature = annealing.temperature(progress)

    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """Add the cost of ``value`` of ``shape``; return it softly rounded."""
        assert value is not None, "there is nothing to search"
        means = prior.means
        if isinstance(means, Tensor):
            means = straight_through(torch.as_tensor(prior.offsets), means)
        residual = (value - means).float()
        soft = self.annealing.round(residual, self.temperature, self.generator)
        self.count(soft, prior)
        return soft + means
