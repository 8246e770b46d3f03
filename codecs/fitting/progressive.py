# SPDX-License-Identifier: Apache-2.0
"""Posteriors of signals, fitted and then sent, block after block.

    fit all ── choose a sample of block 1 ── fit the rest ── of block 2 ── fit … ── done

What is chosen stays, and all that is not sent yet makes up for what it is not. The
weight of each block's divergence follows its bits, so that it stays below those of a
number. He, Flamich, Guo, Hernández-Lobato 2024, RECOMBINER (arXiv 2309.17182), section
3.3 and appendix. As here and not there: means and deviations are fitted in units of the
prior, one sample is drawn a step and not five, blocks are sent in their order and not
the largest first, and the optimizer goes on from block to block.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polycodec.codecs.fitting.plan import Plan, Report
from polycodec.codecs.fitting.quantized import decibel
from polycodec.entropy_models.models.samples import Tier
from polycodec.entropy_models.relative.blocks import FreePrior, NormalPrior
from polycodec.entropy_models.relative.coders import Posterior, choose, divergence
from polycodec.errors import ModelError

if TYPE_CHECKING:
    from polycodec.codecs.families.bayesian import BayesianCodec

LEAST, MOST = 1e-4, 1e4  # of a block's weight
TOLD = 0.5  # seconds between reports


@dataclass(frozen=True)
class Posteriors:
    """How posteriors are fitted: ``steps`` before the first block is sent, ``late`` in
    all between blocks, at least ``least`` after each; ``lr`` in units of the prior.

    A block's weight grows by ``pace`` a step while it has more bits than a number, and
    falls while it has ``slack`` less.
    """

    steps: int = 400
    late: int = 400
    least: int = 2
    lr: float = 0.05
    pace: float = 0.01
    slack: float = 0.4

    def __post_init__(self) -> None:
        if min(self.steps, self.least) < 1 or self.late < 0 or not self.lr > 0:
            raise ModelError(
                f"posteriors take {self.steps} steps, {self.late} and {self.least} "
                f"late, at a rate of {self.lr}; expected 1 at least, and more than 0"
            )


class _Rows:
    """The posterior of a tier as it is sent: (B, R, N), in units of the prior."""

    def __init__(
        self, tier: Tier, prior: NormalPrior, starts: Tensor, batch: int
    ) -> None:
        device = starts.device
        shape = (batch, tier.rows, tier.numbers)
        self.tier, self.prior = tier, prior
        self.shift = torch.zeros(shape, device=device, requires_grad=True)
        self.log = starts.expand(shape).clone().requires_grad_()
        self.floats = FreePrior(*(v.float().to(device) for v in prior.floats))
        self.block = torch.empty(tier.numbers, dtype=torch.int64, device=device)
        for k in range(len(prior.blocks)):
            self.block[torch.from_numpy(prior.blocks.dimensions(k)).long()] = k
        count = len(prior.blocks)
        self.weight = torch.ones(batch, tier.rows, count, device=device)
        self.chosen = torch.zeros(batch, tier.rows, count, dtype=torch.int64)
        self.sent = torch.zeros(count, dtype=torch.bool, device=device)
        self.known = torch.zeros(shape, device=device)

    @property
    def posterior(self) -> Posterior:
        return Posterior.of(self.floats, self.shift, self.log)

    def drawn(self, noise: torch.Generator) -> Tensor:
        """A sample (B, R, N) as rows of pieces; what is sent is what it is.

        Signals have the same noise: one beside others is fitted as it is alone.
        """
        own = self.posterior
        drawn = torch.randn(own.means.shape[1:], generator=noise).to(own.means)
        sample = own.means + own.scales * drawn
        return torch.where(self.sent[self.block], self.known, sample)

    def bits(self) -> Tensor:
        """Of each block, (B, R, K)."""
        each = divergence(self.shift, self.log)
        return torch.zeros_like(self.weight).index_add(2, self.block, each)

    def follow(self, bits: Tensor, recipe: Posteriors) -> None:
        """Weigh blocks with too many bits more, with too few less."""
        most = self.prior.blocks.bits
        up = (bits > most).to(bits.dtype) - (bits <= most - recipe.slack).to(bits.dtype)
        self.weight = (self.weight * (recipe.pace * up).exp()).clamp(LEAST, MOST)

    @torch.no_grad()
    def send(self, k: int) -> None:
        """Choose the sample of block k of all rows."""
        own, prior = self.posterior, self.prior
        rows = Posterior(own.means.flatten(0, 1), own.scales.flatten(0, 1))
        numbers = choose(rows, prior, k)
        at = torch.from_numpy(prior.blocks.dimensions(k)).long()
        sample = prior.placed(k, prior.draw(k, numbers)).to(self.known.device)
        self.known[:, :, at] = sample.view(*self.known.shape[:2], -1)
        self.chosen[:, :, k] = numbers.view(self.chosen.shape[:2])
        self.sent[k] = True


class Progressive:
    """Signals x (B, C, *S) in [0, 1], whole pieces, on their way into numbers.

    ``real``: (*S), 1 where there is a sample of the signal and 0 where it was padded.
    """

    def __init__(
        self, codec: BayesianCodec, x: Tensor, real: Tensor, rate: int, plan: Plan
    ) -> None:
        self.codec, self.x, self.real, self.rate = codec, x, real, rate
        self.plan, self.recipe = plan, codec.recipe
        self.counts = codec.counts(x.shape[2:])
        free = codec.entropy.free(rate)
        self.rows = [
            _Rows(tier, codec.entropy.prior(rate, tier), free[tier.name].starts, len(x))
            for tier in codec.tiers(self.counts)
        ]
        params = [v for rows in self.rows for v in (rows.shift, rows.log)]
        self.optimizer = torch.optim.Adam(params, self.recipe.lr)
        self.step, self.mse = 0, 0.0
        self.noise = torch.Generator().manual_seed(plan.seed)
        self.beta = float(codec.betas[rate])

    def run(self) -> list[Tensor]:
        """Numbers (B, R, K) of each tier."""
        recipe, told, began = self.recipe, 0.0, time.perf_counter()
        steps = recipe.steps if self.plan.steps is None else self.plan.steps // 2
        late = recipe.late if self.plan.steps is None else self.plan.steps // 2
        rounds = [
            (rows, k)
            for rows in reversed(self.rows)
            for k in range(len(rows.prior.blocks))
        ]
        between = max(late // len(rounds), recipe.least)
        total = max(steps, 1) + between * (len(rounds) - 1)
        for k in range(-1, len(rounds)):  # Ctrl-C ends it: what is not fitted is noise
            if k >= 0:
                rows, block = rounds[k]
                rows.send(block)
            more = max(steps, 1) if k < 0 else between if k + 1 < len(rounds) else 0
            for _ in range(more):
                if self.plan.stopped.is_set():
                    break
                self.advance()
                spent = time.perf_counter() - began
                if self.plan.tell and spent - told >= TOLD:
                    told = spent
                    self.plan.tell(self._report(spent, total))
        if self.plan.stopped.is_set():
            self.plan.notes.append(
                f"the fit was stopped at step {self.step} of {total}; the file is what "
                "it had"
            )
        return [rows.chosen for rows in self.rows]

    def advance(self) -> None:
        """One step of all posteriors."""
        samples = [rows.tier.back(rows.drawn(self.noise)) for rows in self.rows]
        tiers = [rows.tier for rows in self.rows]
        x_hat = self.codec.rendered(samples, tiers, self.counts, self.rate)
        error = ((x_hat - self.x).square() * self.real).flatten(1).sum(1)
        pieces = error / self.codec.samples  # sum of the pieces' mean squared errors
        loss = pieces.sum() / self.beta
        for rows in self.rows:
            bits = rows.bits()
            kept = torch.where(rows.sent, torch.zeros_like(bits), rows.weight * bits)
            loss = loss + math.log(2) * kept.sum()
            rows.follow(bits.detach(), self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        real = float(self.real.sum()) * self.x.shape[1] * len(self.x)
        self.mse = float(error.detach().sum()) / real

    def _report(self, spent: float, total: int) -> Report:
        bits = sum(r.prior.blocks.bits * r.chosen[0].numel() for r in self.rows)
        left = spent * (total - self.step) / self.step
        return Report(self.step, self.step / total, decibel(self.mse), bits, left)
