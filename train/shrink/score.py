# SPDX-License-Identifier: Apache-2.0
"""How much worse a codec has become: decibels and bits, and both as one.

    loss = mean (quality - quality') + slope · mean ln(bits' / bits)       in dB

The slope is the codec's own, dB over the logarithm of the rate between its first and
its last point: what more bits would have bought.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.train.check import Panel

SLOPE = 4.0  # dB, where a codec has one point only: pictures have 3 to 6


@dataclass(frozen=True)
class Score:
    """Rates in bits and quality in dB at each point, the same signals."""

    bits: tuple[float, ...]
    quality: tuple[float, ...]

    def loss(self, of: Score) -> float:
        """How much worse ``of`` is, in dB, its bits counted at this one's slope."""
        rise = self.quality[-1] - self.quality[0]
        span = math.log(self.bits[-1] / self.bits[0])
        slope = max(rise / span, 0.0) if span else SLOPE
        more = [math.log(b / a) for a, b in zip(self.bits, of.bits, strict=True)]
        worse = [a - b for a, b in zip(self.quality, of.quality, strict=True)]
        return sum(worse) / len(worse) + slope * sum(more) / len(more)

    def report(self, of: Score) -> dict[str, float]:
        """Return the loss in dB, in percent of the bits, and both as one."""
        pairs = list(zip(self.bits, of.bits, strict=True))
        count = len(pairs)
        change = sum(b / a for a, b in pairs) / count - 1
        gone = (sum(self.quality) - sum(of.quality)) / count
        return {"db": gone, "percent_bits": 100 * change, "loss": self.loss(of)}


@torch.inference_mode()
def score(codec: Codec, panel: Panel, levels: Sequence[float]) -> Score:
    """Code the panel's signals at levels; rates are those of the tables."""
    bits, quality = [], []
    for level in levels:
        pairs: list[tuple[Tensor, Tensor]] = []
        total = 0.0
        for x in panel.signals:
            coded = codec.write(codec.encode_codes(x, level), level)
            total += sum(coded.estimated_bits)
            back = codec.decode_codes(coded.codes, level, x.shape[2:])
            pairs += zip(x, back, strict=True)
        bits.append(total)
        quality.append(panel.yard.decibels(pairs))
    return Score(tuple(bits), tuple(quality))
