# SPDX-License-Identifier: Apache-2.0
"""What every codebook quantizer does: latents to indexes, indexes to latents.

    z (B, D, *S) ── encode ──► codes (B, L, *S) ── decode ──► ẑ (B, D, *S)

S is (F,) for speech and (H, W) for images. L levels refine one another; fewer of them
are a lower rate, so any prefix of the levels decodes (of those in ``rates``). Codes of
several resolutions are planes of the coarsest grid: a finer one is as many planes as it
has codes in a cell there, and S of the codes is that of z over ``stride``.

`forward` is training: the same codes, a straight-through ẑ, and the loss that ties
encoder and codebook together.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.numbers import real
from polycodec.errors import InputError


@dataclass
class Quantized:
    """Training's view: ẑ (B, D, *S), codes (B, L, *S), loss (B,).

    Levels that were not active for an item have code -1 there.
    """

    z_hat: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(nn.Module, abc.ABC):
    """Base of `quantizer/*`; ``sizes`` are the codes of each level.

    ``channels``: D, numbers of a latent. A part brings `quantized`, `encode` and
    `decode`, and calls `check_codes` before it looks codes up.
    """

    kind: str | None = None  # of signal, where a quantizer is made for one
    stride: int = 1  # latents, along each axis, that a cell of the codes' grid has
    local: bool = True  # whether a code depends on the latents of its own cell alone
    channels: int
    sizes: tuple[int, ...]

    @property
    def levels(self) -> int:
        """L, the number of levels, or planes."""
        return len(self.sizes)

    @property
    def rates(self) -> tuple[int, ...]:
        """How many planes each rate has, rising; the last has all."""
        return tuple(range(1, self.levels + 1))

    @property
    def alike(self) -> tuple[int, ...]:
        """A number for each plane; planes of one codebook have the same."""
        return tuple(range(self.levels))

    @property
    def given(self) -> tuple[tuple[int, ...], ...]:
        """The coarser planes, all before it, that say something of each plane.

        Planes of one codebook have as many, of the same codebooks in the same order.
        """
        return tuple((k - 1,) if k else () for k in range(self.levels))

    @property
    def when(self) -> tuple[tuple[int, frozenset[int]] | None, ...]:
        """Of each plane: the plane before it that says where it is sent, and by which
        values; None: everywhere. Codes that are not sent are 0.
        """
        return (None,) * self.levels

    @property
    def measured(self) -> tuple[int, ...]:
        """The rates, 1 … len(rates), that a validation looks at."""
        return tuple(range(1, len(self.rates) + 1))

    def sent(self, codes: Tensor) -> Tensor:
        """Where codes (B, l, *S) are sent (`when`), bool of their shape."""
        found = torch.ones_like(codes, dtype=torch.bool)
        for plane, rule in enumerate(self.when[: codes.shape[1]]):
            if rule is not None:
                values = torch.tensor(sorted(rule[1]), device=codes.device)
                found[:, plane] = torch.isin(codes[:, rule[0]], values)
        return found

    def encode_at(self, z: Tensor, rate: int) -> Tensor:
        """Return the codes of z (B, D, *S) at a rate of 1 … len(rates)."""
        return self.encode(z, self.rates[rate - 1])

    def rate_of(self, codes: Tensor) -> int:
        """Return the rate that codes (B, l, *S) are of; InputError for none."""
        if codes.shape[1] not in self.rates:
            raise InputError(
                f"the codes have {codes.shape[1]} planes; this codebook has rates of "
                f"{', '.join(map(str, self.rates))}"
            )
        return 1 + self.rates.index(codes.shape[1])

    def forward(
        self, z: Tensor, active: Tensor | None = None, rate: Tensor | None = None
    ) -> Quantized:
        """Quantize z (B, D, *S) while training, in float32 under any autocast.

        active: (B,) integers in 1 … L, how many levels each item takes; None: all.
        rate: (B,), of 1 … len(rates), where levels do not say it.
        """
        if active is None:
            active = torch.full((z.shape[0],), self.levels, device=z.device)
        with torch.autocast(z.device.type, enabled=False):
            return self.quantized(z, active)

    @abc.abstractmethod
    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """Return what training sees of z (B, D, *S) with ``active`` (B,) levels.

        In training mode codebooks may move. The codes are those of `encode`, but for a
        quantizer that samples or balances while training; gradients reach z through ẑ
        and the loss.
        """

    @abc.abstractmethod
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """Return codes (B, l, *S) int64 of z (B, D, *S), l = ``levels`` or all.

        Positions are coded independently of one another. InputError for a number of
        levels that this codebook has not (`count_of`).
        """

    @abc.abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return latents (B, D, *S) float32 of codes (B, l, *S), 1 <= l <= L.

        InputError for codes outside their codebooks (`check_codes`).
        """

    def relaxed(self, z: Tensor) -> Tensor:
        """Return ẑ of z (B, D, *S) before there are words: z, unless overridden."""
        return z

    def initialise(self, z: Tensor) -> None:
        """Start from a sample of latents z (N, D), in order of time, if overridden.

        z of a quantizer that is not `local`: (B, D, h, w), in evaluation mode.
        """
        return

    def renew(self, z: Tensor) -> tuple[str, ...]:
        """Give dead codes a new start, where training asks for it now and then.

        z: latents (B, D, h, w) of training signals, in evaluation mode. Returns the
        names of the weights that moved; none unless overridden.
        """
        return ()

    def config_after_build(self) -> dict[str, Any]:
        """Return options that `initialise` found, to be stored beside the weights."""
        return {}

    def make_room(self, known: Mapping[str, Tensor]) -> None:
        """Take the sizes that `initialise` found for weights, by their names here."""
        return

    def count_of(self, levels: int | None) -> int:
        """Return ``levels``, or all of them for None; InputError outside 1 … L."""
        if levels is None:
            return self.levels
        if not 1 <= levels <= self.levels:
            raise InputError(
                f"levels is {levels}; this codebook has 1 to {self.levels}; ask for as "
                "many"
            )
        return levels

    def check_codes(self, codes: Tensor) -> None:
        """Raise InputError that names a code outside its codebook, or a level too many.

        codes: (B, l, *S) integers. What is traced for an export has no values to check.
        """
        if torch.compiler.is_compiling():
            return
        fits = codes.ndim >= 3 and codes.dtype in (torch.int32, torch.int64)
        if not fits or len(codes) == 0:
            raise InputError(
                f"codes are {codes.dtype} of shape {tuple(codes.shape)}; expected "
                "integers (batch, levels, positions), int32 or int64, a batch of at "
                "least one"
            )
        if codes.shape[1] > self.levels:
            raise InputError(
                f"codes have {codes.shape[1]} levels; this codebook has {self.levels}"
            )
        for level, plane in enumerate(codes.unbind(1)):
            if plane.numel() == 0:
                continue
            low, high = int(plane.min()), int(plane.max())
            if low < 0 or high >= self.sizes[level]:
                raise InputError(
                    f"level {level} has codes {low}..{high}; expected 0.."
                    f"{self.sizes[level] - 1}; they belong to other weights, or are "
                    "damaged"
                )

    @torch.no_grad()
    def usage(self, codes: Tensor) -> dict[str, list[float]]:
        """Return the perplexity, 2^entropy, and the number of used codes of each level.

        Of each codebook, where planes are `alike`. codes: (B, l, *S) integers, -1 where
        a level was not active.
        """
        perplexity: list[float] = []
        used: list[float] = []
        alike = self.alike[: codes.shape[1]]
        for book in dict.fromkeys(alike):
            mine = [k for k, other in enumerate(alike) if other == book]
            plane = codes[:, mine]
            plane = plane[plane >= 0]
            counts = torch.bincount(plane.flatten(), minlength=self.sizes[mine[0]])
            p = counts[counts > 0].double() / max(plane.numel(), 1)
            perplexity.append(float(torch.exp2(-(p * p.log2()).sum())))
            used.append(int((counts > 0).sum()))
        return {"perplexity": perplexity, "used": used}


class MappedQuantizer(Quantizer):
    """Base of quantizers that spend codes where a map of the whole signal says.

    The map follows from activities, and they from the latents; who codes a signal piece
    by piece, or has wishes of his own, makes it of all of it and hands pieces over.
    """

    @abc.abstractmethod
    def activity(self, z: Tensor) -> Tensor:
        """Activities (B, A, *s) of z (B, D, *S), of cells of the codes' grid."""

    @abc.abstractmethod
    def allocate(self, activity: Tensor, rate: int) -> Tensor:
        """The map (B, 1, *s) of a rate, each item's of its own: plane 0 of codes."""

    @abc.abstractmethod
    def encode_mapped(self, z: Tensor, kind: Tensor) -> Tensor:
        """Codes (B, L, *s) of z (B, D, *S) under a map (B, 1, *s)."""

    @abc.abstractmethod
    def fineness(self, kind: Tensor) -> Tensor:
        """How fine parts of cells are, of a map (B, 1, *s): 0 … 1, (B, 1, *k s)."""

    def encode_at(self, z: Tensor, rate: int) -> Tensor:
        return self.encode_mapped(z, self.allocate(self.activity(z), rate))

    def check_codes(self, codes: Tensor) -> None:
        """See :meth:`Quantizer.check_codes`; nor codes where the map has none.

        All planes must be there, as the map names codes of any.
        """
        super().check_codes(codes)
        if torch.compiler.is_compiling():
            return
        if codes.shape[1] != self.levels:
            raise InputError(
                f"codes have {codes.shape[1]} levels; expected all {self.levels}, a "
                "map and the codes that it asks for"
            )
        extra = (codes != 0) & ~self.sent(codes)
        if bool(extra.any()):
            plane = int(extra.flatten(2).any(2).any(0).nonzero()[0])
            raise InputError(
                f"plane {plane} has codes where the map of plane 0 sends none; "
                "expected 0 there; they belong to other weights, or are damaged"
            )


class Level(nn.Module, abc.ABC):
    """One level of a `ResidualChain`, of ``size`` codes."""

    @abc.abstractmethod
    def forward(self, rows: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of rows (N, D): their approximations (N, D), codes (N,), losses (N,).

        used: (N,) bool, the rows for which this level is active.
        """

    @abc.abstractmethod
    def decode(self, index: Tensor) -> Tensor:
        """Approximations (N, D) of codes (N,)."""


class ResidualChain(Quantizer):
    """Levels that each approximate what those before leave: ẑ is their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @property
    @abc.abstractmethod
    def chain(self) -> Sequence[Level]:
        """The levels, in their order."""

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        rows = left = flatten(z)
        per_item = len(rows) // len(z)
        total, loss = torch.zeros_like(rows), rows.new_zeros(len(z))
        planes = []
        for number, level in enumerate(self.chain):
            used = (active > number).repeat_interleave(per_item)
            step, index, cost = level(left, used)
            step = step * used[:, None]
            loss = loss + (cost * used).view(len(z), -1).mean(1)
            # Detached: a later level's loss, passed straight through the choice of
            # this one, drives projections apart (400 steps of Adam: error × 1000).
            total, left = total + step, left - step.detach()
            planes.append(unflatten(torch.where(used, index, -1)[:, None], z))
        loss = loss / active.clamp_min(1)
        return Quantized(unflatten(total, z), torch.cat(planes, 1), loss)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        self.check_codes(codes)
        planes = zip(self.chain, codes.unbind(1), strict=False)
        steps = [level.decode(plane.reshape(-1)) for level, plane in planes]
        return unflatten(sum(steps[1:], steps[0]), codes[:, :1])


def flatten(z: Tensor) -> Tensor:
    """Return z (B, D, *S) as rows (B n, D), contiguous, n = ∏ S; see `numbers.real`."""
    return real(z).flatten(2).transpose(1, 2).reshape(-1, z.shape[1])


def unflatten(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows (B n, D) as (B, D, *S), B and S those of ``like``."""
    rows = rows.view(like.shape[0], -1, rows.shape[-1]).transpose(1, 2)
    return rows.reshape(like.shape[0], -1, *like.shape[2:])


def straight_through(z: Tensor, z_hat: Tensor) -> Tensor:
    """Return ẑ; its gradient goes to z."""
    return z + (z_hat - z).detach()
