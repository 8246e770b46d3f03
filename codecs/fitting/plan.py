# SPDX-License-Identifier: Apache-2.0
"""What is asked of a fit: how it is done, how long, where it is kept, who is told.

Recipe   of the codec's config: losses, rates, how weights are quantized
Plan     of one encoding: seconds or steps, bytes, checkpoint, whom to tell
Report   of one moment: how far, PSNR, bits, seconds left
"""

from __future__ import annotations

import contextlib
import glob
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from polycodec.errors import ModelError, UsageError

CODINGS = ("cem", "eight", "trellis")


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted, and then quantized.

    epochs: passes over the items in all, unless a plan says how long; ``quantizing``:
    the share of them for the second stage. ``batch``: items a step. ``lr``, ``warm``,
    ``floor``: of the first stage (`rate_at`), which learns as if it had all the time:
    what it has not learned when it ends, the second, of ``late_lr``, hardly does.
    ``loss``: parts and their weights.

    ``coding``: cem, steps and weights learn with their rate (consistent entropy
    minimization) while it is above the target, ``lmbda`` a bit of rate per pixel of one
    frame; eight, 256 steps over each tensor's range, as NeRV and HNeRV quantize, and
    the second stage, if weights are pruned, learns what is left; trellis, there is no
    second stage. ``packed``: after the fit each tensor is coded in the cheaper of ways,
    trellis and lattice among them (`allocated.py`). ``keep``: share of the weights that
    are not pruned, by size, over all tensors but biases.
    """

    epochs: int = 300
    quantizing: float = 0.25
    batch: int = 1
    optimizer: str = "adam"
    lr: float = 1e-3
    late_lr: float = 5e-4
    warm: float = 0.1
    floor: float = 0.1
    loss: Mapping[str, float] = field(default_factory=lambda: {"l2": 1.0})
    coding: str = "cem"
    lmbda: float = 0.05
    keep: float = 1.0
    packed: bool = True

    def __post_init__(self) -> None:
        if self.coding not in CODINGS or self.optimizer not in ("adam", "adan"):
            raise ModelError(
                f"a fit has coding '{self.coding}' and optimizer '{self.optimizer}'; "
                f"expected one of {', '.join(CODINGS)}, and adam or adan"
            )
        if not (0 < self.keep <= 1 and 0 <= self.quantizing < 1 and self.batch > 0):
            raise ModelError(
                f"a fit keeps {self.keep}, quantizes for {self.quantizing} and has "
                f"batches of {self.batch}; expected shares of 0 … 1, and 1 at least"
            )

    @property
    def late(self) -> float:
        """The share of a fit that its second stage has."""
        return 0.0 if self.coding == "trellis" else self.quantizing


@dataclass(frozen=True)
class Report:
    """Where a fit stands; ``psnr`` of the last items in dB, ``left`` in seconds.

    ``packing``: all steps are done, and its weights are coded.
    """

    step: int
    progress: float
    psnr: float
    bits: float | None
    left: float
    packing: bool = False

    def __str__(self) -> str:
        rate = "" if self.bits is None else f"  {self.bits / 8000:.1f} kB"
        minutes, seconds = divmod(round(self.left), 60)
        ahead = "packing weights" if self.packing else f"{minutes}:{seconds:02d} left"
        return f"{100 * self.progress:.0f} %  {self.psnr:.2f} dB{rate}  {ahead}"


@dataclass
class Plan:
    """How one signal is fitted; a fresh one does what the recipe says.

    ``seconds`` and ``steps``: how long at most, of all items together; ``bytes``: the
    largest stream; with ``items`` they are of a signal of so many, and a part of it has
    its share. ``kept``: file of the checkpoint; ``resume``: go on from it. ``number``:
    of the part; ``unbegun``: numbers of parts for which a stopped fit had no step.
    ``tell`` gets a Report now and then; ``notes`` what a user has to know in the end.
    ``clock``: what seconds are counted by; a comparison beside other work counts those
    of its own process.
    """

    seconds: float | None = None
    steps: int | None = None
    bytes: int | None = None
    items: int | None = None
    kept: Path | None = None
    resume: bool = False
    number: int = 0
    seed: int = 0
    tell: Callable[[Report], None] | None = None
    clock: Callable[[], float] = time.perf_counter
    notes: list[str] = field(default_factory=list)
    unbegun: list[int] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        for name in ("seconds", "steps", "bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(
                    f"a plan has {value} {name}; expected more than 0, or None: as the "
                    "recipe says"
                )

    def part(self, k: int, items: int) -> Plan:
        """The plan of part k of a signal, of ``items``: its share, its own checkpoint.

        Notes and the wish to stop are those of the whole.
        """
        share = items / max(self.items or items, items)
        return replace(
            self,
            seconds=None if self.seconds is None else share * self.seconds,
            steps=None if self.steps is None else max(1, round(share * self.steps)),
            bytes=None if self.bytes is None else max(1, int(share * self.bytes)),
            items=None,
            number=k,
            kept=self.kept and self.kept.with_name(f"{self.kept.name}{k}"),
        )

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """The first Ctrl-C stops the fit, with what it has; a second one ends all."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def stop(*_: object) -> None:
            self.stopped.set()
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def checkpoints(kept: Path) -> list[Path]:
    """The files of all parts of a plan that is kept there."""
    found = kept.parent.glob(f"{glob.escape(kept.name)}*")
    return sorted(p for p in found if p.name.removeprefix(kept.name).isdigit())
