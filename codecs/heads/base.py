# SPDX-License-Identifier: Apache-2.0
"""What is behind the features of a codec: the rest of a network that solves a task.

features (B, F, h, w) ─ stage ─ stage ─ … ─ logits ──► (B, classes)
                           └───────┴─── what a student imitates, stage by stage
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from polycodec.errors import ModelError


class Head(nn.Module, abc.ABC):
    """Base of `head/*`. ``features``: channels that it reads; ``labels``: what the
    classes are called, or numbers."""

    kind: ClassVar[str | None] = "features"

    def __init__(
        self, features: int, classes: int, labels: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.features, self.classes = features, classes
        self.labels = tuple(labels or map(str, range(classes)))
        if len(self.labels) != classes or not classes:
            raise ModelError(
                f"the head has {classes} classes and {len(self.labels)} labels; "
                "expected as many, one at least"
            )

    @abc.abstractmethod
    def stages(self, features: Tensor) -> list[Tensor]:
        """What each stage makes of features (B, F, h, w); the last goes to `logits`."""

    @abc.abstractmethod
    def logits(self, last: Tensor) -> Tensor:
        """Logits (B, classes) of what the last stage made."""

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(self.stages(features)[-1])
