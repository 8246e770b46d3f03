# SPDX-License-Identifier: Apache-2.0
"""What a rate does to latents: one set of weights, many rates.

    z ── scale(level) ──► y ── rounded and coded ──► ŷ ── unscale(level) ──► ẑ

    Gains    z · g(level), rounded around a predicted mean; levels are a continuum
    Steps    (z - centre) · g_l, rounded to whole numbers; levels are 1, 2 … L

A gain and an inverse gain of their own: Cui et al. 2021, "Asymmetric gained deep image
compression" (arXiv 2003.02012).
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.rate import Levels, RateScale
from polycodec.entropy_models.models.autoregressive import Scales
from polycodec.errors import ModelError, UsageError

LIMIT = 4096  # BITSTREAM: whole numbers lie in -LIMIT … LIMIT
# Deviation of whole numbers at the lowest and the highest rate when training begins to
# round: a normal density's entropy is then 0.5 and 2.5 bits.
START = (0.33, 1.4)


class Rates(Levels, abc.ABC):
    """Base of what a rate does to latents z (B, D, *S)."""

    @abc.abstractmethod
    def scale(self, z: Tensor, level: Tensor) -> Tensor:
        """Latents in quantization steps, of levels (B,)."""

    @abc.abstractmethod
    def unscale(self, y_hat: Tensor, level: Tensor) -> Tensor:
        """The reverse, for rounded ones."""

    def whole(self, y: Tensor) -> Tensor:
        """What is coded: y itself where coders round around means."""
        return y

    def told(self, level: Tensor) -> Scales | None:
        """What an entropy model may know of levels (B,)."""
        return None

    def freeze(self) -> None:
        """Keep what encoders and decoders everywhere must read alike."""
        return


class Gains(Rates):
    """Gains interpolated between ``knots``; level k trades distortion against rate with
    λ_k = λ_0 (λ_1/λ_0)^(k/(K-1)) in  bits a sample + λ 255² MSE.

    One knot: one rate, λ_0, and no gains at all.
    """

    def __init__(self, channels: int, knots: int, lmbda: Sequence[float]) -> None:
        ends = tuple(lmbda)
        rising = all(a < b for a, b in itertools.pairwise((0, *ends)))
        if knots < 1 or len(ends) != min(knots, 2) or not rising:
            raise ModelError(
                f"knots is {knots} and lmbda {ends}; expected both ends of a range, "
                "0 < low < high, with at least 2 knots; with 1 one number above 0"
            )
        super().__init__(knots)
        self.lmbda = ends[0], ends[-1]
        self.gain = RateScale(channels, knots)
        self.inverse_gain = RateScale(channels, knots)
        if knots > 1:
            # The best uniform step is proportional to λ^-½ (high-rate theory).
            lmbdas = self.lmbda_of(torch.arange(float(knots)))
            start = 0.5 * torch.log(lmbdas / 0.0067)
            self.gain.log_scale.data += start[:, None] + 1.4
            self.inverse_gain.log_scale.data -= start[:, None] + 1.4

    def lmbda_of(self, level: Tensor) -> Tensor:
        """λ of a level in [0, knots - 1]."""
        low, high = self.lmbda
        return low * (high / low) ** (level / max(self.levels - 1, 1))

    def level_of(self, quality: float) -> float:
        return quality / 100 * (self.levels - 1)

    def check(self, level: float) -> float:
        if not 0 <= level <= self.levels - 1:
            raise UsageError(f"level is {level}; expected 0 to {self.levels - 1}")
        return level

    def scale(self, z: Tensor, level: Tensor) -> Tensor:
        return self.gain(z, level)

    def unscale(self, y_hat: Tensor, level: Tensor) -> Tensor:
        return self.inverse_gain(y_hat, level)


class Steps(Rates):
    """Gain, inverse gain and shift of each channel at each level, (L, D); one centre.

    Whole numbers do not depend on means that a model predicts: rounding is local, so
    the codes of a signal are independent of how it was cut. The shift also tells the
    synthesis how coarse its latents are. Trained as logarithms; `freeze` keeps the
    factors themselves, so that encoders and decoders everywhere read equal numbers.
    """

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__(levels)
        self.log_gain = nn.Parameter(torch.zeros(levels, channels))
        self.log_inverse = nn.Parameter(torch.zeros(levels, channels))
        self.shift = nn.Parameter(torch.zeros(levels, channels))
        self.centre = nn.Parameter(torch.zeros(channels))
        # A power of two about as large as latents are: entropy models see z / unit.
        self.unit: Tensor
        self.register_buffer("unit", torch.ones(()))
        # BITSTREAM; 0 while not frozen.
        self.gain: Tensor
        self.inverse: Tensor
        self.register_buffer("gain", torch.zeros(levels, channels))
        self.register_buffer("inverse", torch.zeros(levels, channels))

    @torch.no_grad()
    def start(self, z: Tensor) -> Tensor:
        """Begin with a sample of latents (N, D): one step for all channels.

        A step costs the same distortion in every channel as long as the synthesis
        treats them alike; channels of little variance then cost little. Returns the
        deviations (L, D) of whole numbers at each level.
        """
        deviation = z.float().std(dim=0).clamp_min(1e-6)
        size = deviation.square().mean().sqrt()
        row = torch.logspace(0, 1, self.levels, START[1] / START[0], device=z.device)
        gain, mean = START[0] * row / size, z.float().mean(dim=0)
        self.unit.copy_(torch.exp2(size.log2().round()))
        self.log_gain.copy_(gain.log()[:, None].expand_as(self.log_gain))
        self.log_inverse.copy_(-self.log_gain)
        self.centre.copy_(mean)
        self.shift.copy_(mean.expand_as(self.shift))
        return gain[:, None] * deviation

    @torch.no_grad()
    def freeze(self) -> None:
        self.gain.copy_(self.log_gain.exp())
        self.inverse.copy_(self.log_inverse.exp())

    def scale(self, z: Tensor, level: Tensor) -> Tensor:
        # What is kept for any level may lie elsewhere than the weights.
        gain = self._at(level).gain.to(z.device)
        return (z.float() - _wide(self.centre.to(z.device), z)) * _wide(gain, z)

    def unscale(self, y_hat: Tensor, level: Tensor) -> Tensor:
        inverse, shift = self._at(level).inverse, self.shift[level.long() - 1]
        return y_hat * _wide(inverse, y_hat) + _wide(shift, y_hat)

    def whole(self, y: Tensor) -> Tensor:
        return torch.floor(y + 0.5).clamp(-LIMIT, LIMIT).to(torch.int64)

    def told(self, level: Tensor) -> Scales:
        """Scales of latents in units, exactly."""
        scales = self._at(level)
        gain, inverse = scales.gain * self.unit, scales.inverse / self.unit
        return Scales(scales.level, gain, inverse)

    def _at(self, level: Tensor) -> Scales:
        """Factors (B, D) of levels (B,)."""
        level = level.long() - 1
        gain, inverse = self.log_gain[level].exp(), self.log_inverse[level].exp()
        if self.training:
            return Scales(level, gain, inverse)
        frozen = self.gain.any()
        return Scales(
            level,
            torch.where(frozen, self.gain[level], gain),
            torch.where(frozen, self.inverse[level], inverse),
        )


def _wide(factors: Tensor, like: Tensor) -> Tensor:
    """Factors (B, D) or (D,) for latents (B, D, *S)."""
    spread: tuple[Any, ...] = (..., *([None] * (like.ndim - 2)))
    return factors[spread]
