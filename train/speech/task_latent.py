# SPDX-License-Identifier: Apache-2.0
"""The latent family on speech: spectral losses and what their bits cost.

    loss = distance(x̂, x) + mean over items of  w_rate · kbps(item)

    after each item   log w_rate += follow · log( kbps(item) / wanted_rate )

Every item has a rate of its own. What weight leads to which rate nobody knows before a
codec is trained, so weights follow the rates: those of a geometric row between the
ends of ``rates.kbps``. They move slowly beside the weights of the codec, and
``rates.follow`` 0 holds them.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.latent import LatentCodec
from polycodec.registry import register
from polycodec.train.latent import geometric
from polycodec.train.speech.task import SpeechTask
from polycodec.train.task import made_for

MOST = 1.0  # of |log(kbps / wanted)| counts at once


@register("task/speech/latent")
@register("task/speech/latent-speech")  # as the family is called in older configs
class LatentSpeechTask(SpeechTask):
    """Rounding latents from step ``stages.unquantized`` on."""

    family = LatentCodec
    sections = ("adversary", "loss", "rates", "stages")

    def open(self, codec: Codec) -> None:
        super().open(codec)
        rates = self.config.rates
        self.wanted = geometric(rates.kbps, codec.levels)
        self.log_weight = geometric(rates.weight, codec.levels).log()

    def begin(self, step: int) -> tuple[str, ...]:
        """Fit steps and scales to the latents where rounding begins."""
        if step != self.config.stages.unquantized:
            return ()
        started = time.monotonic()
        codec = made_for(LatentCodec, self.codec)
        codec.initialise_steps(self.fabric.to_device(self._latents(step)))
        spent = time.monotonic() - started
        self.log.event("steps", step, seconds=round(spent, 2))
        return ("rates.", "entropy.level_index")

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance of a batch, and the cost of its bits."""
        x, rng = self.source.batch_at(step, self.fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**62)))
        levels = torch.randint(1, self.codec.levels + 1, (len(x),))
        quantize = step >= self.config.stages.unquantized
        x, levels_there = self.fabric.to_device(x), self.fabric.to_device(levels)
        with self.precision():
            out = self.forward(x, levels_there, quantize=quantize)
        loss, values = self._distance(step, out.x_hat.float(), x)
        if not quantize:
            return loss, values
        kbps = out.bits / (1000 * x.shape[-1] / self.rate)
        weight = self.log_weight[levels - 1].exp().to(kbps.device)
        self._follow(levels, kbps.detach())
        cost = (weight * kbps).mean()
        found = {"cost": cost.detach(), "kbps": kbps.detach().mean()}
        return loss + cost, {**values, **found}

    def _follow(self, levels: Tensor, kbps: Tensor) -> None:
        """Raise the weights of rates that are too high, lower the others'."""
        follow = self.config.rates.follow
        if not follow:
            return
        away = (kbps.cpu().clamp_min(1e-3) / self.wanted[levels - 1]).log()
        total = torch.zeros_like(self.log_weight)
        total.index_add_(0, levels - 1, away.clamp(-MOST, MOST))
        total = self.mean_of_processes(self.fabric.to_device(total))
        self.log_weight += follow * total.cpu()

    def state(self) -> dict[str, Any]:
        """The weights of the rates, beside the others'."""
        return {**super().state(), "log_weight": self.log_weight}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        others = dict(state)
        self.log_weight = others.pop("log_weight", self.log_weight).cpu()
        super().load_state(others)

    def _rates(
        self, outputs: list[Any], levels: int, lengths: list[int]
    ) -> dict[str, Any]:
        """Estimated kbps of a rate, and what a bit costs there."""
        bits = sum(float(out.bits.sum()) for out in outputs)
        weight = math.exp(self.log_weight[levels - 1])
        return {"kbps": bits / 1000 / (sum(lengths) / self.rate), "weight": weight}
