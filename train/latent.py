# SPDX-License-Identifier: Apache-2.0
"""The latent family's export, on any kind of signal: freeze, certify, fit, check.

training crops, every rate ─► grids of the exact layers ─► certificates
file read back, in float16 ─► integers of training signals ─► tables
file read back ─► held-out signals ─► check.py
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.coders import RateEstimator
from polycodec.train.check import Yardstick, self_check
from polycodec.train.export import Recipe, as_row, certificate_table


@dataclass(frozen=True)
class Material:
    """What a kind of signal hands to an export; signals are (B, C, *S) floats.

    ``crops`` fix the grids, at the ``rates`` of the codec; tables are fitted to
    ``training``; ``held_out`` is measured at ``points``: what a row of the card is
    called by -> its level. ``about``: what else the card says.
    """

    crops: Sequence[Tensor]
    rates: Sequence[float]
    training: Iterable[Tensor]
    held_out: Sequence[Tensor]
    points: dict[float, float]
    yard: Yardstick
    about: dict[str, Any]


class LatentRecipe(Recipe):
    """Base of the latent family's recipes: a kind says from what."""

    @abc.abstractmethod
    def material(self, codec: Codec) -> Material:
        """Draw signals, always the same ones of a run's own data."""

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        m = self.material(codec)
        levels = list(m.points.values())
        before = estimated(codec, m.held_out, levels)
        self.say(f"calibrating on {sum(map(len, m.crops))} crops")
        certificates = codec.freeze(lambda codec: estimated(codec, m.crops, m.rates))
        self.say(certificate_table(certificates))
        after = estimated(codec, m.held_out, levels)
        codec.save(part, self.stored)
        codec = load_codec(part)  # weights are rounded now: these integers are final
        plain = by_tables(codec, m.held_out, levels)
        if counted := fit_tables(codec, m.training, levels):
            self.say(f"tables fitted to {counted / 1e6:.1f} M integers")
        fitted = by_tables(codec, m.held_out, levels)
        codec.save(part, self.stored)
        return {
            "freezing": f"{100 * (after / before - 1):+.3f} % rate",
            "tables": f"{100 * (fitted / plain - 1):+.3f} % rate by fitting them",
            "validation": self_check(
                load_codec(part), m.held_out, m.points, m.yard, self.say
            ),
            "certificate": [as_row(c) for c in certificates],
            **m.about,
        }


def geometric(ends: tuple[float, float], count: int) -> Tensor:
    """Return a geometric row (count,) float32 between two ends; of one, the first."""
    return torch.logspace(0, 1, count, ends[1] / ends[0]) * ends[0]


@torch.no_grad()
def estimated(
    codec: Codec, signals: Iterable[Tensor], levels: Sequence[float]
) -> float:
    """Estimated bits of signals at some levels together, without noise."""
    bits = 0.0
    for x in signals:
        for level in levels:
            coder = RateEstimator(len(x), noise=False)
            codec.code(coder, codec.encode_codes(x, level), level)
            bits += float(coder.bits.sum())
    return bits


def by_tables(
    codec: Codec, signals: Iterable[Tensor], levels: Sequence[float]
) -> float:
    """Bits of signals at the middle level by the integer tables."""
    level = levels[len(levels) // 2]
    coded = (codec.write(codec.encode_codes(x, level), level) for x in signals)
    return sum(sum(one.estimated_bits) for one in coded)


@torch.no_grad()
def fit_tables(codec: Codec, signals: Iterable[Tensor], levels: Sequence[float]) -> int:
    """Fit tables to what the frozen codec sends of signals, every level alike.

    Costs nothing in files or decoders: tables are data of the weights. Returns how many
    symbols were seen, 0 for an entropy model that has no tables to fit.
    """
    model = codec.entropy
    counter = None if model is None else model.counter()
    if model is None or counter is None:
        return 0
    for x in signals:
        for level in levels:
            codec.code(counter, codec.encode_codes(x, level), level)
    model.refit(counter)
    return counter.total
