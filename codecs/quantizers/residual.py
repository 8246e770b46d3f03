# SPDX-License-Identifier: Apache-2.0
"""Residual vector quantization; codebooks follow running means.

    r = z;  for every level:   i = argmin_k |r - e_k|²,   ẑ += e_i,   r -= e_i

    n_k ← β n_k + (1-β) count_k
    e_k ← (β n_k e_k + (1-β) Σ assigned r) / n_k       the mean of what chose it lately

A code hardly chosen any more (n_k below a tenth of a uniform share) moves to a random
vector of the batch. Zeghidour et al. 2021, "SoundStream" (arXiv 2107.03312); Défossez
et al. 2022, "High fidelity neural audio compression" (arXiv 2210.13438).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import (
    Level,
    Quantized,
    ResidualChain,
    flatten,
    straight_through,
    unflatten,
)
from polycodec.registry import register

LLOYD_STEPS = 20
DEAD_SHARE = 0.1  # of a uniform share of the vectors


class Codebook(Level):
    """K vectors (K, D) that follow the means of what is assigned to them."""

    vectors: Tensor
    mass: Tensor

    def __init__(self, size: int, channels: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("vectors", torch.randn(size, channels) * 0.1)
        self.register_buffer("mass", torch.ones(size))

    @property
    def scored(self) -> bool:
        """Whether another rule than the distance assigns codes."""
        return False

    def distances(self, rows: Tensor) -> Tensor:
        """|r - e|² - |r|² of (N, D) rows and the K vectors, (N, K)."""
        norms = self.vectors.square().sum(1)
        return torch.addmm(norms, rows, self.vectors.T, alpha=-2.0)

    def nearest(self, rows: Tensor) -> Tensor:
        """Index (N,) of the vector nearest to each of (N, D) rows."""
        return self.distances(rows).argmin(1)

    def decode(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.vectors)

    def forward(self, rows: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = self.nearest(rows.detach())
        vectors = self.decode(index)
        error = (rows - vectors).square().sum(1)
        if self.training:
            self.follow(rows.detach()[used], index[used])
        return vectors, index, error

    @torch.no_grad()
    def follow(self, rows: Tensor, index: Tensor) -> None:
        """One step of the running means towards ``rows`` (N, D)."""
        sums = torch.zeros_like(self.vectors).index_add_(0, index, rows)
        count = torch.bincount(index, minlength=len(self.mass)).to(self.mass)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(count)
        old = self.decay * self.mass
        mass = old + (1 - self.decay) * count
        moved = old[:, None] * self.vectors + (1 - self.decay) * sums
        self.vectors.copy_(moved / mass.clamp_min(1e-12)[:, None])
        self.mass.copy_(mass)
        self._revive(rows)

    def _revive(self, rows: Tensor) -> None:
        share = self.mass.sum() / len(self.mass)
        dead = (self.mass < DEAD_SHARE * share).nonzero().flatten()
        if len(dead) and len(rows):
            picked = torch.randint(len(rows), (len(dead),), device=rows.device)
            chosen = rows[picked]
            if dist.is_available() and dist.is_initialized():
                dist.broadcast(chosen, 0)
            self.vectors[dead] = chosen
            self.mass[dead] = share

    @torch.no_grad()
    def start(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Start from k-means of ``rows`` (N, D); returns their indexes (N,)."""
        size = len(self.mass)
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        self.vectors.copy_(rows[order.repeat(-(-size // len(rows)))[:size]])
        for _ in range(LLOYD_STEPS):
            index = self.nearest(rows)
            count = torch.bincount(index, minlength=size).to(rows)
            sums = torch.zeros_like(self.vectors).index_add_(0, index, rows)
            means = sums / count.clamp_min(1)[:, None]
            empty = count == 0
            other = torch.randint(len(rows), (int(empty.sum()),), generator=generator)
            means[empty] = rows[other.to(rows.device)]
            self.vectors.copy_(means)
        index = self.nearest(rows)
        count = torch.bincount(index, minlength=size).to(self.mass)
        self.mass.copy_(count.clamp_min(1) / len(rows) * size)
        return index


@register("quantizer/residual")
class ResidualQuantizer(ResidualChain):
    """``levels`` codebooks of ``codes`` vectors each, every one on what is left.

    ``codes``: one number for all levels or one for each. ``decay``: of the running
    means, for a step. ``commitment``: weight of |z - sg(ẑ)|² summed over D. ``beam``:
    paths that an encoder follows; 1 takes the nearest vector at every level, and only
    then fewer levels are a prefix of more.
    """

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 8,
        codes: int | Sequence[int] = 256,
        decay: float = 0.99,
        commitment: float = 0.25,
        beam: int = 1,
    ) -> None:
        super().__init__(channels)
        self.commitment, self.beam = commitment, beam
        self.sizes = (codes,) * levels if isinstance(codes, int) else tuple(codes)
        self.books = nn.ModuleList(Codebook(k, channels, decay) for k in self.sizes)

    @property
    def chain(self) -> list[Codebook]:
        """The codebooks, in the order of the levels."""
        return [cast(Codebook, book) for book in self.books]

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """See :meth:`Quantizer.quantized`; the codebooks move while training."""
        seen = super().quantized(z, active)
        z_hat = straight_through(z.float(), seen.z_hat)
        return Quantized(z_hat, seen.codes, self.commitment * seen.loss)

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """See :meth:`Quantizer.encode`; ``beam`` paths are followed at once.

        The nearest vector of one level is not always part of the nearest sum: 16 paths
        leave 17 % less squared error at 8 levels. Decoders do not know of it.
        """
        books = self.chain[: self.count_of(levels)]
        left = flatten(z)[:, None]  # (N, paths, D)
        paths = left.new_zeros(len(left), 1, 0, dtype=torch.int64)
        for book in books:
            at, index = self._best(book, left)
            left = left.gather(1, at[..., None].expand(-1, -1, left.shape[2]))
            left = left - book.decode(index)
            paths = paths.gather(1, at[..., None].expand(-1, -1, paths.shape[2]))
            paths = torch.cat([paths, index[..., None]], dim=2)
        best = left.square().sum(2).argmin(1)
        return unflatten(paths[torch.arange(len(paths)), best], z)

    def _best(self, book: Codebook, left: Tensor) -> tuple[Tensor, Tensor]:
        """The next step of the best paths: which path (N, m) and which code (N, m)."""
        count, paths, channels = left.shape
        if book.scored or self.beam == 1:  # one path: the nearest
            index = book.nearest(left.reshape(-1, channels)).view(count, paths)
            return torch.arange(paths, device=left.device).expand(count, -1), index
        cost = book.distances(left.reshape(-1, channels)).view(count, paths, -1)
        cost = cost + left.square().sum(2, keepdim=True)
        size = cost.shape[2]
        kept = min(self.beam, paths * size)
        place = cost.view(count, -1).topk(kept, dim=1, largest=False).indices
        return place // size, place % size

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """k-means of each level on what the levels before it leave of z (N, D)."""
        generator = torch.Generator().manual_seed(0)
        left = z.float()
        for book in self.chain:
            left = left - book.decode(book.start(left, generator))
