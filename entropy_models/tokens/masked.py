# SPDX-License-Identifier: Apache-2.0
"""Tokens that are not everywhere: a map says where, and nothing is sent elsewhere.

    map   even rows and columns      one table
          odd rows and columns       by the mean rank of 4 diagonal neighbours
          the others                 by that of 4 direct neighbours
    rest  one table for each codebook;  where the map has none: a table of one symbol,
          of frequency 2^P, which takes 0 bits

Which planes are maps, and by which of their values each other plane is sent, states the
quantizer (`Quantizer.when`); without maps this is `tokens-static`. A value's rank is
that of how many planes it switches on, so that neighbours of one rank are alike. Lists
of variable length need no ragged passes: all planes but the maps are one pass. Control-
GIC (Li et al. 2025, arXiv 2406.00758, section 3.2) sends its maps as raw bits, one for
16 x 16 pixels and one for 8 x 8, and its codes by one Huffman table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Coder, Prior, Shape
from polycodec.entropy_models.priors.categorical import Indexed
from polycodec.entropy_models.tokens.base import PRECISION, UNSEEN, TokenModel
from polycodec.errors import ModelError
from polycodec.registry import register

DIAGONAL = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
DIRECT = torch.tensor([[0, 1.0, 0], [1, 0, 1], [0, 1, 0]])
When = Sequence[tuple[int, frozenset[int]] | None]


@register("entropy/tokens-masked")
class MaskedTokens(TokenModel):
    """``sizes``, ``alike``: see `TokenModel`; ``when``: as the quantizer has it."""

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        alike: Sequence[int] | None = None,
        when: When | None = None,
    ) -> None:
        super().__init__(sizes, alike)
        self.when = tuple(when or (None,) * len(self.sizes))
        self.maps = sorted({rule[0] for rule in self.when if rule is not None})
        self.ranks = [self._ranks(plane) for plane in self.maps]

    def _ranks(self, plane: int) -> Tensor:
        """The rank of each value of a map, by the planes that it switches on."""
        if self.when[plane] is not None:
            raise ModelError(
                f"plane {plane} is a map that another map sends; expected maps that "
                "are sent everywhere"
            )
        rules = [rule[1] for rule in self.when if rule and rule[0] == plane]
        on = [sum(v in values for values in rules) for v in range(self.sizes[plane])]
        return torch.tensor([sorted(set(on)).index(count) for count in on])

    def update(self) -> None:
        """Build uniform tables if the model was not fitted."""
        if not self.tables:
            self._build(*self._counts())

    def _counts(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """UNSEEN of every token of codebooks, and of maps under each context."""
        kinds = [np.full(size, UNSEEN) for size in self._kinds]
        maps = [
            np.full(self.sizes[plane], UNSEEN)
            for plane, ranks in zip(self.maps, self.ranks, strict=True)
            for _ in range(self._tables_of(ranks))
        ]
        return kinds, maps

    @staticmethod
    def _tables_of(ranks: Tensor) -> int:
        """1, and two neighbourhoods whose mean rank is told in quarters."""
        return 1 + 2 * (4 * int(ranks.max()) + 1)

    def _build(self, kinds: list[np.ndarray], maps: list[np.ndarray]) -> None:
        tables = [*kinds, np.ones(1), *maps]  # the middle one: nothing is sent
        self.tables = {
            "order0": TableSet.from_pmfs(tables, [0] * len(tables), PRECISION)
        }

    def fit(
        self,
        codes: Sequence[np.ndarray],
        *,
        progress: Callable[[int, float], None] | None = None,
    ) -> None:
        """Count what is sent of training codes, (L, F) or (L, h, w) integers each."""
        self.sequences(codes)
        self._build(*self._counts())
        kinds, maps = self._counts()
        seen = Seen([*kinds, np.ones(1), *maps])
        for one in codes:
            y = torch.from_numpy(np.asarray(one).astype(np.int64))[None]
            self.code(seen, y, tuple(y.shape))
        self._build(seen.counts[: len(kinds)], seen.counts[len(kinds) + 1 :])

    def code(self, coder: Coder, y: Tensor | None, size: Shape, **_: object) -> Tensor:
        """See :meth:`TokenModel.code`; contexts know rows and columns."""
        self._checked(y, size)
        flat = size if len(size) == 4 else (*size[:2], 1, size[2])
        given = None if y is None else y.detach().cpu().reshape(flat)
        out = torch.zeros(flat, dtype=torch.int64)
        first = len(self._kinds) + 1
        for plane, ranks in zip(self.maps, self.ranks, strict=True):
            if plane < flat[1]:
                known = None if given is None else given[:, plane]
                out[:, plane] = self._map(coder, known, out[:, plane], ranks, first)
            first += self._tables_of(ranks)
        rest = [k for k in range(flat[1]) if k not in self.maps]
        if rest:
            index = torch.stack([self._index(k, out) for k in rest], 1)
            value = None if given is None else given[:, rest]
            prior = Indexed(self.order0, index.to(torch.int32))
            out[:, rest] = coder.code(value, prior, tuple(index.shape)).long()
        return out.reshape(size)

    def code_sequence(
        self, coder: Coder, codes: Tensor | None, shape: tuple[int, int, int]
    ) -> Tensor:
        """The same of codes (B, l, F)."""
        return self.code(coder, codes, shape)

    def _index(self, plane: int, out: Tensor) -> Tensor:
        """Tables (B, h, w) of a plane, its map being known."""
        rule, own = self.when[plane], torch.full_like(out[:, 0], self.alike[plane])
        if rule is None:
            return own
        values = torch.tensor(sorted(rule[1]))
        return own.where(torch.isin(out[:, rule[0]], values), len(self._kinds))

    def _map(
        self, coder: Coder, given: Tensor | None, out: Tensor, ranks: Tensor, first: int
    ) -> Tensor:
        """Code a map (B, h, w), or decode it when None, in three passes."""
        h, w = out.shape[1:]
        row, column = torch.arange(h)[:, None] % 2, torch.arange(w) % 2
        known = torch.zeros(h, w, dtype=torch.bool)
        steps = (
            ((row == 0) & (column == 0), None, first),
            ((row == 1) & (column == 1), DIAGONAL, first + 1),
            (row != column, DIRECT, first + 2 + 4 * int(ranks.max())),
        )
        for where, around, table in steps:
            if not bool(where.any()):
                continue
            index = torch.full_like(out, table)
            if around is not None:
                index += _mean_in_quarters(ranks[out], known, around)
            index = index[:, where]
            value = None if given is None else given[:, where]
            prior = Indexed(self.order0, index.to(torch.int32))
            out[:, where] = coder.code(value, prior, tuple(index.shape)).long()
            known |= where
        return out


class Seen(Coder):
    """Counts symbols by their tables, and returns them."""

    def __init__(self, counts: list[np.ndarray]) -> None:
        self.counts = counts

    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """See `Coder.code`."""
        assert value is not None and isinstance(prior, Indexed)
        index = prior.indexes(shape)
        for table in index.unique().tolist():
            found = np.bincount(value[index == table].numpy().reshape(-1))
            self.counts[table][: len(found)] += found
        return value.float()


def _mean_in_quarters(ranks: Tensor, known: Tensor, around: Tensor) -> Tensor:
    """4 x the mean rank of known neighbours, rounded half up; whole numbers."""
    there = known.float()[None, None]
    kernel = around[None, None]
    total = F.conv2d(ranks[:, None].float() * there, kernel, padding=1)
    count = F.conv2d(there, kernel, padding=1).clamp_min(1)
    return ((8 * total + count) // (2 * count)).long()[:, 0]
