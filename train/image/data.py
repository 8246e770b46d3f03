# SPDX-License-Identifier: Apache-2.0
"""Training images: a folder, decoded once, cropped at random, reproducibly.

The batch of step s is a function of (seed, s) alone: resuming needs no state of the
loader.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.kinds import IMAGE_SUFFIXES
from polycodec.errors import InputError
from polycodec.train.cache import SignalCache
from polycodec.train.config import TrainConfig
from polycodec.train.log import RunLog

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class ImageCache(SignalCache):
    """Images of a folder, (H, W, 3) uint8 each."""

    called = "images"
    suffixes = IMAGE_SUFFIXES
    dtype = np.uint8

    def decode(self, path: Path) -> np.ndarray[Any, Any]:
        """See `SignalCache.decode`; InputError also for samples of floats."""
        try:
            with Image.open(path) as image:
                if not image.mode.startswith(("I", "F")):
                    return np.asarray(image.convert("RGB"))
            # Of more than 8 bits, which Pillow would not scale but cut off.
            found = read_image(path)
            eighth = found.pixels * (255 / (2**found.depth - 1))
            return np.tile(np.rint(eighth).astype(np.uint8), 3)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            raise InputError(
                f"cannot decode the training image {path}; {e}; remove it"
            ) from e


def split(numbers: Iterable[int], holdout: int) -> tuple[list[int], list[int]]:
    """Numbers of images to train with, and every ``holdout``-th, which is kept."""
    found = list(numbers)
    return [i for i in found if i % holdout], [i for i in found if i % holdout == 0]


class CropSource:
    """Random square crops; every ``holdout``-th image is kept for validation."""

    def __init__(
        self, images: ImageCache, *, crop: int, batch: int, seed: int, holdout: int
    ) -> None:
        self.images, self.crop, self.batch, self.seed = images, crop, batch, seed
        every = range(len(images))
        fits = [i for i in every if min(images.shapes[i][:2]) >= crop]
        self.train, _ = split(fits, holdout)
        _, self.held_out = split(every, holdout)
        if not fits:
            raise InputError(
                f"no training image is as large as the crop, {crop} px; lower "
                "data.crop, or add larger images"
            )
        if not self.train:
            raise InputError(
                f"of {len(images)} images every one that measures {crop} px is held "
                f"out, as every {holdout}th is; add images, or change data.holdout"
            )
        area = np.array([float(np.prod(images.shapes[i][:2])) for i in self.train])
        self.weights = area / area.sum()

    def batch_at(self, step: int, rank: int = 0) -> tuple[Tensor, np.random.Generator]:
        """Return the (B, 3, crop, crop) float batch of a step, and its generator."""
        rng = np.random.default_rng([self.seed, rank, step])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        x = torch.from_numpy(crops).permute(0, 3, 1, 2)
        return x.float() / 255, rng

    def sample(self, count: int) -> Tensor:
        """Return the run's first crops, (n, 3, crop, crop) float, n >= ``count``."""
        batches = range(-(-count // self.batch))
        return torch.cat([self.batch_at(step)[0] for step in batches])

    def _crop(self, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        image = self.images[self.train[rng.choice(len(self.train), p=self.weights)]]
        top = rng.integers(image.shape[0] - self.crop + 1)
        left = rng.integers(image.shape[1] - self.crop + 1)
        crop = image[top : top + self.crop, left : left + self.crop]
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        return crop.transpose(1, 0, 2) if rng.random() < 0.5 else crop

    def validation(self, size: int, count: int) -> Tensor:
        """Return centre crops of held-out images, (n, 3, size, size) float.

        Of the first ``count`` that are as large; InputError when none is.
        """
        crops: list[np.ndarray[Any, Any]] = []
        for i in self.held_out:
            image = self.images[i]
            h, w = image.shape[:2]
            if min(h, w) >= size and len(crops) < count:
                top, left = (h - size) // 2, (w - size) // 2
                crops.append(image[top : top + size, left : left + size])
        if not crops:
            raise InputError(
                f"none of the {len(self.held_out)} held-out images measures {size} px "
                "both ways; lower eval.size or data.holdout, or add larger images"
            )
        x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        return x.float() / 255


def crops_of(config: TrainConfig, fabric: Fabric, log: RunLog) -> CropSource:
    """Crops of a run's images; one process fills the cache, the others wait."""
    data = config.data
    with fabric.rank_zero_first(local=True):
        images = ImageCache(data.train, data.cache, log.decoding)
    source = CropSource(
        images,
        crop=data.crop,
        batch=data.batch,
        seed=config.run.seed,
        holdout=data.holdout,
    )
    source.validation(config.eval.size, 1)  # what is wrong is said now, not in hours
    return source
