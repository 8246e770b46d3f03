# SPDX-License-Identifier: Apache-2.0
"""m codebooks side by side, each for C/m channels, that are sampled or followed.

    d_i = |x - c_i|²,   logit_i = -T_j d_i / √k       of group j, in C/m numbers

    `Books`, as published
        training     one-hot of argmax(logit + Gumbel noise), gradient of its softmax
        otherwise    argmin d
    `RunningBooks`
        always       argmin d; gradients go straight through to the latents, the words
                     are running means of what chose them (`residual.Codebook`)

A position is one of kᵐ vectors at the cost of m small books. As a density: logits are
log posteriors of a mixture of k Gaussians whose means are the codewords, all alike and
round. What a mean misses of a component's true covariance is left to coarser levels.

Published books learn T, from 1 on. At k = 1,024 all words are then about as likely, and
latents must grow before codes can say anything: 300 steps of `image/mcquic-small` reach
12.7 dB. Logits that were sharp from the start brought 21.1 after 500 steps and 22.5
after 2,000, as a choice without doubt has no gradient; straight-through, behind 200
steps of noise in place of words, 23.2 after 500, 26.6 after 3,200.
Zhu et al. 2022 (arXiv 2203.10897), section 3.2; the sample is that of Jang et al. 2017
(arXiv 1611.01144) at temperature 1.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polycodec.codecs.quantizers.base import straight_through
from polycodec.codecs.quantizers.residual import Codebook

FLOOR = 1e-3  # of the learned T
LEAST = 1e-9  # of a variance
DECAY = 0.99  # of shares, a step
DEAD = 0.03  # of a uniform share: not chosen in about the last 350 steps
DISTANCES = 1 << 24  # held at a time
RUNNING = 0.95  # decay of running means, a step
NOISE = 0.3  # of the size of a group's latents, in place of words


class GroupedBooks(nn.Module, abc.ABC):
    """``groups`` codebooks of ``size`` words for (B, ``channels``, h, w)."""

    def __init__(self, channels: int, groups: int, size: int) -> None:
        super().__init__()
        self.groups, self.size, self.width = groups, size, channels // groups

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (B, C, h, w): words in its place, and indexes (B, m, h, w) int64.

        Whatever autocast says in float32. At last how far latents are from their words
        where the loss is to hold them, (B,): mean square over variance.
        """

    @abc.abstractmethod
    def decode(self, index: Tensor) -> Tensor:
        """Words (B, C, h, w) of indexes (B, m, h, w)."""

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take words from latents x (B, C, h, w), if overridden."""
        return

    @torch.no_grad()
    def renew(self, x: Tensor) -> bool:
        """Words hardly chosen become vectors of x (B, C, h, w); whether any did."""
        return False

    def relaxed(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) without words: in training with noise about as large."""
        if not self.training:
            return x
        size = self.rows(x.detach().float()).var(0, correction=0).mean(1).sqrt()
        size = size.repeat_interleave(self.width)[:, None, None]
        return x + NOISE * size * torch.randn_like(x)

    def rows(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (N, m, C/m)."""
        return x.permute(0, 2, 3, 1).reshape(-1, self.groups, self.width)

    @staticmethod
    def maps(rows: Tensor, like: Tensor) -> Tensor:
        """(N, m, c) -> (B, m c, h, w), B, h and w those of ``like``."""
        batch, _, h, w = like.shape
        return rows.reshape(batch, h, w, -1).permute(0, 3, 1, 2).contiguous()


class RunningBooks(GroupedBooks):
    """Words follow the latents, and latents are held near them."""

    def __init__(self, channels: int, groups: int, size: int) -> None:
        super().__init__(channels, groups, size)
        books = (Codebook(size, self.width, RUNNING) for _ in range(groups))
        self.books = nn.ModuleList(books)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            rows = self.rows(x.float())
            used = torch.ones(len(rows), dtype=torch.bool, device=x.device)
            made = [book(part, used) for book, part in self._with(rows)]
            words, index, error = (
                torch.stack(all_, 1) for all_ in zip(*made, strict=True)
            )
            # Of the latents now, with its gradient: nothing is gained by shrinking.
            # They grow: words reached 5,000 to 10^7.
            variance = rows.var(0, correction=0).mean(1).clamp_min(LEAST)
            apart = (error / (self.width * variance)).mean(1).view(len(x), -1).mean(1)
            words = straight_through(rows, words)
            return self.maps(words, x), self.maps(index[..., None], x), apart

    def decode(self, index: Tensor) -> Tensor:
        rows = index.permute(0, 2, 3, 1).flatten(0, 2)
        words = [book.decode(part) for book, part in self._with(rows)]
        return self.maps(torch.stack(words, 1), index)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """k-means of each group."""
        generator = torch.Generator().manual_seed(0)
        for book, part in self._with(self.rows(x.float())):
            book.start(part.contiguous(), generator)

    def _with(self, rows: Tensor) -> Iterator[tuple[Codebook, Tensor]]:
        """Each group's book and its part (N, ...) of rows (N, m, ...)."""
        books = (cast(Codebook, book) for book in self.books)
        return zip(books, rows.unbind(1), strict=True)


class Books(GroupedBooks):
    """Chosen by sampling while trained, as published.

    ``shares``: how often each word was the nearest of late, (m, k).
    """

    shares: Tensor

    def __init__(self, channels: int, groups: int, size: int) -> None:
        super().__init__(channels, groups, size)
        words = torch.randn(groups, size, self.width)
        self.words = nn.Parameter(words * math.sqrt(2 / (5 * self.width)))
        self.scale = nn.Parameter(torch.ones(groups))
        self.register_buffer("shares", torch.full((groups, size), 1 / size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            rows = self.rows(x.float())
            step = max(1, DISTANCES // self.words[..., 0].numel())
            run = self._sample if self.training else self._nearest
            if self.training and len(rows) > step:  # distances are computed again
                run = partial(checkpoint, run, use_reentrant=False)
            made = [run(part) for part in rows.split(step)]
            words, index, best = (torch.cat(parts) for parts in zip(*made, strict=True))
            if self.training:
                self._follow(best)
            held = rows.new_zeros(len(x))
            return self.maps(words, x), self.maps(index[..., None], x), held

    def decode(self, index: Tensor) -> Tensor:
        return self.maps(self._look_up(index.permute(0, 2, 3, 1).flatten(0, 2)), index)

    @torch.no_grad()
    def renew(self, x: Tensor) -> bool:
        rows, moved = self.rows(x.float()), False
        for group, share in enumerate(self.shares):
            dead = (share < DEAD / len(share)).nonzero().flatten()[: len(rows)]
            drawn = torch.randperm(len(rows)).to(rows.device)[: len(dead)]
            self.words[group, dead] = rows[drawn, group]
            share[dead] = 1 / len(share)
            moved = moved or len(dead) > 0
        return moved

    def _distances(self, rows: Tensor) -> Tensor:
        """|x - c|² of rows (N, m, c), (N, m, k)."""
        x = rows.transpose(0, 1)
        cross = torch.bmm(x, self.words.mT).transpose(0, 1)
        norms = self.words.square().sum(2)
        return rows.square().sum(2, keepdim=True) + norms - 2 * cross

    def _look_up(self, index: Tensor) -> Tensor:
        """Words (N, m, c) of indexes (N, m)."""
        first = self.size * torch.arange(self.groups, device=index.device)
        return F.embedding(index + first, self.words.view(-1, self.width))

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = self._distances(rows).argmin(2)
        return self._look_up(index), index, index

    def _sample(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled words, their indexes, and the nearest ones' (N, m)."""
        distances = self._distances(rows)
        scales = self.scale.clamp_min(FLOOR) / math.sqrt(self.size)
        logits = -distances * scales[:, None]
        noise = -torch.empty_like(logits).exponential_().log()
        soft = (logits + noise).softmax(2)
        index = soft.argmax(2)
        # The word learns by where it stands, the logits as if all were mixed.
        mixed = torch.einsum("nmk,mkc->nmc", soft, self.words.detach())
        words = self._look_up(index) + mixed - mixed.detach()
        return words, index, distances.argmin(2)

    @torch.no_grad()
    def _follow(self, index: Tensor) -> None:
        """Running shares of the nearest words, indexes (N, m)."""
        first = self.size * torch.arange(self.groups, device=index.device)
        count = self.groups * self.size
        seen = torch.bincount((index + first).flatten(), minlength=count)
        share = seen.view_as(self.shares).to(self.shares) / len(index)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(share)
            share /= dist.get_world_size()
        self.shares.lerp_(share, 1 - DECAY)
