# SPDX-License-Identifier: Apache-2.0
"""What a search at encoding hands over: latents to write, and what they gained.

cost = bits a sample + λ 255² MSE        of real bytes and of the decoded signal
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Bytes of the stream, squared error a sample and λ, over so many samples.

    ``samples``: pixels of an image; the error is that of samples of range 1.
    """

    bytes: float
    error: float
    lmbda: float
    samples: int

    @property
    def bits(self) -> float:
        """Bits a sample."""
        return 8 * self.bytes / self.samples

    @property
    def psnr(self) -> float:
        """In dB."""
        return -10 * math.log10(max(self.error, 1e-12))

    @property
    def total(self) -> float:
        """What a search makes smaller."""
        return self.bits + self.lmbda * 255**2 * self.error

    def __add__(self, other: Cost) -> Cost:
        """The cost of both parts of a signal together, at one λ."""
        samples = self.samples + other.samples
        error = self.error * self.samples + other.error * other.samples
        return Cost(self.bytes + other.bytes, error / samples, self.lmbda, samples)


def gained(before: Cost, after: Cost, steps: int) -> dict[str, float]:
    """What a search gained, for people and programs.

    ``saved_percent``: of the bytes before, the cost that it saved, all of it taken as
    bits. At equal PSNR that much is saved where λ is the slope of rate against
    distortion, which it nearly is on photographs; a few steps, or noise, may save less.
    Bytes are those of streams, without the file's header; PSNR is before rounding to
    pixels.
    """
    saved = before.total - after.total
    return {
        "steps": steps,
        "bytes_before": before.bytes,
        "bytes_after": after.bytes,
        "psnr_before": before.psnr,
        "psnr_after": after.psnr,
        "saved_percent": 100 * saved / before.bits,
    }


@dataclass(frozen=True)
class Found:
    """How far a search is: ``step`` of ``steps``, the best rounded latents so far."""

    step: int
    steps: int
    best: Cost


Watch = Callable[[Found], None]


@dataclass(frozen=True)
class Refined:
    """What to write: codes, side information, whether thriftily; see `Codec.write`.

    ``before`` and ``after``: the costs of what was given and of what is handed over,
    which are one where the search found nothing better. ``steps``: those taken.
    """

    codes: Tensor
    side: Tensor | None
    thrifty: bool
    before: Cost
    after: Cost
    steps: int
