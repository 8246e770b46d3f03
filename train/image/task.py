# SPDX-License-Identifier: Apache-2.0
"""Images: random crops, every rate at once, bits per pixel + λ 255² MSE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.latent import LatentCodec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.registry import register
from polycodec.train.image.data import crops_of
from polycodec.train.task import Task, made_for

INITIAL_CROPS = 256  # for the transform a codec starts from
BALANCE_POINT = 0.0067  # the λ whose level weighs 1


@register("task/image/latent")
class ImageTask(Task):
    """The latent family on images."""

    family = LatentCodec
    sections = ()

    def open(self, codec: Codec) -> None:
        self.source = crops_of(self.config, self.fabric, self.log)

    @property
    def codec(self) -> LatentCodec:
        return made_for(LatentCodec, super().codec)

    def prepare(self, codec: Codec) -> None:
        """Start transform and scales from the first crops."""
        codec.initialise(self.source.sample(INITIAL_CROPS))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the rate-distortion of a batch; each item has a level of its own."""
        x, rng = self.source.batch_at(step, self.fabric.global_rank)
        torch.manual_seed(int(rng.integers(2**62)))  # the noise of this step
        level = draw_levels(x.shape[0], self.codec.levels - 1)
        to_device = self.fabric.to_device
        x = to_device(x.contiguous(memory_format=torch.channels_last))
        level = to_device(level)
        with self.precision():
            out = self.forward(x, level, rounded=self.config.optim.rounded)
        lmbda, balance = self.codec.lmbda_of(level), self.config.optim.balance
        loss, bpp, mse = rate_distortion(out.bits, out.x_hat, x, lmbda, balance)
        for part in (self.codec.transform, self.codec.entropy):
            if (penalty := part.penalty()) is not None:
                loss = loss + penalty
        psnr = psnr_of_mse(mse.detach()).mean()
        return loss, {"bpp": bpp.detach().mean(), "psnr": psnr}

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Return estimated bpp and PSNR at every quality."""
        section = self.config.eval
        x = self.source.validation(section.size, section.images)
        x = self.fabric.to_device(x)
        rows = []
        for quality in section.qualities:
            level = x.new_full((x.shape[0],), self.codec.level_of(quality))
            with self.precision():
                out = self.model(x, level)
            mse = (out.x_hat.float().clamp(0, 1) - x).square().mean(dim=(1, 2, 3))
            bpp = out.bits.mean().item() / (x.shape[-1] * x.shape[-2])
            psnr = psnr_of_mse(mse).mean().item()
            rows.append({"quality": quality, "estimated_bpp": bpp, "psnr": psnr})
        return rows

    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Return bpp/dB pairs."""
        points = "  ".join(f"{r['estimated_bpp']:.3f}/{r['psnr']:.2f}" for r in rows)
        return f"bpp/dB: {points}"


def rate_distortion(
    bits: Tensor, x_hat: Tensor, x: Tensor, lmbda: Tensor, balance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of w (bpp + λ 255² MSE) over the batch, bpp (B,), MSE (B,).

    w = (λ_mid/λ)^balance keeps every level's share of the loss alike: at the optimum
    both terms grow like the square root of λ.
    """
    bpp = bits / (x.shape[-1] * x.shape[-2])
    mse = (x_hat.float() - x).square().mean(dim=(1, 2, 3))
    weight = (BALANCE_POINT / lmbda) ** balance
    return (weight * (bpp + lmbda * 255**2 * mse)).mean(), bpp, mse


def draw_levels(count: int, top: float) -> Tensor:
    """Draw rate levels (B,) in 0 … top; 4 % fall exactly on either end.

    Gains are interpolated between knots, so the outermost ones would otherwise see
    half of the others' gradients, and -q 0 is where a file has the fewest bits.
    """
    margin = 0.04 * top
    return (torch.rand(count) * (top + 2 * margin) - margin).clamp(0, top)
