# SPDX-License-Identifier: Apache-2.0
"""How much worse a codec has become: quality and bits, and both as one.

    loss = mean (quality - quality') + slope · mean ln(bits' / bits)

Quality is in the unit of the kind's measure: PSNR in dB, PESQ of speech. The slope is
the codec's own, quality over the logarithm of the rate between its first and its last
point: what more bits would have bought.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from polycodec.codecs.base import Codec
from polycodec.train.check import Panel

SLOPE = 4.0  # dB, where a codec has one point only: pictures have 3 to 6


@dataclass(frozen=True)
class Score:
    """Bits and quality, (points, signals) both; not a number: who cannot be judged."""

    bits: np.ndarray
    quality: np.ndarray

    def loss(self, of: Score) -> float:
        """How much worse ``of`` is, its bits counted at this one's slope."""
        return float(np.nanmean(self._losses(of)))

    def doubt(self, of: Score) -> float:
        """The standard error of the loss, from how signals differ; 0 for one."""
        every = self._losses(of)
        every = every[np.isfinite(every)]
        return float(every.std(ddof=1) / every.size**0.5) if every.size > 1 else 0.0

    def report(self, of: Score) -> dict[str, float]:
        """Return the loss of quality, of bits in percent, and both as one."""
        change = (of.bits.sum(1) / self.bits.sum(1)).mean() - 1
        gone = np.nanmean((self.quality - of.quality).mean(0))
        return {
            "quality": float(gone),
            "percent_bits": float(100 * change),
            "loss": self.loss(of),
        }

    def _losses(self, of: Score) -> np.ndarray:
        """Each signal's, (signals,)."""
        more = np.log(of.bits / self.bits).mean(0)
        return (self.quality - of.quality).mean(0) + self._slope() * more

    def _slope(self) -> float:
        quality, bits = np.nanmean(self.quality, 1), self.bits.sum(1)
        span = math.log(bits[-1] / bits[0])
        return max(float(quality[-1] - quality[0]) / span, 0.0) if span else SLOPE


@torch.inference_mode()
def score(codec: Codec, panel: Panel, levels: Sequence[float]) -> Score:
    """Code the panel's signals at levels; rates are those of the tables."""
    bits: list[float] = []
    quality: list[float] = []
    for level in levels:
        for x in panel.signals:
            coded = codec.write(codec.encode_codes(x, level), level)
            bits += coded.estimated_bits
            back = codec.decode_codes(coded.codes, level, x.shape[2:])
            quality += map(panel.yard.quality, x, back)
    points = len(levels)
    return Score(
        np.array(bits).reshape(points, -1), np.array(quality).reshape(points, -1)
    )
