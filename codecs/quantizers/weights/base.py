# SPDX-License-Identifier: Apache-2.0
"""What every quantizer of weights does: a matrix of numbers to few bytes, and back.

    w (R, C) ── offers ──► settings, each with its bytes and its error
    w (R, C) ── encode, at one of them ──► bytes ── decode ──► ŵ (R, C)

Bytes say all that decoding needs but for R and C. Decoding adds, shifts and looks up
integers, and multiplies them by scales that float64 holds without rounding: ŵ is the
same number on every machine, so that layers which must be exact may be coded too.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np

from polycodec.errors import ModelError


@dataclass(frozen=True)
class Offer:
    """A ``setting`` of a quantizer, about so many ``bytes`` for so much ``error``.

    error: Σ (w - ŵ)², in the unit of w squared.
    """

    setting: int
    bytes: float
    error: float


@dataclass(frozen=True)
class Choice:
    """A quantizer of weights by its name, and the setting to use it at."""

    how: str
    setting: int


class WeightQuantizer(abc.ABC):
    """Base of `weights/*`. Matrices are (R, C) float64, rows are outputs."""

    @abc.abstractmethod
    def offers(self, w: np.ndarray) -> list[Offer]:
        """Return what it can do for w (R, C), one entry for each useful setting."""

    @abc.abstractmethod
    def encode(self, w: np.ndarray, setting: int) -> bytes:
        """Return the bytes of w (R, C), finite, at a setting of `offers`."""

    @abc.abstractmethod
    def decode(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        """Return ŵ (R, C) float64 of bytes; ModelError for bytes that are none."""


def damaged(what: str) -> ModelError:
    """Return the error for bytes that no encoder writes."""
    return ModelError(f"coded weights are damaged; {what}; get the file again")


def steps_of(rms: float, finest: int = -40, coarsest: int = 4) -> list[int]:
    """Return exponents q of steps 2^(q / 4) from 2^(coarsest / 4) rms downwards."""
    middle = 4 * np.log2(max(rms, 1e-30))
    return [round(middle + k) for k in range(coarsest, finest, -1)]
