# SPDX-License-Identifier: Apache-2.0
"""Weights to a goal: disturb each tensor, ask all quantizers, pack, measure.

each tensor disturbed in turn ─► loss for an error of one ─┐
offers of all quantizers ──────────────────────────────────┴► allocation ─► packed
                                    ▲                                         │
                                    └── aim again ◄── read back, measured ◄───┘
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.packed import beyond, is_same, matrix
from polycodec.codecs.quantizers.weights.allocation import (
    Menu,
    Priced,
    gone,
    priced,
    to_loss,
    to_size,
)
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.codecs.stored import (
    about_base,
    approximable,
    fill,
    load_codec,
    predictor,
    read_weights,
    with_new_names,
    write_weights,
)
from polycodec.entropy_models.exact.layer import exact_layers
from polycodec.errors import ModelError, UsageError
from polycodec.train.check import Panel
from polycodec.train.shrink.score import score

MEASURED = 4096  # a tensor of more numbers is disturbed to see what it does
NOISE = 1e-2  # of its energy
DISTURBED = 8, 1 << 16  # signals that this is seen on, samples of each
COARSEST = 1 / 16  # error over energy that no such tensor exceeds
FINE = 2.0**-26  # the same of tensors too small to be measured, gains among them
SMALLEST = 64  # a tensor of fewer numbers is kept as it is
TRIES = 8


@dataclass(frozen=True)
class Goal:
    """One of: bits a parameter on average, bytes of the file, loss (`score.py`).

    base: name of a model of which only the difference is stored.
    """

    bits: float | None = None
    size: int | None = None
    max_loss: float | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.bits, self.size, self.max_loss) if v is not None]
        if len(given) != 1 or not 0 < given[0] < math.inf:
            raise UsageError(
                "expected one of --bits, --size and --max-loss, above 0; found "
                f"{' and '.join(f'{v:g}' for v in given) or 'none'}; name one"
            )


class Shrinker:
    """Packs the weights of one file to goals; ``say`` hears what goes on."""

    def __init__(
        self,
        path: Path,
        panel: Panel | None,
        say: Callable[[str], None],
        base: str | None = None,
    ) -> None:
        self.panel, self.say, self.base = panel, say, base
        self.codec, self.config, self.tensors = read_weights(path)
        self.tensors = with_new_names(self.codec, self.tensors)
        fill(self.codec, self.tensors, self.config, path)
        self.codec.eval()
        self.levels = list(panel.points.values()) if panel else []
        self.before = score(self.codec, panel, self.levels) if panel else None
        self.few = panel.brief(*DISTURBED) if panel else None
        self.calm = score(self.codec, self.few, self.levels) if self.few else None
        self.memo: dict[tuple[str, Choice], bytes] = {}
        free = approximable(self.codec)
        self.names = [k for k in free if self.tensors[k].numel() >= SMALLEST]
        self.parameters = sum(self.tensors[k].numel() for k in free)
        self.guessed = predictor(self.codec, about_base(base))
        known = (self.guessed(k, self.tensors) is not None for k in self.names)
        if base is not None and not any(known):
            raise ModelError(
                f"'{base}' has none of these weights, it is another kind of codec; "
                "expected the model that they were fine-tuned from; name that one"
            )

    def menu(self) -> Menu:
        """Measure every tensor and ask every quantizer."""
        found, measured = {}, 0
        # What is the base's is kept exactly, in no bytes.
        names = [k for k in sorted(self.names) if not self._is_given(k)]
        large = [k for k in names if self.tensors[k].numel() > MEASURED]
        for name in names:
            w = matrix(self.tensors[name])
            energy, weight = float((w**2).sum()), None
            if name in large:
                measured += 1
                weight = self.harm(name) / max(NOISE * energy, 1e-30)
                if self.panel is not None:
                    self.say(
                        f"measured {measured} of {len(large)}: {name} "
                        f"{weight * NOISE * energy:.4f} at 20 dB below it"
                    )
            guess = self.guessed(name, self.tensors)
            most = (FINE if weight is None else COARSEST) * energy
            if guess is not None:
                w = beyond(self.tensors[name], guess)
                # What a base foretells may go altogether; a tensor itself may not.
                most = most if weight is None else math.inf
            found[name] = priced(w, weight, most)
            if guess is not None and weight is not None:
                found[name].append(gone(w, weight))
        return found

    @torch.inference_mode()
    def harm(self, name: str) -> float:
        """Return the loss where noise, 20 dB below it, is added to a tensor.

        Of what is seen on a few signals, the standard error is added, and a gain is
        luck: a tensor that seemed to do no harm is not given up. Without a panel every
        tensor harms alike, by its share of the parameters.
        """
        value = self.tensors[name]
        if self.few is None or self.calm is None:
            return value.numel() / self.parameters
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        rms = value.double().square().mean().sqrt()
        loud = value.double() + noise * rms * NOISE**0.5
        self._put(name, loud)
        try:
            found = score(self.codec, self.few, self.levels)
        finally:
            self._put(name, value)
        loss, doubt = self.calm.loss(found), self.calm.doubt(found)
        return max(max(loss, 0.0) + doubt, 1e-4)

    def _is_given(self, name: str) -> bool:
        return is_same(self.tensors[name], self.guessed(name, self.tensors))

    def _put(self, name: str, value: Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        layer = exact_layers(self.codec).get(owner)
        if layer is None:
            self.codec.state_dict()[name].copy_(value)
            return
        integers = layer.integers()
        top = int(integers[leaf].abs().max())
        integers[leaf] = value.round().clamp(-top, top).to(integers[leaf].dtype)
        layer.load_integers(integers)

    def write(self, part: Path, goal: Goal) -> dict[str, Any]:
        """Pack to ``part`` what meets the goal; returns what the card says of it."""
        if goal.max_loss is not None and self.panel is None:
            raise UsageError("a loss is measured on signals; name a folder with --data")
        menu = self.menu()
        size = goal.size
        if goal.bits is not None:
            size = round(goal.bits * self.parameters / 8)
        if size is not None:
            self._to_size(part, menu, size)
        else:
            assert goal.max_loss is not None
            self._to_loss(part, menu, goal.max_loss)
        found: dict[str, Any] = {"goal": _said(goal), "bytes": part.stat().st_size}
        found["bits"] = 8 * part.stat().st_size / self.parameters
        if self.before is not None and self.panel is not None:
            found["unit"] = self.panel.yard.unit_of_quality
            found |= {k: round(v, 4) for k, v in self._lost(part).items()}
        return found

    def _to_size(self, part: Path, menu: Menu, size: int) -> None:
        """Aim lower by what a try was too large by, and by more if nothing changes."""
        aim, real, excess = float(size), 0, 0.0
        plan: dict[str, Priced] | None = None
        for _ in range(TRIES):
            if plan == (plan := to_size(menu, aim)):
                excess *= 2
            else:
                self._pack(part, plan)
                real = part.stat().st_size
                if real <= size:
                    return
                excess = 1.05 * (real - size)
            aim -= excess
        raise ModelError(
            f"these weights do not fit {size} bytes; the last file that was tried has "
            f"{real}; ask for more"
        )

    def _to_loss(self, part: Path, menu: Menu, most: float) -> None:
        aim, good, loss = most, math.inf, 0.0
        best: dict[str, Priced] | None = None
        plan: dict[str, Priced] | None = None
        for _ in range(TRIES):
            if plan == (plan := to_loss(menu, aim)):
                if loss <= most:
                    break  # nothing between it and what loses more
                aim /= 3
                continue
            self._pack(part, plan)
            loss, real = self._lost(part)["loss"], part.stat().st_size
            self.say(f"{real} bytes lose {loss:.4f}; {most:g} may be lost")
            if loss <= most and real < good:
                best, good = plan, real
            if 0.85 * most <= loss <= most:
                break
            aim *= min(max(0.95 * most / max(loss, 1e-3 * most), 0.3), 3.0)
        if best is None:
            raise ModelError(
                f"no file loses {most:g} at most; the last that was tried loses "
                f"{loss:.4f}; allow more, or measure on more signals"
            )
        self._pack(part, best)

    def _pack(self, part: Path, plan: dict[str, Priced]) -> None:
        choices = {name: one.choice for name, one in plan.items()}
        write_weights(
            *(self.codec, part, self.config, self.tensors),
            *(choices, self.base, self.memo),
        )
        ways = [one.how for one in choices.values()]
        used = ", ".join(f"{ways.count(way)} {way}" for way in sorted(set(ways)))
        self.say(f"packed: {part.stat().st_size} bytes, tensors as {used}")

    def _lost(self, part: Path) -> dict[str, float]:
        assert self.before is not None and self.panel is not None
        after = score(load_codec(part), self.panel, self.levels)
        return self.before.report(after)


def _said(goal: Goal) -> dict[str, Any]:
    return {k: v for k, v in vars(goal).items() if v is not None}
