# SPDX-License-Identifier: Apache-2.0
"""Pictures of classes: a folder of folders, one for each; reproducible batches.

    train/cat/0001.jpg        the class is the folder's name, classes in their order

A pass takes every picture once, in an order of (seed, pass), and the crops of a step
follow from (seed, step): resuming needs no state. Every ``holdout``-th picture is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.signals.features import FeatureSignal
from polycodec.errors import InputError
from polycodec.train.config import TrainConfig
from polycodec.train.image.data import ImageCache, split
from polycodec.train.log import RunLog

if TYPE_CHECKING:
    from lightning.fabric import Fabric

ASPECTS = 3 / 4, 4 / 3  # of crops by area
TRIES = 10


class ClassSource:
    """Pictures (B, 3, size, size) and classes (B,) for a signal of features."""

    def __init__(
        self, images: ImageCache, config: TrainConfig, signal: FeatureSignal
    ) -> None:
        self.images, self.signal, self.own = images, signal, config.classes
        self.batch, self.seed = config.data.batch, config.run.seed
        folders = [path.parent.name for path in images.files]
        self.labels = tuple(sorted(set(folders)))
        numbers = {name: k for k, name in enumerate(self.labels)}
        self.classes = torch.tensor([numbers[name] for name in folders])
        self.train, self.held_out = split(range(len(images)), config.data.holdout)
        if not self.train:
            raise InputError("one picture alone, which is held out; add more of them")
        self._order: tuple[int, np.ndarray] | None = None

    def batch_at(
        self, step: int, rank: int = 0, ranks: int = 1
    ) -> tuple[Tensor, Tensor, np.random.Generator]:
        """Pictures in [0, 1], their classes and the generator of a step."""
        rng = np.random.default_rng([self.seed, rank, step])
        first = (step * ranks + rank) * self.batch
        chosen = [self._at(first + k) for k in range(self.batch)]
        x = torch.stack([self._drawn(i, rng) for i in chosen])
        return x, self.classes[chosen], rng

    def pictures(self, chosen: list[int]) -> Tensor:
        """Whole pictures as an encoder brings them to size, (n, 3, size, size)."""
        whole = (self._whole(i)[None] for i in chosen)
        return torch.cat([self.signal.brought(x) for x in whole])

    def validation(self, count: int) -> tuple[Tensor, Tensor]:
        """Pictures never trained on, evenly of all classes, and their classes."""
        kept = self.held_out
        count = min(count, len(kept))
        chosen = [kept[k * len(kept) // count] for k in range(count)]
        return self.pictures(chosen), self.classes[chosen]

    def _at(self, place: int) -> int:
        """The picture at a place of all passes, one after the other."""
        turn, within = divmod(place, len(self.train))
        if self._order is None or self._order[0] != turn:
            rng = np.random.default_rng([self.seed, turn])
            self._order = turn, rng.permutation(self.train)
        return int(self._order[1][within])

    def _whole(self, i: int) -> Tensor:
        pixels = torch.from_numpy(self.images[i].copy())
        return pixels.permute(2, 0, 1).float() / 255

    def _drawn(self, i: int, rng: np.random.Generator) -> Tensor:
        """A crop of picture i, mirrored as often as not, perhaps with a hole."""
        size, own = self.signal.size, self.own
        x = self._whole(i)[None]
        x = self._by_area(x, rng) if own.area < 1 else self._shifted(x, rng)
        x = x.flip(-1) if rng.random() < 0.5 else x
        if hole := round(own.hole * size):
            top, left = rng.integers(1 - hole, size, 2)
            rows, columns = (
                slice(max(top, 0), top + hole),
                slice(max(left, 0), left + hole),
            )
            x = x.clone()
            x[:, :, rows, columns] = 0.5
        return x[0]

    def _by_area(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """A box of part of the area, of another aspect, made as large as pictures are.

        Szegedy et al. 2015, "Going deeper with convolutions" (arXiv 1409.4842).
        """
        height, width = x.shape[2:]
        low, high = map(math.log, ASPECTS)
        for _ in range(TRIES):
            area = height * width * rng.uniform(self.own.area, 1)
            aspect = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if h <= height and w <= width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                x = x[:, :, top : top + h, left : left + w]
                to = (self.signal.size, self.signal.size)
                return F.interpolate(
                    x, to, mode="bilinear", antialias=True, align_corners=False
                ).clamp(0, 1)
        return self.signal.brought(x)

    def _shifted(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """The picture moved by up to ``shift`` of its side, mirrored at the edge."""
        x, size = self.signal.brought(x), self.signal.size
        by = round(self.own.shift * size)
        top, left = rng.integers(2 * by + 1, size=2)
        x = F.pad(x, (by, by, by, by), mode="reflect")
        return x[:, :, top : top + size, left : left + size]


def classes_of(
    config: TrainConfig, signal: FeatureSignal, fabric: Fabric, log: RunLog
) -> ClassSource:
    """Pictures of a run; one process fills the cache, the others wait."""
    with fabric.rank_zero_first(local=True):
        images = ImageCache(config.data.train, config.data.cache, log.decoding)
    return ClassSource(images, config, signal)


def check_labels(found: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """InputError unless the folders are the classes of a head, or as many numbers."""
    if len(found) == len(wanted) and all(name.isdigit() for name in wanted):
        return
    if found != wanted:
        raise InputError(
            f"the pictures lie in {len(found)} folders, {', '.join(found[:12])}; "
            f"expected one for each of {', '.join(wanted[:12])}; correct data.train, "
            "or the labels of the head"
        )
