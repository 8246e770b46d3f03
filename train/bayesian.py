# SPDX-License-Identifier: Apache-2.0
"""Priors of the Bayesian family, by coordinate ascent over the signals of a training.

    posteriors of a batch, A, φ    a step down    MSE / β  +  Σ KL
    prior                          every so often, in closed form: what is lowest

    μ_p = mean of the μ_n,   σ_p² = mean of the σ_n² + variance of the μ_n

β follows the bits that a rate is to have, once posteriors have learned: before, they
have too few whatever it is. It follows no faster than they can: by passes over the
signals, and by as much less as they learn slower; otherwise it runs away. Each signal
keeps a posterior of its own at each rate, in units of the prior. He, Flamich, Guo,
Hernández-Lobato 2024, RECOMBINER (arXiv 2309.17182), section 4 and appendix. As here
and not there: batches of signals and not all of them a step, the optimizers go on after
the prior has changed, and the prior's means also follow the gradient, with all
posteriors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.codecs.families.bayesian import BayesianCodec
from polycodec.entropy_models.models.samples import NARROW
from polycodec.entropy_models.relative.coders import Posterior, divergence
from polycodec.errors import InputError, UsageError
from polycodec.train.sections import PriorsSection

LEAST, MOST = 1e-12, 1.0  # of β


class Ascent:
    """Posteriors of signals x (N, C, *S) in the signal's range, whole pieces.

    They learn in the backward pass of `loss`, by an optimizer of their own.
    """

    def __init__(self, codec: BayesianCodec, x: Tensor, section: PriorsSection) -> None:
        size, piece = tuple(x.shape[2:]), codec.piece
        if any(n % p for n, p in zip(size, piece, strict=True)) or len(x) < 2:
            raise InputError(
                f"{len(x)} training signals of {size}; expected 2 at least, of whole "
                f"pieces of {piece}"
            )
        self.codec, self.x, self.section = codec, x, section
        self.counts = codec.counts(size)
        self.tiers = codec.tiers(self.counts)
        numbers = sum(tier.rows * tier.numbers for tier in self.tiers)
        self.rows, self.optimizers, self.share = [], [], 1.0
        rates = len(codec.bpp)
        if len(section.beta) not in (1, rates):
            raise UsageError(
                f"priors.beta has {len(section.beta)} values; expected 1, or {rates}"
            )
        each = section.beta * rates if len(section.beta) == 1 else section.beta
        codec.betas.copy_(torch.tensor(each))
        for _ in codec.bpp:
            table = nn.Embedding(len(x), 2 * numbers, sparse=True)
            with torch.no_grad():
                table.weight[:, :numbers] = 0
                table.weight[:, numbers:] = NARROW
            optimizer = torch.optim.SparseAdam(list(table.parameters()), section.lr)
            table.weight.register_post_accumulate_grad_hook(_stepping(optimizer))
            self.rows.append(table)
            self.optimizers.append(optimizer)

    def to(self, device: torch.device) -> Ascent:
        """Posteriors on a device; before the first step."""
        for table in self.rows:
            table.to(device)
        return self

    def loss(self, rate: int, at: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the signals ``at`` (B,), in nats a signal, and what it is made of."""
        codec, low, high = self.codec, self.codec.signal.low, self.codec.signal.high
        device = codec.device
        x = (self.x[at].to(device).float() - low) / (high - low)
        free = codec.entropy.free(rate)
        own = [
            Posterior.of(free[tier.name].free, *pair)
            for tier, pair in zip(
                self.tiers, self._split(self.rows[rate](at.to(device))), strict=True
            )
        ]
        x_hat, bits = codec(own, self.counts, rate)
        error = (x_hat - x).square().flatten(1)
        # The sum of the mean squared errors of the pieces.
        lost = error.sum(1) / codec.samples
        loss = (lost / codec.betas[rate] + math.log(2) * bits).mean()
        mse = error.mean().detach()
        bpp = bits.detach().mean() / x[0, 0].numel()
        return loss, {"bpp": bpp, "psnr": -10 * mse.clamp_min(1e-10).log10()}

    def _split(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Shifts and logarithms of deviations (B, R, N) of rows, of each tier."""
        sizes = [tier.rows * tier.numbers for tier in self.tiers]
        halves = [half.split(sizes, dim=1) for half in rows.chunk(2, dim=1)]
        return [
            (
                shift.view(-1, tier.rows, tier.numbers),
                log.view(-1, tier.rows, tier.numbers),
            )
            for tier, shift, log in zip(self.tiers, *halves, strict=True)
        ]

    def slow(self, share: float) -> None:
        """Let posteriors, and β, learn at a share of their rate."""
        self.share = share
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * self.section.lr

    @torch.no_grad()
    def update(self, rate: int, *, passes: float = 0.0) -> float:
        """Set the prior of a rate to what its posteriors are; returns bits.

        Posteriors stay what they are: their units change. ``passes`` over the signals
        since the last time: so far β follows.
        """
        total = 0.0
        free = self.codec.entropy.free(rate)
        rows = self.rows[rate].weight
        for tier, (shift, log) in zip(self.tiers, self._split(rows), strict=True):
            prior = free[tier.name]
            own = Posterior.of(prior.free, shift, log)
            means, scales = own.means, own.scales
            new = means.mean((0, 1))
            spread = (means - new).square().sum((0, 1)) / (means[..., 0].numel() - 1)
            wide = (scales.square().mean((0, 1)) + spread).sqrt()
            shift.copy_((means - new) / wide)
            log.copy_((scales / wide).log())
            prior.means.copy_(new)
            prior.scales.copy_(wide)
            prior.costs.copy_(divergence(shift, log).mean((0, 1)))
            prior.starts.copy_(log.mean((0, 1)))
            total += float(prior.costs.sum()) * tier.rows
        wanted = self.codec.bpp[rate] * math.prod(self.x.shape[2:])
        section, beta = self.section, self.codec.betas
        if total > wanted:
            beta[rate] *= section.factor ** (self.share * passes)
        elif total < wanted * (1 - section.band):
            beta[rate] /= section.factor ** (self.share * passes)
        beta.clamp_(LEAST, MOST)
        return total

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "rows": [table.weight.detach() for table in self.rows],
            "optimizers": [one.state_dict() for one in self.optimizers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`; RuntimeError where signals are other ones."""
        for table, rows in zip(self.rows, state["rows"], strict=True):
            if table.weight.shape != rows.shape:
                raise RuntimeError(
                    f"posteriors of {len(rows)} signals; the data has "
                    f"{len(table.weight)}"
                )
            with torch.no_grad():
                table.weight.copy_(rows)
        for one, kept in zip(self.optimizers, state["optimizers"], strict=True):
            one.load_state_dict(kept)


def _stepping(optimizer: torch.optim.Optimizer) -> Any:
    def step(_: Tensor) -> None:
        optimizer.step()
        optimizer.zero_grad()

    return step
