# SPDX-License-Identifier: Apache-2.0
"""The feature family: latents that the network of a task reads instead of pictures.

    edge     x ── g_a ──► z ── whole(level) ──► y ──[ entropy: code(coder, y) ]── ŷ
    server   answer ◄── head ◄── features ◄── g_s ◄── ẑ ◄───────────────────────┘

The synthesis is a classifier: `decompress` gives its answers, and there is no picture
to be had. With `transform/edge`, `entropy/factorized` and the stages of a residual
network it is Entropic Student (Matsubara, Yang, Levorato, Mandt 2022, WACV, arXiv
2108.11898). Unlike there, one set of weights has several rates (`rates.Steps`, whose
centres stand for the medians and are learned with the rest), and latents are rounded
with straight-through gradients for g_s while the rate sees noise.

Exact are the integers ŷ, and so the features as they are sent: every decoder has the
encoder's. Analysis, g_s and the head are floats, so probabilities may differ in the
last digits between machines, and a tie may fall either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polycodec.codecs.families.latent import LatentCodec
from polycodec.codecs.families.parts import Options, part_of
from polycodec.codecs.heads.base import Head
from polycodec.codecs.ordinary import ordinary
from polycodec.codecs.signals.features import FeatureSignal
from polycodec.codecs.transforms.base import FeatureTransform
from polycodec.errors import ModelError
from polycodec.registry import register


@dataclass
class FeatureOutput:
    """What training sees: the features and what each stage of the head made of them,
    logits (B, classes), bits (B,)."""

    stages: list[Tensor]
    logits: Tensor
    bits: Tensor


@register("codec/feature")
class FeatureCodec(LatentCodec):
    """A transform to features, an entropy model, and the ``head`` that reads them.

    ``positions``: sizes of the grid of codes of every picture.
    """

    family = "feature"
    transform: FeatureTransform

    def __init__(
        self,
        *,
        signal: Options | str | None = None,
        channels: int = 24,
        levels: int = 1,
        transform: Options | None = None,
        entropy: Options | None = None,
        head: Options | None = None,
    ) -> None:
        given = {"name": signal} if isinstance(signal, str) else dict(signal or {})
        super().__init__(
            signal={"name": "features", **given},
            channels=channels,
            levels=levels,
            transform={"name": "edge", **(transform or {})},
            entropy={"name": "factorized", **(entropy or {})},
        )
        if not isinstance(self.transform, FeatureTransform):
            raise ModelError(
                f"{type(self.transform).__name__} makes no features; expected a "
                "FeatureTransform, such as transform/edge"
            )
        if not isinstance(self.signal, FeatureSignal):
            raise ModelError(
                f"the signal is {self.signal.kind}; expected pictures for a head, "
                "signal/features; leave 'signal' out"
            )
        self.positions = self.grid((self.signal.size, self.signal.size))
        self.head = part_of(
            Head,
            "head",
            head,
            default="residual",
            signal=self.signal,
            features=self.transform.features,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """What the classes are called."""
        return self.head.labels

    def quality_of(self, level: int) -> float:
        """The quality, 0 to 100, in the middle of those that have this level."""
        return 100 * (level - 1) / max(1, self.levels - 1)

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        """Logits (B, classes) of latents."""
        return self.head(super().synthesise(z_hat, level))

    @ordinary
    def classify(self, data: bytes | Sequence[bytes]) -> Tensor:
        """Probabilities (B, classes) of what `compress` made of B pictures."""
        logits: Tensor = self.decompress(data)
        return logits.softmax(1)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        *,
        quantize: bool = True,
        rounded: bool = False,
    ) -> Any:
        """Train: x (B, 3, size, size), level (B,); a FeatureOutput. See LatentCodec."""
        z_hat, bits = self.coded(x, level, quantize, rounded)
        features = self.transform.synthesise(z_hat, level)
        made = self.head.stages(features)
        return FeatureOutput([features, *made], self.head.logits(made[-1]), bits)
