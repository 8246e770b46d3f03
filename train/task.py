# SPDX-License-Identifier: Apache-2.0
"""What depends on the kind of signal, in one object the training loop asks.

    loop                         task
    ───────────────────────────────────────────────────────────────
    before a step                begin(step)     codebooks are built here
    batch, forward, loss         loss(step)      a scalar, and what the log says
    now and then                 validate(step)  one row per rate
    checkpoint                   state(), load_state()

The loop owns devices, precision, the optimizer, averages, checkpoints and the log;
a task owns data, losses and measures. `task_of` picks by the codec's ``kind``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor, nn

from polycodec.errors import ModelError
from polycodec.train.config import TrainConfig
from polycodec.train.log import RunLog

# By kind of signal, and where a family of it is trained otherwise by both.
HOMES = {
    "image": ("polycodec.train.image.task", "ImageTask"),
    "speech": ("polycodec.train.speech.task", "SpeechTask"),
    "speech/latent-speech": ("polycodec.train.speech.task_latent", "LatentSpeechTask"),
}


class Task:
    """Base of all tasks. The loop sets ``model`` (wrapped) before the first step."""

    model: nn.Module  # as Fabric wraps it; model.module is the codec itself
    forward: Callable[..., Any]  # the same, compiled where asked for
    precision: Callable[[], AbstractContextManager]

    def __init__(
        self, codec: nn.Module, config: TrainConfig, fabric: Fabric, log: RunLog
    ) -> None:
        self.config, self.fabric, self.log = config, fabric, log

    @property
    def codec(self) -> Any:
        """The codec inside the wrapping of devices and processes."""
        return self.model.module

    def prepare(self, codec: nn.Module) -> None:
        """Start a fresh codec from data, before optimizer and devices."""

    def setup(self) -> None:
        """Put what else is trained on devices; ``model`` is set."""

    def begin(self, step: int) -> tuple[str, ...]:
        """Called before every step; prefixes of weights that it replaced."""
        return ()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float | Tensor]]:
        """The scalar to go down, and values for the log."""
        raise NotImplementedError

    def validate(self, step: int) -> list[dict[str, Any]]:
        """Rows of rate and distortion of the model as it is, in eval mode."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside codec and optimizer."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""

    @staticmethod
    def line(values: dict[str, float]) -> str:
        """The step's values for people."""
        return "  ".join(f"{k} {v:.3f}" for k, v in values.items())

    @staticmethod
    def rows(rows: list[dict[str, float]]) -> str:
        """The validation for people, one line."""
        raise NotImplementedError


def task_of(codec: nn.Module, config: TrainConfig, fabric: Fabric, log: RunLog) -> Task:
    """The task for a codec's kind of signal; ModelError when there is none."""
    kind = getattr(codec, "kind", None)
    if kind not in HOMES:
        raise ModelError(
            f"codec '{config.codec.name}' codes {kind!r}; training knows "
            f"{', '.join(k for k in HOMES if '/' not in k)}; choose another codec.name"
        )
    home, name = HOMES.get(f"{kind}/{config.codec.name}", HOMES[kind])
    return getattr(importlib.import_module(home), name)(codec, config, fabric, log)
