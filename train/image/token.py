# SPDX-License-Identifier: Apache-2.0
"""Images in tokens: random crops, distortion alone, codebooks that are kept in use.

    loss = MSE of samples in -1 … 1  +  what the quantizer asks for
           + loss.perceptual · `perceptual`  +  adversary.weight · an adversary's

The rate is fixed by the codebooks, so no bits stand in the loss (McQuic, Zhu et al.
2022, section 4.1; its MS-SSIM models are not made); the others are for generative
codecs. Codebooks that start from latents are built where a stage ends, as on speech;
dead codes of others are given a new start every ``stages.renew`` steps of the first
four fifths of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.codecs.quantizers.base import MappedQuantizer, flatten
from polycodec.errors import UsageError
from polycodec.registry import register
from polycodec.train.adversary import Adversary
from polycodec.train.check import Panel, self_check
from polycodec.train.export import Recipe
from polycodec.train.image.data import crops_of
from polycodec.train.image.discriminators import PatchDiscriminator
from polycodec.train.image.export import CHECKED_IMAGES, YARD, Pictures
from polycodec.train.image.perceptual import perceptual
from polycodec.train.task import Task, made_for
from polycodec.train.token import active_levels, builds_at, with_tables

ENTROPY = {"name": "tokens-conditional"}  # unless the config names another
BUILD_STEPS = 1 << 40  # steps whose batches serve building only
RENEWED = 0.8  # of a run, in which dead codes are renewed
FITTED = (256, 64)  # side and number of batches of 8 crops whose tokens are counted


@register("task/image/token")
class ImageTokenTask(Task):
    """The token family on images."""

    family = TokenCodec
    sections = ("adversary", "loss", "stages")

    def open(self, codec: Codec) -> None:
        if {"stft", "period"} & set(self.config.adversary.names):
            raise UsageError("adversary.names are of sound; expected [patch] of images")
        self.source = crops_of(self.config, self.fabric, self.log)
        self.adversary: Adversary | None = None

    @property
    def codec(self) -> TokenCodec:
        return made_for(TokenCodec, super().codec)

    def setup(self) -> None:
        """Build a discriminator, where the config names one."""
        section = self.config.adversary
        if section.names:
            model = PatchDiscriminator(section.filters)
            run = self.fabric, self.precision, model
            self.adversary = Adversary(section, *run)

    def begin(self, step: int) -> tuple[str, ...]:
        """Build codebooks where a stage ends; renew dead codes now and then."""
        quantizer, stages = self.codec.quantizer, self.config.stages
        torch.manual_seed(self.config.run.seed + step)
        if builds_at(stages, step):
            z = self._latents(step, stages.frames)
            z = flatten(z)[: stages.frames] if quantizer.local else z
            count = len(z) * z[0, 0].numel()
            self.log.say(f"building codebooks from {count} latents")
            self.model.eval()
            quantizer.initialise(self.fabric.to_device(z))
            self.model.train()
            return ("quantizer.",)
        early = 0 < step < RENEWED * self.config.run.steps
        if stages.renew and early and step % stages.renew == 0:
            z = self.fabric.to_device(self._latents(step, stages.frames))
            self.model.eval()
            moved = quantizer.renew(z)
            self.model.train()
            return tuple(f"quantizer.{name}" for name in moved)
        return ()

    @torch.no_grad()
    def _latents(self, step: int, count: int) -> Tensor:
        """Latents (B, D, h, w) of training crops, at least ``count`` positions."""
        maps: list[Tensor] = []
        self.model.eval()
        while sum(z[:, 0].numel() for z in maps) < count:
            x, _ = self.source.batch_at(BUILD_STEPS + step + len(maps))
            x = self.codec.signal.prepared(self.fabric.to_device(x))
            maps.append(self.codec.analyse(x, self.codec.levels).cpu())
        self.model.train()
        return torch.cat(maps)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the distortion of a batch, some items at fewer levels."""
        x, rng = self.source.batch_at(step, self.fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**62)))  # the samples of this step
        stages, codec = self.config.stages, self.codec
        rate = active_levels(len(x), codec.levels, stages.vary)
        active = torch.tensor(codec.quantizer.rates)[rate - 1]
        to_device = self.fabric.to_device
        x = to_device(x.contiguous(memory_format=torch.channels_last))
        quantize = step >= stages.unquantized
        with self.precision():
            out = self.forward(x, to_device(active), rate=rate, quantize=quantize)
        x_hat = out.x_hat.float()
        mse, asked = (x_hat - x).square().mean(), out.loss.float().mean()
        values = {"psnr": psnr_of_mse(mse.detach()), "quantizer": asked.detach()}
        total = 4 * mse + asked
        if weight := self.config.loss.perceptual:
            values["perceptual"] = perceptual(x, x_hat)
            total = total + weight * values["perceptual"]
        section = self.config.adversary
        if self.adversary and step >= section.start:
            values["discriminators"] = self.adversary.learn(x_hat, x)
            terms = self.adversary.terms(x_hat, x)
            total = total + section.weight * terms["adversary"]
            total = total + section.feature * terms["feature"]
            values |= terms
        return total, {name: value.detach() for name, value in values.items()}

    def state(self) -> dict[str, Any]:
        """Return the discriminator."""
        return {"adversary": self.adversary.state()} if self.adversary else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`; a discriminator the checkpoint has not starts fresh."""
        if self.adversary and "adversary" in state:
            self.adversary.load_state(state["adversary"])

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Return PSNR, bpp of fixed width and of order 0, and codes in use."""
        section, codec = self.config.eval, self.codec
        x = self.source.validation(section.size, section.images)
        x, quantizer = self.fabric.to_device(x), codec.quantizer
        quantize, rows = step > self.config.stages.unquantized, []
        for level in quantizer.measured if quantize else (1,):
            planes = quantizer.rates[level - 1]
            active = torch.full((len(x),), planes, device=x.device)
            rate = torch.full((len(x),), level)
            with self.precision():
                out = self.model(x, active, rate=rate, quantize=quantize)
            mse = (out.x_hat.float().clamp(0, 1) - x).square().mean(dim=(1, 2, 3))
            row: dict[str, Any] = {"level": level if quantize else 0}
            if quantize:
                usage = quantizer.usage(out.codes[:, :planes])
                sent = (out.codes[:, :planes] >= 0).double().mean((0, 2, 3)).tolist()
                order0 = [usage["perplexity"][k] for k in quantizer.alike[:planes]]
                row["fixed_bpp"] = bits_of(sent, quantizer.sizes) / codec.stride**2
                row["order0_bpp"] = bits_of(sent, order0) / codec.stride**2
                row |= {k: [round(n, 1) for n in v] for k, v in usage.items()}
            rows.append({**row, "psnr": psnr_of_mse(mse).mean().item()})
        return rows

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Return bpp/dB pairs, and the codes in use of the last."""
        points = (f"{r.get('order0_bpp', 0):.3f}/{r['psnr']:.2f}" for r in rows)
        used = " ".join(f"{n:.0f}" for n in rows[-1].get("used", []))
        return f"bpp/dB: {'  '.join(points)}  codes used: {used}"


@register("recipe/image/token")
class ImageTokenRecipe(Recipe):
    """The token family on images: statistics of tokens."""

    def panel(self, codec: Codec) -> Panel:
        steps = max(codec.levels - 1, 1)
        measured = made_for(TokenCodec, codec).quantizer.measured
        points = {100 * (k - 1) / steps: float(k) for k in measured}
        held_out = Pictures(self.config).held_out().split(1)
        return Panel(held_out, points if codec.levels > 1 else {100.0: 1.0}, YARD)

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        pictures, panel = Pictures(self.config), self.panel(codec)

        quantizer = made_for(TokenCodec, codec).quantizer
        mapped = isinstance(quantizer, MappedQuantizer)
        fitted = quantizer.measured if mapped else (codec.levels,)

        def codes_of(codec: Codec) -> list[np.ndarray]:
            codes = [
                codec.encode_codes(item, level)[0].cpu().numpy()
                for x in pictures.training(*FITTED)
                for item, level in zip(x.split(1), cycle(fitted), strict=False)
            ]
            self.say(f"fitting to the tokens of {len(codes)} crops")
            return codes

        stored = self.stored
        stored["entropy"] = stored.get("entropy") or ENTROPY
        tokens = made_for(TokenCodec, codec)
        whole = with_tables(tokens, part, stored, codes_of, self.say)
        held_out = panel.signals[:CHECKED_IMAGES]
        rows = self_check(whole, held_out, panel.points, panel.yard, self.say)
        for row in rows:  # what codes of fixed width would cost
            level = whole.level_of(row["quality"])
            codes = torch.cat([whole.encode_codes(x, level) for x in held_out])
            sent = quantizer.sent(codes).double().mean((0, 2, 3)).tolist()
            row["fixed_bpp"] = bits_of(sent, tokens.sizes) / codec.stride**2
        return {
            "codes": list(tokens.sizes),
            "validation": rows,
            "certificate": [],
            **pictures.about,
        }


def bits_of(sent: Sequence[float], sizes: Sequence[float]) -> float:
    """Bits of a cell, of each plane its share of cells that have it and its words."""
    return sum(p * math.log2(k) for p, k in zip(sent, sizes, strict=False))
