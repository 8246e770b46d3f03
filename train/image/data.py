# SPDX-License-Identifier: Apache-2.0
"""Training images: a folder, decoded once, cropped at random, reproducibly.

Decoding an AVIF takes longer than training on a crop of it, so a folder is decoded
once into a flat uint8 file (a memory map, shared by all workers). The batch of step
s is a function of (seed, s) alone: resuming needs no state of the loader.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polycodec.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".ppm"}


def list_images(folder: Path) -> list[Path]:
    """All images below ``folder``, sorted; InputError when there are none."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"no images below {folder}; expected {sorted(SUFFIXES)}")
    return found


def _pixels(path: Path) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8; InputError names a file that is broken."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot decode the training image {path}; {error}; remove it"
        ) from error


class ImageCache:
    """Decoded images of a folder as views of one memory-mapped uint8 file."""

    def __init__(
        self,
        folder: str | Path,
        cache: str | Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        files = list_images(Path(folder))
        stamp = "".join(f"{p.name}{p.stat().st_size}" for p in files)
        key = hashlib.sha256(stamp.encode()).hexdigest()[:16]
        base = Path(cache) / key
        if not base.with_suffix(".json").exists():
            self._decode(files, base, progress)
        self.shapes = json.loads(base.with_suffix(".json").read_text())
        self.data = np.memmap(base.with_suffix(".raw"), np.uint8, mode="r")
        sizes = [h * w * 3 for h, w in self.shapes]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])

    @staticmethod
    def _decode(files: Sequence[Path], base: Path, progress) -> None:
        base.parent.mkdir(parents=True, exist_ok=True)
        shapes = []
        part = base.with_suffix(".part")
        with open(part, "wb") as out:
            for i, path in enumerate(files):
                pixels = _pixels(path)
                shapes.append(pixels.shape[:2])
                out.write(pixels.tobytes())
                if progress:
                    progress(i + 1, len(files))
        part.rename(base.with_suffix(".raw"))
        base.with_suffix(".json").write_text(json.dumps(shapes))

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image i, (H, W, 3) uint8, read-only."""
        h, w = self.shapes[i]
        return self.data[self.starts[i] : self.starts[i + 1]].reshape(h, w, 3)


class CropSource:
    """Random square crops; every ``holdout``-th image is kept for validation."""

    def __init__(
        self, images: ImageCache, *, crop: int, batch: int, seed: int, holdout: int
    ) -> None:
        self.images, self.crop, self.batch, self.seed = images, crop, batch, seed
        every = range(len(images))
        fits = [i for i in every if min(images.shapes[i]) >= crop]
        self.train = [i for i in fits if i % holdout]
        self.held_out = [i for i in every if i % holdout == 0]
        if not self.train:
            raise InputError(f"no training image is as large as the crop, {crop} px")
        area = np.array([float(np.prod(images.shapes[i])) for i in self.train])
        self.weights = area / area.sum()

    def batch_at(self, step: int, rank: int = 0) -> tuple[Tensor, np.random.Generator]:
        """The (B, 3, crop, crop) float batch of a step, and its generator."""
        rng = np.random.default_rng([self.seed, rank, step])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        x = torch.from_numpy(crops).permute(0, 3, 1, 2)
        return x.float() / 255, rng

    def sample(self, count: int) -> Tensor:
        """The first crops of the run, (n, 3, crop, crop) float with n >= ``count``."""
        batches = range(-(-count // self.batch))
        return torch.cat([self.batch_at(step)[0] for step in batches])

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        image = self.images[self.train[rng.choice(len(self.train), p=self.weights)]]
        top = rng.integers(image.shape[0] - self.crop + 1)
        left = rng.integers(image.shape[1] - self.crop + 1)
        crop = image[top : top + self.crop, left : left + self.crop]
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        return crop.transpose(1, 0, 2) if rng.random() < 0.5 else crop

    def validation(self, size: int = 256) -> Tensor:
        """Centre crops of the held-out images, (n, 3, size, size) float.

        Raises InputError when none of them is as large.
        """
        crops = []
        for i in self.held_out:
            image = self.images[i]
            h, w = image.shape[:2]
            if min(h, w) >= size:
                top, left = (h - size) // 2, (w - size) // 2
                crops.append(image[top : top + size, left : left + size])
        if not crops:
            raise InputError(
                f"none of the {len(self.held_out)} held-out images measures {size} px "
                "both ways; lower eval.size or data.holdout, or add larger images"
            )
        x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        return x.float() / 255
