# SPDX-License-Identifier: Apache-2.0
"""The Bayesian family on images: fixed crops, each with a posterior; its export.

The rates of a codec take turns, a step each.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.bayesian import BayesianCodec
from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError, UsageError
from polycodec.registry import register
from polycodec.train.bayesian import Ascent
from polycodec.train.check import Panel, Yardstick, self_check
from polycodec.train.export import Recipe
from polycodec.train.image.data import ImageCache, split
from polycodec.train.image.export import mean_psnr, psnr
from polycodec.train.optim import learning_rate
from polycodec.train.task import Task, made_for

CHECKED = 8  # images of a self-check
SIZES = ((37, 53), (1, 1))
YARD = Yardstick("quality", "bpp", 1.0, mean_psnr, SIZES, psnr)


def crops(
    images: ImageCache, chosen: list[int], size: tuple[int, int], count: int, seed: int
) -> Tensor:
    """Crops (n, 3, *size) uint8 of images, one of each in turn, ``count`` at most.

    An image of the very size is taken once. InputError when none is as large.
    """
    height, width = size
    fits = [i for i in chosen if np.all(np.array(images.shapes[i][:2]) >= size)]
    if not fits:
        raise InputError(
            f"no image measures {width}x{height}, as the pieces of the codec need; "
            "lower codec.piece or priors.pieces, or add larger images"
        )
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < count and fits:
        for i in rng.permutation(fits)[: count - len(found)]:
            image = images[int(i)]
            top = rng.integers(image.shape[0] - height + 1)
            left = rng.integers(image.shape[1] - width + 1)
            found.append(image[top : top + height, left : left + width])
        fits = [i for i in fits if images.shapes[i][:2] != size]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


@register("task/image/bayesian")
class BayesianTask(Task):
    """Priors for images."""

    family = BayesianCodec
    sections = ("priors",)

    def open(self, codec: Codec) -> None:
        config, data, processes = self.config, self.config.data, self.fabric.world_size
        if processes > 1:
            raise UsageError(
                f"{processes} processes; posteriors are kept by one: leave "
                "run.devices out"
            )
        own = made_for(BayesianCodec, codec)
        images = ImageCache(data.train, data.cache, self.log.decoding)
        chosen, _ = split(range(len(images)), data.holdout)
        height, width = (n * config.priors.pieces for n in own.piece)
        limit = config.priors.signals
        self.x = crops(images, chosen, (height, width), limit, config.run.seed)

    @property
    def codec(self) -> BayesianCodec:
        return made_for(BayesianCodec, super().codec)

    @property
    def batch(self) -> int:
        """Images of a step."""
        return min(self.config.data.batch, len(self.x))

    def setup(self) -> None:
        """Begin with posteriors as wide as the codec's priors."""
        self.ascent = Ascent(self.codec, self.x / 255, self.config.priors)
        self.ascent.to(self.codec.device)
        self.log.say(f"posteriors of {len(self.x)} images at {self.codec.levels} rates")

    def begin(self, step: int) -> tuple[str, ...]:
        """Set the prior of this step's rate anew, if it is time."""
        (visit, rate), own = divmod(step, self.codec.levels), self.config.priors
        if visit and visit % own.every == 0:
            passes = own.every * self.batch / len(self.x) if visit > own.settle else 0
            self.ascent.update(rate, passes=passes)
        optim = self.config.optim
        now = learning_rate(
            step, peak=1, warmup=0, steps=self.config.run.steps, decay=optim.decay
        )
        self.ascent.slow(now)
        return ()

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch at the rate whose turn it is; posteriors learn as well."""
        visit, rate = divmod(step, self.codec.levels)
        count, batch = len(self.x), self.batch
        passes, place = divmod(visit * batch, count)
        seed = self.config.run.seed
        order = np.concatenate(
            [
                np.random.default_rng([seed, k]).permutation(count)
                for k in (passes, passes + 1)
            ]
        )
        torch.manual_seed(seed + step)  # the noise of this step
        at = torch.from_numpy(order[place : place + batch])
        loss, values = self.ascent.loss(rate, at)
        return loss, {"rate": torch.tensor(float(rate)), **values}

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Bits of the posteriors and PSNR of samples of some, of training images."""
        rows = []
        for rate in range(self.codec.levels):
            free = self.codec.entropy.free(rate)
            bits = sum(
                float(free[tier.name].costs.sum()) * tier.rows
                for tier in self.ascent.tiers
            )
            at = torch.arange(min(256, len(self.x)))
            _, values = self.ascent.loss(rate, at)
            row = {"estimated_bpp": bits / math.prod(self.x.shape[2:])}
            row |= {k: float(v) for k, v in values.items()}
            rows.append(
                {"level": rate + 1, **row, "beta": float(self.codec.betas[rate])}
            )
        return rows

    def state(self) -> dict[str, Any]:
        return self.ascent.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.ascent.load_state(state)

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Bits of posteriors and PSNR of samples, of each rate."""
        points = (f"{r['bpp']:.3f}/{r['psnr']:.2f}" for r in rows)
        return f"bpp/dB: {'  '.join(points)}"


@register("recipe/image/bayesian")
class BayesianRecipe(Recipe):
    """Priors become integers, blocks are filled; held-out images are coded."""

    def panel(self, codec: Codec) -> Panel:
        data, own = self.config.data, made_for(BayesianCodec, codec)
        images = ImageCache(data.train, data.cache)
        _, kept = split(range(len(images)), data.holdout)
        height, width = (n * self.config.priors.pieces for n in own.piece)
        x = crops(images, kept, (height, width), CHECKED, self.config.run.seed) / 255
        steps = max(codec.levels - 1, 1)
        points = {100 * k / steps: k + 1.0 for k in range(codec.levels)}
        return Panel([x], points, YARD)

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        codec.freeze(lambda codec: None)
        codec.save(part, self.stored)
        whole = made_for(BayesianCodec, load_codec(part))
        panel = self.panel(whole)
        for rate in range(whole.levels):
            found = (
                f"{tier.name} {len(whole.entropy.prior(rate, tier).blocks)}"
                for tier in whole.tiers(whole.counts(panel.signals[0].shape[2:]))
            )
            self.say(f"blocks of {whole.entropy.bits} bits a row: {', '.join(found)}")
        rows = self_check(whole, panel.signals, panel.points, panel.yard, self.say)
        images = ImageCache(self.config.data.train, self.config.data.cache)
        return {
            "validation": rows,
            "certificate": [],
            "images": f"{len(images)} in {Path(self.config.data.train).name}",
        }
