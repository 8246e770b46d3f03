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

A file may end after any level: what finer ones would say is zero then, as it is for
some items of training. That gives m books three rates, and coarse levels something to
say. After 600 steps of `image/mcquic-small`, half of the items with fewer levels,
shuffling the coarsest level cost 1.4 dB; with all levels always, and coarse ones
continuous at first, 0.003 dB, but all levels together were 1.9 dB better so early. The
paper has neither.

Codes are planes of the coarsest grid, coarse levels first:

    level 2, 1 code a cell     level 1, 2 x 2     level 0, 4 x 4       of m groups each
    plane = first of level + (row · side + column) · m + group
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import Quantized, Quantizer
from polycodec.codecs.quantizers.cascade.books import Books
from polycodec.codecs.transforms.image.attention import (
    Attention,
    block,
    conv3,
    down,
    up,
)
from polycodec.errors import InputError, ModelError
from polycodec.registry import register

HELD = 0.0005  # of how far latents are from words, in the loss of a sharp choice


class Made(NamedTuple):
    """What a level makes of x (B, C, h, w)."""

    q: Tensor  # (B, C, h/2, w/2)
    codes: Tensor  # (B, m, h/2, w/2)
    rest: Tensor | None  # what is left for a coarser level
    apart: Tensor  # (B,) how far latents are from q, see `Books.forward`


class Level(nn.Module):
    """One level: half the resolution, codes, and the way back."""

    def __init__(self, channels: int, books: Books, depth: int, *, last: bool) -> None:
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
    ``sharpness``: see `Books`; where given, latents are held near their words.

    They fix the rates: m Σ_l log2(k_l) / 4^l bits for a position of the finest level,
    over the levels that are sent. A code depends on all around it, 33 cells (2,112
    pixels) far with three levels and a depth of 3: there are no tiles.
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
        sharpness: float | None = None,
    ) -> None:
        super().__init__()
        if sharpness is not None and sharpness <= 0:
            raise ModelError(f"sharpness is {sharpness}; expected more than 0, or null")
        last = len(codes) - 1
        if channels % groups or not codes:
            raise ModelError(
                f"{groups} groups and codes {list(codes)}; expected some levels, and "
                f"groups that divide {channels} channels"
            )
        self.channels, self.groups, self.stride = channels, groups, 1 << len(codes)
        self.held = 0.0 if sharpness is None else HELD
        self.cascade = nn.ModuleList(
            Level(
                channels,
                Books(channels, groups, k, sharpness),
                depth,
                last=k_at == last,
            )
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
        """See :meth:`Quantizer.rates`: a level more each."""
        planes = [side * side * self.groups for side in self.sides]
        return tuple(accumulate(planes))

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
        if active is None:
            active = torch.full((len(z),), self.levels)
        return self.quantized(z, active)

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """See :meth:`Quantizer.quantized`: sampled while training, whole levels."""
        made, active = self._made(z), active.to(z.device)
        words = [
            level.q * (active >= last).to(level.q.dtype)[:, None, None, None]
            for level, last in zip(made, reversed(self.rates), strict=True)
        ]
        z_hat = self._restored(words).float()
        apart = torch.stack([level.apart for level in made]).sum(0)
        codes = self._planes([level.codes for level in made])
        least = torch.tensor(self.rates, device=z.device)
        sent = least[torch.searchsorted(least, active, right=True) - 1]
        planes = torch.arange(self.levels, device=z.device)
        there = (planes < sent[:, None])[:, :, None, None]
        return Quantized(z_hat, codes.where(there, -1), self.held * apart)

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """See :meth:`Quantizer.encode`; all planes or the first, the nearest codes."""
        planes = self._planes([level.codes for level in self._made(z.float())])
        return planes[:, : self.count_of(levels)]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """See :meth:`Quantizer.decode`; codes must have planes of whole levels."""
        if codes.shape[1] not in self.rates:
            raise InputError(
                f"codes have {codes.shape[1]} planes; expected one of "
                f"{', '.join(map(str, self.rates))}: a cascade has whole levels"
            )
        self.check_codes(codes)
        batch, _, h, w = codes.shape
        words = []
        for level, side, index in zip(
            self._levels, reversed(self.sides), self._maps(codes), strict=True
        ):
            size = batch, self.channels, side * h, side * w
            nothing = level.books.words.new_zeros(size)
            words.append(nothing if index is None else level.books.decode(index))
        return self._restored(words)

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

    def _maps(self, codes: Tensor) -> list[Tensor | None]:
        """The reverse of `_planes`; None of levels beyond those that are there."""
        maps: list[Tensor | None] = []
        for last, s in zip(self.rates, self.sides, strict=True):
            if last > codes.shape[1]:
                maps.append(None)
                continue
            planes = codes[:, last - s * s * self.groups : last]
            cells = planes.unflatten(1, (s, s, self.groups))
            maps.append(cells.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3))
        return maps[::-1]
