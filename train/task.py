# SPDX-License-Identifier: Apache-2.0
"""What depends on the kind of signal, in one object the training loop asks.

    loop                         task
    ───────────────────────────────────────────────────────────────
    before a step                begin(step)     codebooks are built here
    batch, forward, loss         loss(step)      a scalar, and what the log says
    now and then                 validate(step)  one row per rate
    checkpoint                   state(), load_state()

The loop owns devices, precision, the optimizer, averages, checkpoints and the log;
a task owns data, losses and measures. Which one trains a codec says `part_of`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.errors import ModelError, UnknownNameError, UsageError
from polycodec.registry import find
from polycodec.train.config import SECTIONS_OF_TASKS, TrainConfig
from polycodec.train.log import RunLog

if TYPE_CHECKING:  # of the extra 'train'; listing tasks needs none of it
    from lightning.fabric import Fabric

T = TypeVar("T")


class Task(abc.ABC):
    """Base of `task/*`. The loop sets the last three before the first step."""

    family: ClassVar[type[nn.Module]] = nn.Module  # of the codecs that it trains
    # Sections that it reads beside those of the loop; None: it may be any.
    sections: ClassVar[tuple[str, ...] | None] = None

    model: nn.Module  # as Fabric wraps it; model.module is the codec itself
    forward: Callable[..., Any]  # the same, compiled where asked for
    precision: Callable[[], AbstractContextManager[Any]]

    def __init__(
        self, codec: Codec, config: TrainConfig, fabric: Fabric, log: RunLog
    ) -> None:
        made_for(self.family, codec)
        self.check_sections(config)
        self.config, self.fabric, self.log = config, fabric, log
        self.open(codec)

    def open(self, codec: Codec) -> None:
        """Find the run's data; refuse what it is not made for."""
        return

    @classmethod
    def check_sections(cls, config: TrainConfig) -> None:
        """Refuse what a config asks for and this task would not do."""
        for name, kind in SECTIONS_OF_TASKS.items():
            own = cls.sections is None or name in cls.sections
            if not own and getattr(config, name) != kind():
                raise UsageError(
                    f"the config sets '{name}', which {cls.__name__} does not "
                    "read; leave it out, or name a task that does with 'task:'"
                )

    @property
    def codec(self) -> Codec:
        """Return the codec inside the wrapping of devices and processes."""
        return cast(Codec, self.model.module)

    def mean_of_processes(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        return cast(Tensor, self.fabric.all_reduce(value, reduce_op="mean"))

    def prepare(self, codec: Codec) -> None:
        """Start a fresh codec from data, before optimizer and devices."""
        return

    def setup(self) -> None:
        """Put what else is trained on devices; ``model`` is set."""
        return

    def begin(self, step: int) -> tuple[str, ...]:
        """Prepare a step; returns prefixes of weights that this replaced."""
        return ()

    @abc.abstractmethod
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar to go down, and scalars for the log.

        All that is random in it comes from (``run.seed``, step, rank): a resumed run
        then repeats an uninterrupted one.
        """

    @abc.abstractmethod
    def validate(self, step: int) -> list[dict[str, Any]]:
        """Return rows of rate and distortion of the model as it is, in eval mode.

        The first entry of a row says which point it is: a quality, or levels.
        """

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside codec and optimizer."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        return

    def line(self, values: dict[str, float]) -> str:
        """Return the step's values for people."""
        hidden = ("norm", "lr")
        return "  ".join(f"{k} {v:.3f}" for k, v in values.items() if k not in hidden)

    @abc.abstractmethod
    def rows(self, rows: list[dict[str, Any]]) -> str:
        """Return the validation for people, one line."""


def made_for(expected: type[T], found: object) -> T:
    """Return ``found``; ModelError where it is not what the task or recipe is made for.

    A config may name the task of another family.
    """
    if not isinstance(found, expected):
        raise ModelError(
            f"this task or recipe is made for a {expected.__name__}; found a "
            f"{type(found).__name__}; leave 'task:' and 'recipe:' of the config out, "
            "or name those of the codec's family"
        )
    return found


def part_of(kind: str, named: str | None, codec: Codec, family: str) -> Any:
    """Find the task or recipe of a codec: the one ``named`` by its config, or its own.

    Its own is <kind of signal>/<family>, such as task/image/latent: a new family
    registers one under its name. Raises ModelError when there is none.
    """
    own = f"{codec.kind}/{family}"
    try:
        return find(f"{kind}/{named or own}")
    except UnknownNameError as error:
        raise ModelError(
            f"{error}; register '{kind}/{own}', or name one that fits codec "
            f"'{family}' with '{kind}:' in the config"
        ) from error
