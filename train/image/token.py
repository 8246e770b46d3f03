# SPDX-License-Identifier: Apache-2.0
"""Images in tokens: random crops, distortion alone, codebooks that are kept in use.

    loss = MSE of samples in -1 … 1  +  what the quantizer asks for

The rate is fixed by the codebooks, so no bits stand in the loss (McQuic, Zhu et al.
2022, section 4.1; its MS-SSIM models are not made). Codebooks that start from latents
are built where a stage ends, as on speech; dead codes of others are given a new start
every ``stages.renew`` steps of the first four fifths of a run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.codecs.quantizers.base import flatten
from polycodec.registry import register
from polycodec.train.check import Panel, self_check
from polycodec.train.config import TrainConfig
from polycodec.train.image.data import ImageCache, crops_of
from polycodec.train.image.export import CHECKED_IMAGES, YARD, ImageRecipe
from polycodec.train.log import RunLog
from polycodec.train.task import Task, made_for
from polycodec.train.token import active_levels, builds_at, with_tables

if TYPE_CHECKING:
    from lightning.fabric import Fabric

ENTROPY = {"name": "tokens-conditional"}  # unless the config names another
BUILD_STEPS = 1 << 40  # steps whose batches serve building only
RENEWED = 0.8  # of a run, in which dead codes are renewed
FITTED = (256, 64)  # side and number of batches of 8 crops whose tokens are counted


@register("task/image/token")
class ImageTokenTask(Task):
    """The token family on images."""

    family = TokenCodec

    def __init__(
        self, codec: Codec, config: TrainConfig, fabric: Fabric, log: RunLog
    ) -> None:
        super().__init__(codec, config, fabric, log)
        self.source = crops_of(config, fabric, log)

    @property
    def codec(self) -> TokenCodec:
        return made_for(TokenCodec, super().codec)

    def begin(self, step: int) -> tuple[str, ...]:
        """Build codebooks where a stage ends; renew dead codes now and then."""
        quantizer, stages = self.codec.quantizer, self.config.stages
        torch.manual_seed(self.config.run.seed + step)
        if quantizer.local and builds_at(stages, step):
            z = self._latents(step, stages.frames)
            self.log.say(f"building codebooks from {len(z)} latents")
            quantizer.initialise(self.fabric.to_device(z))
            return ("quantizer.",)
        early = 0 < step < RENEWED * self.config.run.steps
        if stages.renew and early and step % stages.renew == 0:
            return tuple(f"quantizer.{name}" for name in quantizer.renew())
        return ()

    @torch.no_grad()
    def _latents(self, step: int, count: int) -> Tensor:
        """Latents (``count``, D) of training crops."""
        rows: list[Tensor] = []
        self.model.eval()
        while sum(map(len, rows)) < count:
            x, _ = self.source.batch_at(BUILD_STEPS + step + len(rows))
            x = self.codec.signal.prepared(self.fabric.to_device(x))
            rows.append(flatten(self.codec.analyse(x, self.codec.levels)).cpu())
        self.model.train()
        return torch.cat(rows)[:count]

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the distortion of a batch, some items at fewer levels."""
        x, rng = self.source.batch_at(step, self.fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**62)))  # the samples of this step
        stages, codec = self.config.stages, self.codec
        levels = active_levels(len(x), codec.levels, stages.vary)
        active = torch.tensor(codec.quantizer.rates)[levels - 1]
        to_device = self.fabric.to_device
        x = to_device(x.contiguous(memory_format=torch.channels_last))
        quantize = step >= stages.unquantized
        with self.precision():
            out = self.forward(x, to_device(active), quantize=quantize)
        mse = (out.x_hat.float() - x).square().mean()
        asked = out.loss.float().mean()
        psnr = psnr_of_mse(mse.detach())
        return 4 * mse + asked, {"psnr": psnr, "quantizer": asked.detach()}

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Return PSNR, bpp of fixed width and of order 0, and codes in use."""
        section, codec = self.config.eval, self.codec
        x = self.source.validation(section.size)[: section.images]
        x, quantizer = self.fabric.to_device(x), codec.quantizer
        quantize, rows = step > self.config.stages.unquantized, []
        for level, planes in enumerate(quantizer.rates if quantize else (0,), 1):
            active = torch.full((len(x),), max(planes, 1), device=x.device)
            with self.precision():
                out = self.model(x, active, quantize=quantize)
            mse = (out.x_hat.float().clamp(0, 1) - x).square().mean(dim=(1, 2, 3))
            row: dict[str, Any] = {"level": level if quantize else 0}
            if quantize:
                usage = quantizer.usage(out.codes[:, :planes])
                width = map(math.log2, quantizer.sizes[:planes])
                books = quantizer.alike[:planes]
                order0 = sum(math.log2(usage["perplexity"][k]) for k in books)
                row["fixed_bpp"] = sum(width) / codec.stride**2
                row["order0_bpp"] = order0 / codec.stride**2
                row |= {k: [round(n, 1) for n in v] for k, v in usage.items()}
            rows.append({**row, "psnr": psnr_of_mse(mse).mean().item()})
        return rows

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Return bpp/dB pairs, and the codes in use of the last."""
        points = (f"{r.get('order0_bpp', 0):.3f}/{r['psnr']:.2f}" for r in rows)
        used = " ".join(f"{n:.0f}" for n in rows[-1].get("used", []))
        return f"bpp/dB: {'  '.join(points)}  codes used: {used}"


@register("recipe/image/token")
class ImageTokenRecipe(ImageRecipe):
    """The token family on images: the same pictures, statistics of tokens."""

    def panel(self, codec: Codec) -> Panel:
        images = ImageCache(self.config.data.train, self.config.data.cache)
        steps = max(codec.levels - 1, 1)
        points = {100 * k / steps: k + 1.0 for k in range(codec.levels)}
        held_out = self.held_out(images).split(1)
        return Panel(held_out, points if codec.levels > 1 else {100.0: 1.0}, YARD)

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        data, panel = self.config.data, self.panel(codec)
        images = ImageCache(data.train, data.cache)

        def codes_of(codec: Codec) -> list[np.ndarray]:
            codes = [
                codec.encode_codes(item, codec.levels)[0].flatten(1).cpu().numpy()
                for x in self.training(images, *FITTED)
                for item in x.split(1)
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
            planes = tokens.planes(whole.level_of(row["quality"]))
            width = sum(map(math.log2, tokens.sizes[:planes]))
            row["fixed_bpp"] = width / codec.stride**2
        return {
            "codes": list(tokens.sizes),
            "validation": rows,
            "certificate": [],
            "images": f"{len(images)} in {Path(data.train).name}",
        }
