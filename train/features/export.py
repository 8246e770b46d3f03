# SPDX-License-Identifier: Apache-2.0
"""The export of codecs of features: answers of real bytes to pictures of classes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.feature import FeatureCodec
from polycodec.codecs.signals.features import FeatureSignal
from polycodec.codecs.stored import load_codec
from polycodec.registry import register
from polycodec.train.check import Panel, Yardstick
from polycodec.train.features.data import ClassSource
from polycodec.train.image.data import ImageCache
from polycodec.train.latent import LatentRecipe, Material
from polycodec.train.task import made_for

CHECKED = 32  # pictures of a self-check
BATCH = 16


def confidence(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Mean probability of the likeliest class, of pairs of a picture and logits."""
    found = [float(logits.softmax(0).max()) for _, logits in pairs]
    return {"confidence": sum(found) / len(found)}


def yard_of(x: Tensor, classes: Tensor) -> Yardstick:
    """Bits a pixel, and the log-likelihood of the class of one of the pictures x.

    Of other pictures, such as parts of these, of the likeliest. Answers have no sides:
    no sizes are tried.
    """
    known = dict(zip(map(_key, x), classes.tolist(), strict=True))

    def quality(x: Tensor, logits: Tensor) -> float:
        return float(logits.log_softmax(0)[known.get(_key(x), int(logits.argmax()))])

    return Yardstick(
        "level", "bpp", 1.0, confidence, (), quality, unit_of_quality="nats"
    )


def _key(x: Tensor) -> bytes:
    pixels: bytes = x.cpu().contiguous().numpy().tobytes()
    return pixels


def accuracy(codec: FeatureCodec, x: Tensor, classes: Tensor) -> list[dict[str, float]]:
    """Of real bytes of pictures (n, 3, H, W), at every level: bytes and accuracy."""
    rows = []
    for level in range(1, codec.levels + 1):
        quality = codec.quality_of(level)
        size, right = 0, 0.0
        for part, wanted in zip(x.split(BATCH), classes.split(BATCH), strict=True):
            data = codec.compress(part, quality)
            size += sum(map(len, data))
            right += float((codec.classify(data).argmax(1).cpu() == wanted).sum())
        row = {"level": level, "quality": quality, "bytes": size / len(x)}
        rows.append({**row, "accuracy": right / len(x)})
    return rows


@register("recipe/features/feature")
class FeatureRecipe(LatentRecipe):
    """Densities become tables; held-out pictures are coded and classified."""

    def material(self, codec: Codec) -> Material:
        source, panel = self._source(codec), self.panel(codec)
        return Material(
            crops=[source.pictures(source.train[:BATCH])],
            rates=list(panel.points.values()),
            training=(),
            held_out=panel.signals,
            points=panel.points,
            yard=panel.yard,
            about={
                "images": f"{len(source.images)} in {Path(self.config.data.train).name}"
            },
        )

    def panel(self, codec: Codec) -> Panel:
        x, classes = self._source(codec).validation(CHECKED)
        points = {float(k): float(k) for k in range(1, codec.levels + 1)}
        return Panel(x.split(BATCH), points, yard_of(x, classes))

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        found = super().write(codec, part)
        x, classes = self._source(codec).validation(self.config.eval.images)
        rows = accuracy(made_for(FeatureCodec, load_codec(part)), x, classes)
        for row in rows:
            self.say("  ".join(f"{k} {v:.4g}" for k, v in row.items()))
        return {**found, "accuracy": rows}

    def _source(self, codec: Codec) -> ClassSource:
        signal = made_for(FeatureSignal, codec.signal)
        images = ImageCache(self.config.data.train, self.config.data.cache)
        return ClassSource(images, self.config, signal)
