# SPDX-License-Identifier: Apache-2.0
"""The latent family's export on images: which crops it sees, how it is measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.errors import InputError
from polycodec.registry import register
from polycodec.train.check import Panel, Yardstick
from polycodec.train.config import TrainConfig
from polycodec.train.image.data import CropSource, ImageCache
from polycodec.train.image.pieces import check_tiles
from polycodec.train.latent import LatentRecipe, Material

# Side and number of the crops that fix the grids: the training side, and a larger one
# whose hyper latents see more than their own borders.
CALIBRATION = ((128, 16), (256, 8))
FITTING = (256, 8)  # side and number of batches of 8 crops that tables are fitted to
CALIBRATION_SEED = 271828
CHECKED_IMAGES = 8
BATCH = 4
SIZES = ((37, 53), (1, 1), (64, 17))  # heights and widths


class Pictures:
    """A run's images, and the crops of them that an export looks at; always the same.

    ``about``: what a card says of them.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.data, self.section = config.data, config.eval
        self.images = ImageCache(self.data.train, self.data.cache)
        self.about = {"images": f"{len(self.images)} in {Path(self.data.train).name}"}

    def held_out(self) -> Tensor:
        """Centres (n, 3, H, W) of pictures never trained on."""
        source = self._source(self.data.crop, 1)
        return source.validation(self.section.size, self.section.images)

    def calibration(self) -> list[Tensor]:
        """Crops (n, 3, side, side) of every side that some image is as large as."""
        crops = []
        for side, count in CALIBRATION:
            try:
                crops.append(self._source(side, count).batch_at(0)[0])
            except InputError:
                continue
        side, count = self.data.crop, CALIBRATION[0][1]
        return crops or [self._source(side, count).batch_at(0)[0]]

    def training(self, side: int, batches: int) -> Iterator[Tensor]:
        """Batches of 8 crops (8, 3, side, side), smaller where images are."""
        try:
            source = self._source(side, 8)
        except InputError:  # no image is as large as this side
            source = self._source(self.data.crop, 8)
        # Batch 0 fixed the grids.
        return (source.batch_at(step)[0] for step in range(1, batches + 1))

    def _source(self, side: int, count: int) -> CropSource:
        return CropSource(
            self.images,
            crop=side,
            batch=count,
            seed=CALIBRATION_SEED,
            holdout=self.data.holdout,
        )


@register("recipe/image/latent")
class ImageRecipe(LatentRecipe):
    """The latent family on images."""

    def material(self, codec: Codec) -> Material:
        pictures, section = Pictures(self.config), self.config.eval
        qualities = sorted({0.0, 25.0, 50.0, 75.0, 100.0, *section.qualities})
        return Material(
            crops=[part for x in pictures.calibration() for part in x.split(BATCH)],
            rates=[codec.level_of(quality) for quality in qualities],
            training=pictures.training(*FITTING),
            held_out=pictures.held_out()[:CHECKED_IMAGES].split(BATCH),
            points={q: codec.level_of(q) for q in section.qualities},
            yard=YARD,
            about=pictures.about,
        )

    def panel(self, codec: Codec) -> Panel:
        points = {q: codec.level_of(q) for q in self.config.eval.qualities}
        return Panel(Pictures(self.config).held_out().split(BATCH), points, YARD)


def mean_psnr(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """PSNR of 8-bit pictures x, x̂ (3, H, W)."""
    found = [psnr(x, x_hat) for x, x_hat in pairs]
    return {"psnr": sum(found) / len(found)}


def psnr(x: Tensor, x_hat: Tensor) -> float:
    """PSNR of an 8-bit picture x̂ (3, H, W)."""
    error = (x_hat * 255).round() / 255 - x
    return float(psnr_of_mse(error.square().mean()))


YARD = Yardstick("quality", "bpp", 1.0, mean_psnr, SIZES, psnr, check_tiles)
