# SPDX-License-Identifier: Apache-2.0
"""What both sides know before a sample is sent: the prior, and what is sent together.

    prior = NormalPrior.of(means, scales, Blocks.fit(bits_of_each, budget=16))

    order    │ 7 3 9 │ 0 5 │ 1 8 2 6 4 │      a permutation of the dimensions, cut into
    limits   0       3     5           10     blocks that cost about `bits` bits each

Blocks are filled one after the other in a random order, as long as what their
dimensions cost on average stays below the budget (RECOMBINER: He, Flamich, Guo,
Hernández-Lobato 2024, arXiv 2309.17182, section 3). The permutation, the limits, means
and scales are integers: they are part of a model, and never computed again.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import crc32c
from polycodec.entropy_models.relative import generator
from polycodec.errors import InputError, ModelError

MAX_BITS = 24  # of a block: 2^24 candidates
GRID = 20  # BITSTREAM: means and scales in 2^-20


@dataclass(frozen=True, eq=False)
class Blocks:
    """``order`` (N,) int32, a permutation; ``limits`` (K + 1,) int32, 0 to N; ``bits``.

    Raises ModelError when the numbers are not valid.
    """

    order: np.ndarray
    limits: np.ndarray
    bits: int

    def __post_init__(self) -> None:
        for name in ("order", "limits"):
            array = np.asarray(getattr(self, name))
            _require(array.ndim == 1 and array.dtype.kind in "iu", f"{name}: no row")
            object.__setattr__(self, name, array.astype(np.int32))
        count = self.order.size
        _require(1 <= self.bits <= MAX_BITS, f"{self.bits} bits, not 1..{MAX_BITS}")
        whole = np.array_equal(np.sort(self.order), np.arange(count))
        _require(whole, "order is no permutation")
        _require(self.limits.size >= 2, "there is no block")
        rises = self.limits[0] == 0 and bool((np.diff(self.limits) > 0).all())
        _require(rises and self.limits[-1] == count, "limits do not rise from 0 to N")

    def __len__(self) -> int:
        return self.limits.size - 1

    def dimensions(self, k: int) -> np.ndarray:
        """The dimensions of block ``k``, in the order in which they are drawn."""
        return self.order[self.limits[k] : self.limits[k + 1]]

    @classmethod
    def fit(
        cls, cost: np.ndarray | Tensor, bits: int, *, room: float = 0.0, seed: int = 0
    ) -> Blocks:
        """Blocks of dimensions that cost (N,) bits each; ``room``: bits left free.

        A dimension that costs more than a block has one for itself.
        """
        costs = np.asarray(cost, np.float64)
        if costs.ndim != 1 or not costs.size or not np.isfinite(costs).all():
            raise InputError(
                f"costs of shape {costs.shape}; expected a number of each dimension"
            )
        order = generator.shuffled(costs.size, stream=0, seed=seed)
        limits, filled = [0], 0.0
        for place, value in enumerate(costs[order].tolist()):
            if place > limits[-1] and filled + value > bits - room:
                limits.append(place)
                filled = 0.0
            filled += value
        return cls(order, np.array([*limits, costs.size], np.int32), bits)


class Normal(abc.ABC):
    """Independent Gaussians; ``floats``: means and scales, (N,)."""

    @property
    @abc.abstractmethod
    def floats(self) -> tuple[Tensor, Tensor]:
        """Means and scales."""


@dataclass(frozen=True, eq=False)
class FreePrior(Normal):
    """A prior that is still learned: means and scales (N,), floats."""

    means: Tensor
    scales: Tensor

    @property
    def floats(self) -> tuple[Tensor, Tensor]:
        return self.means, self.scales


@dataclass(frozen=True, eq=False)
class NormalPrior(Normal):
    """Independent Gaussians under which samples are numbered.

    ``means``, ``scales`` (N,) int32 in 2^-20, scales above 0; ``seed`` and ``stream``
    of the shared randomness.
    """

    means: np.ndarray
    scales: np.ndarray
    blocks: Blocks
    seed: int = 42  # BITSTREAM: of the generator
    stream: int = 0

    def __post_init__(self) -> None:
        for name in ("means", "scales"):
            array = np.asarray(getattr(self, name))
            fits = array.dtype.kind in "iu" and array.shape == self.blocks.order.shape
            _require(
                fits, f"{name} of {array.shape}; expected {self.blocks.order.shape}"
            )
            object.__setattr__(self, name, array.astype(np.int32))
        _require(int(self.scales.min()) > 0, "a scale is not above 0")
        _require(0 <= self.seed < 1 << 64, "the seed has more than 64 bits")
        _require(0 <= self.stream < 1 << 31, "the stream has more than 31 bits")

    @classmethod
    def of(
        cls,
        means: np.ndarray | Tensor,
        scales: np.ndarray | Tensor,
        blocks: Blocks,
        *,
        seed: int = 42,
        stream: int = 0,
    ) -> NormalPrior:
        """Round floats (N,) to the grid; once, when a model is exported."""
        limit = 2.0 ** (31 - GRID) - 1
        m, s = (np.asarray(v, np.float64) for v in (means, scales))
        if not (np.abs(m) < limit).all() or not ((s > 0) & (s < limit)).all():
            raise InputError(
                f"means or scales outside the grid; expected |means| and scales below "
                f"{limit:g}, scales above 0"
            )
        on_grid = [np.rint(v * 2**GRID).astype(np.int32) for v in (m, s)]
        return cls(on_grid[0], np.maximum(on_grid[1], 1), blocks, seed, stream)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What weights keep, int32; `from_arrays` makes it of them."""
        about = np.array([self.blocks.bits, self.seed, self.stream], np.int32)
        own = {"order": self.blocks.order, "limits": self.blocks.limits}
        return {"means": self.means, "scales": self.scales, **own, "about": about}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> NormalPrior:
        """A prior of the arrays of a file; ModelError for invalid ones."""
        about = np.asarray(arrays["about"])
        _require(about.shape == (3,) and about.dtype.kind == "i", "about: no 3 numbers")
        bits, seed, stream = map(int, about)
        blocks = Blocks(arrays["order"], arrays["limits"], bits)
        return cls(arrays["means"], arrays["scales"], blocks, seed, stream)

    def draw(self, k: int, candidates: Tensor) -> Tensor:
        """Standard normal samples (n, d) int64, 1/4096 sigma, of block ``k``."""
        size = int(self.blocks.limits[k + 1] - self.blocks.limits[k])
        return generator.normals(
            candidates, size, block=k, stream=self.stream, seed=self.seed
        )

    def placed(self, k: int, normal: Tensor) -> Tensor:
        """Samples (n, d) float32 of standard normal ones: exact, then rounded once."""
        at = self.blocks.dimensions(k)
        means, scales = (
            torch.from_numpy(v[at].astype(np.int64)).to(normal.device)
            for v in (self.means, self.scales)
        )
        exact = means * generator.UNIT + scales * normal  # below 2^47
        return (exact.double() / (generator.UNIT << GRID)).float()

    def checksum(self, value: int = 0) -> int:
        """The CRC-32C of all that decoding depends on, behind others.  # BITSTREAM"""
        for array in (self.means, self.scales, self.blocks.order, self.blocks.limits):
            value = crc32c(array.astype("<i4").tobytes(), value)
        rest = self.seed.to_bytes(8, "little") + self.stream.to_bytes(4, "little")
        return crc32c(rest + bytes([self.blocks.bits]), value)

    @property
    def floats(self) -> tuple[Tensor, Tensor]:
        """Means and scales, (N,) float64."""
        m, s = (torch.from_numpy(v / 2.0**GRID) for v in (self.means, self.scales))
        return m, s


def _require(fine: bool, problem: str) -> None:
    if not fine:
        raise ModelError(f"blocks or prior of samples are invalid; {problem}")
