# SPDX-License-Identifier: Apache-2.0
"""The latent family's export: calibrate, freeze, certify, check on held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import load_codec
from polycodec.entropy_models.coders import RateEstimator
from polycodec.errors import InputError
from polycodec.registry import register
from polycodec.train.config import TrainConfig
from polycodec.train.export import Recipe, as_row, certificate_table
from polycodec.train.image.check import self_check
from polycodec.train.image.data import CropSource, ImageCache

# Side and number of the crops that fix the grids: the training side, and a larger one
# whose hyper latents see more than their own borders.
CALIBRATION = ((128, 16), (256, 8))
FITTING = (256, 8)  # side and number of batches of 8 crops that tables are fitted to
CALIBRATION_SEED = 271828
CHECKED_IMAGES = 8


@register("recipe/image/latent")
class ImageRecipe(Recipe):
    """The latent family on images."""

    def write(self, codec: Any, part: Path) -> dict[str, Any]:
        """See `Recipe.write`."""
        config, section = self.config, self.config.eval
        images = ImageCache(config.data.train, config.data.cache)
        crops = calibration_crops(config, images)
        held_out = _source(config, images, config.data.crop, 1).validation(section.size)
        held_out = held_out[: min(section.images, CHECKED_IMAGES)]
        before = estimate(codec, held_out, 50)
        self.say(f"calibrating on {sum(len(c) for c in crops)} crops")
        certificates = codec.freeze(lambda codec: calibrate(codec, crops, config))
        self.say(certificate_table(certificates))
        counted = fit_tables(codec, fitting_crops(config, images), section.qualities)
        if counted:
            self.say(f"tables fitted to {counted / 1e6:.1f} M symbols")
        codec.save(part, self.stored)
        codec = load_codec(part)
        after = estimate(codec, held_out, 50)
        points = self_check(codec, held_out, section.qualities, self.say)
        return {
            "freezing": f"{100 * (after / before - 1):+.3f} % rate at quality 50",
            "images": f"{len(images)} in {Path(config.data.train).name}",
            "validation": points,
            "certificate": [as_row(c) for c in certificates],
        }


def calibration_crops(config: TrainConfig, images: ImageCache) -> list[Tensor]:
    """Always the same training crops of a run's own images, (n, 3, side, side)."""
    crops = []
    for side, count in CALIBRATION:
        try:
            source = _source(config, images, side, count)
        except InputError:  # no image is as large as this side
            continue
        crops.append(source.batch_at(0)[0])
    side, count = config.data.crop, CALIBRATION[0][1]
    return crops or [_source(config, images, side, count).batch_at(0)[0]]


def fitting_crops(config: TrainConfig, images: ImageCache) -> Iterator[Tensor]:
    """Training crops that tables are fitted to, (8, 3, side, side) each."""
    side, batches = FITTING
    try:
        source = _source(config, images, side, 8)
    except InputError:  # no image is as large as this side
        source = _source(config, images, config.data.crop, 8)
    # Batch 0 fixed the grids.
    return (source.batch_at(step)[0] for step in range(1, batches + 1))


@torch.no_grad()
def fit_tables(codec: Any, crops: Iterable[Tensor], qualities: Sequence[float]) -> int:
    """Fit tables to what the frozen codec sends of crops (B, 3, H, W).

    Costs nothing in files or decoders: tables are data of the weights. Every quality
    counts alike. Returns how many symbols were seen,
    0 for an entropy model that has no tables to fit.
    """
    counter = codec.entropy.counter()
    if counter is None:
        return 0
    for x in crops:
        for quality in qualities:
            level = codec.level_of(quality)
            codec.code(counter, codec.encode_codes(x, level), level)
    codec.entropy.refit(counter)
    return counter.total


@torch.no_grad()
def calibrate(codec: Any, crops: list[Tensor], config: TrainConfig) -> None:
    """Run the entropy path over all rates: the largest inputs fix the grids."""
    for quality in sorted({0.0, 25.0, 50.0, 75.0, 100.0, *config.eval.qualities}):
        for x in crops:
            estimate(codec, x, quality)


@torch.no_grad()
def estimate(codec: Any, x: Tensor, quality: float) -> float:
    """Estimated bits of images x at a quality, without noise."""
    bits = 0.0
    for part in x.split(4):
        level = codec.level_of(quality)
        coder = RateEstimator(len(part), noise=False)
        codec.code(coder, codec.encode_codes(part, level), level)
        bits += float(coder.bits.sum())
    return bits


def _source(
    config: TrainConfig, images: ImageCache, side: int, count: int
) -> CropSource:
    return CropSource(
        images,
        crop=side,
        batch=count,
        seed=CALIBRATION_SEED,
        holdout=config.data.holdout,
    )
