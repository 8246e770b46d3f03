# SPDX-License-Identifier: Apache-2.0
"""Normal priors of what is sent as samples, in one or three tiers, at several rates.

    tier      rows of a signal             a row's numbers
    piece     one a piece                  weights and latents of a piece
    group     one a group of pieces        weights, added to those of its pieces
    signal    one                          weights, added to all

All rows of a tier have one prior. What a sample costs is made alike among blocks by
sending each number at the row of another piece (`Tier.moved`). He et al. 2024,
RECOMBINER (arXiv 2309.17182), sections 3.3 and 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.entropy_models.base import EntropyModel
from polycodec.entropy_models.relative import generator
from polycodec.entropy_models.relative.blocks import Blocks, FreePrior, NormalPrior
from polycodec.entropy_models.relative.coders import SampleCoder
from polycodec.errors import ModelError

NAMES = ("piece", "group", "signal")
START = 0.02  # deviation of a prior, as RECOMBINER begins
NARROW = -2.0  # logarithm of a posterior's first deviation, in those of its prior
STREAMS = 1 << 20  # BITSTREAM: of the generator, permutations of the numbers of a tier


@dataclass(frozen=True, eq=False)
class Tier:
    """Rows of a signal: ``of`` (P,), the row of each piece; ``rows``, ``numbers``."""

    name: str
    rows: int
    numbers: int
    of: Tensor

    @cached_property
    def places(self) -> Tensor:
        """(R, N) int64: which row's number d is sent in row r.  # BITSTREAM"""
        place = torch.arange(self.rows)[:, None]
        column = torch.arange(self.numbers)[None]
        stream = torch.full_like(place + column, STREAMS + NAMES.index(self.name))
        counter = (place + 0 * column, column + 0 * place, stream, stream)
        return torch.argsort(generator.words(counter, (0, 0))[0], dim=0, stable=True)

    def moved(self, table: Tensor) -> Tensor:
        """A table (B, R, N) as it is sent."""
        return table.gather(1, self.places.expand_as(table))

    def back(self, sent: Tensor) -> Tensor:
        """The reverse of `moved`."""
        return sent.gather(1, self.places.argsort(dim=0).expand_as(sent))


def tiers_of(
    counts: Sequence[int], group: Sequence[int] | None, weights: int, values: int
) -> list[Tier]:
    """Tiers of a signal of ``counts`` pieces along its axes, row by row.

    group: pieces of a group along each axis, fewer at the ends; None: pieces only.
    """
    pieces = math.prod(counts)
    tiers = [Tier("piece", pieces, weights + values, torch.arange(pieces))]
    if group is not None:
        lines = [torch.arange(n) // g for n, g in zip(counts, group, strict=True)]
        groups = [-(-n // g) for n, g in zip(counts, group, strict=True)]
        of = torch.zeros(counts, dtype=torch.int64)
        for line, many, mesh in zip(
            lines, groups, torch.meshgrid(*lines, indexing="ij"), strict=True
        ):
            assert int(line[-1]) < many
            of = of * many + mesh
        tiers.append(Tier("group", math.prod(groups), weights, of.flatten()))
        tiers.append(Tier("signal", 1, weights, torch.zeros(pieces, dtype=torch.int64)))
    return tiers


class TierPrior(nn.Module):
    """The prior of a tier at one rate, while it is learned.

    ``costs``: bits of each number, on average over the signals of the training;
    ``starts``: logarithms of the posteriors' deviations, in the prior's.
    """

    scales: Tensor
    costs: Tensor
    starts: Tensor

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means)
        self.register_buffer("scales", torch.full_like(means, START))
        self.register_buffer("costs", torch.zeros_like(means))
        self.register_buffer("starts", torch.full_like(means, NARROW))

    @property
    def free(self) -> FreePrior:
        """The prior as training has it."""
        return FreePrior(self.means, self.scales)


class SamplesModel(EntropyModel):
    """Priors of ``numbers`` a row, by name of the tier, at so many ``rates``.

    ``bits``: of a block, ``room``: bits of it left free on average. ``first``: means to
    begin with, of each rate.
    """

    codes = "samples"
    tables: dict[str, Any]  # of `NormalPrior`

    def __init__(
        self, first: Sequence[Mapping[str, Tensor]], *, bits: int, room: float
    ) -> None:
        super().__init__()
        self.channels, self.bits, self.room = 1, bits, room
        self.priors = nn.ModuleList(
            nn.ModuleDict({name: TierPrior(means) for name, means in one.items()})
            for one in first
        )

    def free(self, rate: int) -> dict[str, TierPrior]:
        """What is learned at a rate, by name of the tier."""
        found: Any = self.priors[rate]
        return dict(found.items())

    def prior(self, rate: int, tier: Tier) -> NormalPrior:
        """The integer prior of a tier."""
        found = self.tables[f"{rate}-{tier.name}"]
        assert isinstance(found, NormalPrior)
        return found

    def numbers(
        self,
        coder: SampleCoder,
        samples: Sequence[Any] | None,
        tiers: Sequence[Tier],
        rate: int,
        batch: int,
    ) -> list[Tensor]:
        """Hand the samples of all tiers to a coder, or None to decode.

        Returns the numbers (B, R, K) of their blocks, a tensor a tier.
        """
        return [
            coder.numbers(
                None if samples is None else samples[k],
                self.prior(rate, tier),
                (batch, tier.rows, tier.numbers),
            )
            for k, tier in enumerate(tiers)
        ]

    def code(
        self,
        coder: Any,
        y: Any,
        size: tuple[int, ...],
        *,
        rate: Any = None,
        z: Tensor | None = None,
    ) -> Any:
        """Samples (B, R, N) of posteriors ``y``, one a tier, under what is learned.

        For training: ``coder`` is a `SampleEstimator`. size: that of the batch alone.
        """
        priors = self.free(rate)
        return [
            coder.code(own, prior.free, (size[0], *own.means.shape[1:]))
            for own, prior in zip(y, priors.values(), strict=True)
        ]

    def update(self) -> None:
        self.tables = {
            name: NormalPrior.of(
                own.means.detach().double().cpu(),
                own.scales.double().cpu(),
                self._blocks(name, own),
                stream=k,
            )
            for k, (name, own) in enumerate(self._all())
        }

    def _blocks(self, name: str, own: TierPrior) -> Blocks:
        if not bool((own.costs >= 0).all()) or not float(own.costs.sum()) > 0:
            raise ModelError(
                f"the prior {name} was never fitted to posteriors; train it for longer "
                "than priors.every steps at each rate"
            )
        return Blocks.fit(own.costs.cpu(), self.bits, room=self.room)

    def _all(self) -> Iterator[tuple[str, TierPrior]]:
        for rate in range(len(self.priors)):
            for name, own in self.free(rate).items():
                yield f"{rate}-{name}", own
