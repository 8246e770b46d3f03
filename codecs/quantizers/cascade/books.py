# SPDX-License-Identifier: Apache-2.0
"""m codebooks side by side, each for C/m channels, chosen by sampling while trained.

    d_i = |x - c_i|²,   logit_i = -T_j d_i / √k       of group j, in C/m numbers
                        logit_i = -T_j s d_i / v_j    with a sharpness s
    training     one-hot of argmax(logit + Gumbel noise), gradient of its softmax
    otherwise    argmin d

A position is one of kᵐ vectors at the cost of m small books. As a density: logits are
log posteriors of a mixture of k Gaussians whose means are the codewords, all alike and
round. What a mean misses of a component's true covariance is left to coarser levels.
T is learned from 1 on. As published, and at k = 1,024, all words are then about as
likely, and latents must grow before codes can say anything: 300 steps of
`image/mcquic-small` reach 12.7 dB, with a sharp choice 21.9.

A sharp choice has no gradient where a latent is far from words: the loss holds it near
them, and words that nothing chooses become latents (`renew`). Both distances count in
v, the variance of the latents of a batch, so that a level gains nothing by shrinking.
Where they did not, coarse levels shrank until every choice was noise, and after 6,000
steps had one to five words left.
Zhu et al. 2022 (arXiv 2203.10897), section 3.2; the sample is that of Jang et al. 2017
(arXiv 1611.01144) at temperature 1.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

FLOOR = 1e-3  # of the learned T
LEAST = 1e-9  # of a variance
DECAY = 0.99  # of shares, a step
DEAD = 0.03  # of a uniform share: not chosen in about the last 350 steps
DISTANCES = 1 << 24  # held at a time


class Books(nn.Module):
    """``groups`` codebooks of ``size`` words for (B, ``channels``, h, w).

    ``sharpness``: s above, None as published. ``shares``: how often each word was the
    nearest of late, (m, k).
    """

    shares: Tensor

    def __init__(
        self, channels: int, groups: int, size: int, sharpness: float | None = None
    ) -> None:
        super().__init__()
        width = channels // groups
        words = torch.randn(groups, size, width) * math.sqrt(2 / (5 * width))
        self.words = nn.Parameter(words)
        self.sharpness = sharpness
        self.scale = nn.Parameter(torch.ones(groups))
        self.register_buffer("shares", torch.full((groups, size), 1 / size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (B, C, h, w): words in its place, and indexes (B, m, h, w) int64.

        Sampled in training mode, whatever autocast says in float32. At last how far
        latents are from their words while training, (B,): mean square over variance.
        """
        with torch.autocast(x.device.type, enabled=False):
            rows = self._rows(x.float())
            step = max(1, DISTANCES // self.words[..., 0].numel())
            variance = rows.var(0, correction=0).mean(1).clamp_min(LEAST)
            run = self._nearest
            if self.training:
                run = partial(self._sample, scales=self._scales(variance.detach()))
                if len(rows) > step:  # distances are computed again
                    run = partial(checkpoint, run, use_reentrant=False)
            made = [run(part) for part in rows.split(step)]
            words, index, best = (torch.cat(parts) for parts in zip(*made, strict=True))
            apart = rows.new_zeros(len(x))
            if self.training:
                self._follow(best)
                far = (rows - words.detach()).square().mean(2) / variance
                apart = far.view(len(x), -1).mean(1)
            return self._maps(words, x), self._maps(index[..., None], x), apart

    def decode(self, index: Tensor) -> Tensor:
        """Words (B, C, h, w) of indexes (B, m, h, w)."""
        return self._maps(self._look_up(index.permute(0, 2, 3, 1).flatten(0, 2)), index)

    @torch.no_grad()
    def renew(self, x: Tensor) -> bool:
        """Words hardly chosen become vectors of x (B, C, h, w); whether any did."""
        rows, moved = self._rows(x.float()), False
        for group, share in enumerate(self.shares):
            dead = (share < DEAD / len(share)).nonzero().flatten()[: len(rows)]
            drawn = torch.randperm(len(rows)).to(rows.device)[: len(dead)]
            self.words[group, dead] = rows[drawn, group]
            share[dead] = 1 / len(share)
            moved = moved or len(dead) > 0
        return moved

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (N, m, C/m)."""
        return x.permute(0, 2, 3, 1).reshape(-1, len(self.words), self.words.shape[2])

    @staticmethod
    def _maps(rows: Tensor, like: Tensor) -> Tensor:
        """(N, m, c) -> (B, m c, h, w), B, h and w those of ``like``."""
        batch, _, h, w = like.shape
        return rows.reshape(batch, h, w, -1).permute(0, 3, 1, 2).contiguous()

    def _distances(self, rows: Tensor) -> Tensor:
        """|x - c|² of rows (N, m, c), (N, m, k)."""
        x = rows.transpose(0, 1)
        cross = torch.bmm(x, self.words.mT).transpose(0, 1)
        norms = self.words.square().sum(2)
        return rows.square().sum(2, keepdim=True) + norms - 2 * cross

    def _look_up(self, index: Tensor) -> Tensor:
        """Words (N, m, c) of indexes (N, m)."""
        groups, size, width = self.words.shape
        first = size * torch.arange(groups, device=index.device)
        return F.embedding(index + first, self.words.view(-1, width))

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index = self._distances(rows).argmin(2)
        return self._look_up(index), index, index

    def _scales(self, variance: Tensor) -> Tensor:
        """What distances count in logits, (m,); variance (m,): of the latents."""
        if self.sharpness is None:
            return self.scale.clamp_min(FLOOR) / math.sqrt(self.words.shape[1])
        return self.scale.clamp_min(FLOOR) * self.sharpness / variance

    def _sample(self, rows: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled words, their indexes, and the nearest ones' (N, m)."""
        distances = self._distances(rows)
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
        groups, size = self.shares.shape
        first = size * torch.arange(groups, device=index.device)
        seen = torch.bincount((index + first).flatten(), minlength=groups * size)
        share = seen.view(groups, size).to(self.shares) / len(index)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(share)
            share /= dist.get_world_size()
        self.shares.lerp_(share, 1 - DECAY)
