# SPDX-License-Identifier: Apache-2.0
"""A cascade of codebooks: what the codewords of a level miss, coarser ones estimate.

    z ─ S₀ ─┬─ head ─ books ─► q₀, codes of H/16      S      Down, Res, Attn
            └─ rest ─ ⊖ q₀ ─ S₁ ─┬─ head ─► q₁        head   Res, Attn, conv3
                                 └─ rest ─ ⊖ q₁ …     rest   the same, own weights

    r_l = Up(Res(Attn( T(q_l) + side(r_{l+1}) )))     T, side: Attn, conv3, Res
    ẑ = r₀                                            the coarsest level has no side

A latent vector is seen as drawn from a mixture of Gaussians. Its means are the
codewords: choosing one is vector quantization of as many numbers at once. Covariances
are full and nowhere written down: what they say, where a vector lies around its mean,
is what a level leaves, and the next one, at half the resolution, quantizes that in
turn. Nothing is predicted from position to position, so all of it is parallel. Zhu et
al. 2022, "Unified multivariate Gaussian mixture for efficient neural image compression"
(McQuic, arXiv 2203.10897), as its code of spring 2022 has it. Its running histograms of
codes are statistics taken at export here, from the final weights.

Codes are planes of the coarsest grid, coarse levels first:

    level 2, 1 code a cell     level 1, 2 x 2     level 0, 4 x 4       of m groups each
    plane = first of level + (row · side + column) · m + group
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import Quantized, Quantizer
from polycodec.codecs.quantizers.cascade.books import (
    Books,
    GroupedBooks,
    RunningBooks,
)
from polycodec.codecs.transforms.image.attention import (
    Attention,
    block,
    conv3,
    down,
    up,
)
from polycodec.errors import InputError, ModelError
from polycodec.registry import register

HELD = 0.02  # of how far latents are from words that follow them, in the loss


class Made(NamedTuple):
    """What a level makes of x (B, C, h, w)."""

    q: Tensor  # (B, C, h/2, w/2)
    codes: Tensor  # (B, m, h/2, w/2)
    rest: Tensor | None  # what is left for a coarser level
    apart: Tensor  # (B,) how far latents are from q, see `GroupedBooks.forward`


class Level(nn.Module):
    """One level: half the resolution, codes, and the way back."""

    def __init__(
        self, channels: int, books: GroupedBooks, depth: int, *, last: bool
    ) -> None:
        super().__init__()
        c = channels

        def branch() -> nn.Sequential:
            return nn.Sequential(block(c), Attention(c, depth), conv3(c, c))

        def back() -> nn.Sequential:
            return nn.Sequential(Attention(c, depth), conv3(c, c), block(c))

        self.stage = nn.Sequential(down(c), block(c), Attention(c, depth))
        self.head, self.books = branch(), books
        self.rest = None if last else branch()
        self.back, self.side = back(), None if last else back()
        self.up = nn.Sequential(Attention(c, depth), block(c), up(c))

    def forward(self, x: Tensor) -> Made:
        """Of x (B, C, h, w)."""
        z = self.stage(x)
        head = self.head(z)
        q, index, apart = self.books(head)
        return Made(q, index, None if self.rest is None else self.rest(z) - q, apart)

    def relaxed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of x (B, C, h, w): what stands for words yet, and the rest."""
        z = self.stage(x)
        q = self.books.relaxed(self.head(z))
        return q, None if self.rest is None else self.rest(z) - q

    def restored(self, q: Tensor, coarser: Tensor | None) -> Tensor:
        """r (B, C, h, w) of q and of what the coarser level restored."""
        t: Tensor = self.back(q)
        if self.side is not None:
            t = t + self.side(coarser)
        r: Tensor = self.up(t)
        return r


@register("quantizer/cascade")
class CascadeQuantizer(Quantizer):
    """``codes``: words of a book of each level, the finest first; ``groups``: m books
    a level, which set the rate; ``depth``: blocks of a branch of attention;
    ``running``: words follow latents (`RunningBooks`), in place of being sampled.

    The rate is fixed by both: m Σ_l log2(k_l) / 4^l bits for a position of the finest
    level. A code depends on all around it, 33 cells (2,112 pixels) far with three
    levels and a depth of 3: there are no tiles.
    """

    kind = "image"
    local = False

    def __init__(
        self,
        channels: int,
        *,
        codes: Sequence[int] = (8192, 2048, 512),
        groups: int = 2,
        depth: int = 3,
        running: bool = False,
    ) -> None:
        super().__init__()
        last = len(codes) - 1
        if channels % groups or not codes:
            raise ModelError(
                f"{groups} groups and codes {list(codes)}; expected some levels, and "
                f"groups that divide {channels} channels"
            )
        self.channels, self.groups, self.stride = channels, groups, 1 << len(codes)
        books = RunningBooks if running else Books
        self.cascade = nn.ModuleList(
            Level(channels, books(channels, groups, k), depth, last=k_at == last)
            for k_at, k in enumerate(codes)
        )
        self.sides = tuple(1 << i for i in range(len(codes)))  # of levels, coarse first
        coarse_first = tuple(reversed(codes))
        self.sizes = tuple(
            size
            for size, side in zip(coarse_first, self.sides, strict=True)
            for _ in range(side * side * groups)
        )

    @property
    def rates(self) -> tuple[int, ...]:
        return (self.levels,)

    @property
    def alike(self) -> tuple[int, ...]:
        return tuple(
            level * self.groups + group
            for level, side in enumerate(self.sides)
            for _ in range(side * side)
            for group in range(self.groups)
        )

    @property
    def given(self) -> tuple[tuple[int, ...], ...]:
        """See :meth:`Quantizer.given`: all groups of all coarser levels there."""
        first = [sum(s * s for s in self.sides[:i]) for i in range(len(self.sides))]
        found: list[tuple[int, ...]] = []
        for level, side in enumerate(self.sides):
            for place in range(side * side):
                row, column = divmod(place, side)
                above = [
                    first[up] + (row * s // side) * s + column * s // side
                    for up, s in reversed(list(enumerate(self.sides[:level])))
                ]
                planes = (
                    a * self.groups + j for a in above for j in range(self.groups)
                )
                found += [tuple(planes)] * self.groups
        return tuple(found)

    def forward(
        self, z: Tensor, active: Tensor | None = None, rate: Tensor | None = None
    ) -> Quantized:
        """See :meth:`Quantizer.forward`; networks in autocast's type, codes never."""
        return self.quantized(z, torch.full((len(z),), self.levels))

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """See :meth:`Quantizer.quantized`: all planes, sampled while training."""
        made = self._made(z)
        z_hat = self._restored([level.q for level in made]).float()
        apart = torch.stack([level.apart for level in made]).sum(0)
        codes = self._planes([level.codes for level in made])
        return Quantized(z_hat, codes, HELD * apart)

    def relaxed(self, z: Tensor) -> Tensor:
        """See :meth:`Quantizer.relaxed`."""
        words, x = [], z
        for level in self._levels:
            q, rest = level.relaxed(x)
            words.append(q)
            x = x if rest is None else rest
        return self._restored(words).float()

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """See :meth:`Quantizer.encode`; all planes or the first, the nearest codes."""
        planes = self._planes([level.codes for level in self._made(z.float())])
        return planes[:, : self.count_of(levels)]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """See :meth:`Quantizer.decode`; codes must have all planes."""
        if codes.shape[1] != self.levels:
            raise InputError(
                f"codes have {codes.shape[1]} levels; expected all {self.levels}: a "
                "cascade has one rate"
            )
        self.check_codes(codes)
        maps = self._maps(codes)
        levels = zip(self._levels, maps, strict=True)
        return self._restored([level.books.decode(index) for level, index in levels])

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """See :meth:`Quantizer.initialise`: a level after the other."""
        for level in self._levels:
            level.books.start(level.head(level.stage(z)))
            rest = level(z).rest
            z = z if rest is None else rest

    @torch.no_grad()
    def renew(self, z: Tensor) -> tuple[str, ...]:
        """See :meth:`Quantizer.renew`."""
        moved: list[str] = []
        for i, level in enumerate(self._levels):
            if level.books.renew(level.head(level.stage(z))):
                moved.append(f"cascade.{i}.books.")
            rest = level(z).rest
            z = z if rest is None else rest
        return tuple(moved)

    @property
    def _levels(self) -> list[Level]:
        """Finest first."""
        return [cast(Level, level) for level in self.cascade]

    def _made(self, z: Tensor) -> list[Made]:
        """Of each level, the finest first."""
        assert not any(n % self.stride for n in z.shape[2:]), "codecs pad to strides"
        made, x = [], z
        for level in self._levels:
            made.append(level(x))
            x = x if made[-1].rest is None else made[-1].rest
        return made

    def _restored(self, words: Sequence[Tensor]) -> Tensor:
        """ẑ (B, C, h, w) of q of all levels, the finest first."""
        r: Tensor | None = None
        for level, q in zip(reversed(self._levels), reversed(words), strict=True):
            r = level.restored(q, r)
        assert r is not None
        return r

    def _planes(self, maps: Sequence[Tensor]) -> Tensor:
        """Codes (B, m, h, w) of levels, the finest first, as planes of one grid."""
        folded = []
        for index, s in zip(reversed(maps), self.sides, strict=True):
            cells = index.unflatten(3, (-1, s)).unflatten(2, (-1, s))
            folded.append(cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 3))
        return torch.cat(folded, 1)

    def _maps(self, codes: Tensor) -> list[Tensor]:
        """The reverse of `_planes`."""
        sizes = [s * s * self.groups for s in self.sides]
        maps = []
        for planes, s in zip(codes.split(sizes, 1), self.sides, strict=True):
            cells = planes.unflatten(1, (s, s, self.groups))
            maps.append(cells.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3))
        return maps[::-1]
