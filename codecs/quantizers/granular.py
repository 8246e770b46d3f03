# SPDX-License-Identifier: Apache-2.0
"""Variable granularity: where little happens one code stands for 4 x 4 latents.

    cell of 4 x 4 latents       coarse 1 code    medium 1 code for 2 x 2    fine 16
    plane 0                      0: coarse;  1 + Σ 2^q [quadrant q is fine]
    planes 1, 2 … 5, 6 … 21      codes: coarse, medium of a quadrant, fine of a latent;
                                 0 where the granularity is another

All granularities share one codebook of words of c numbers. Latents hold a word for each
and two activities, of quadrants and of cells (`transforms/image/vqgan.py`; latents of
any other transform are read so too). At rate r of 1 … R, u = (r - 1) / (R - 1):

    t = (4^u - 1) / 3,   shares of area: coarse (1-t)², medium 2t(1-t), fine t²

so that a cell has (1 + 3t)² = 16^u codes on average, 1 to 16. The least active cells
are coarse and the most active quadrants of the others fine, by stable rank: equal ones
in the order of the raster. Cells of activity 0 are coarse whatever the rate, and count
in no share. Shares are of a picture; what it is cut into for coding is given its part
of the picture's map (`encode_mapped`).

Li et al. 2025, "Once-for-all: Controllable generative image compression with dynamic
granularity adaptation" (Control-GIC, arXiv 2406.00758), section 3.2, whose thresholds
are values (strictly below one is coarser: a flat picture is all fine there), and whose
shares a user gives; in training they are fixed at (0.5, 0.4, 0.1) there, drawn at
random here. Its loss: |sg(z) - q|² / 4 + |z - sg(q)|², means over all positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.codecs.quantizers.base import (
    MappedQuantizer,
    Quantized,
    flatten,
    straight_through,
    unflatten,
)
from polycodec.errors import ModelError
from polycodec.registry import register

PLANES = (1, 1, 4, 16)
CODEBOOK = 0.25  # of the codebook's part of the loss
CHOSEN = 1 << 22  # distances held at a time


@register("quantizer/granular")
class GranularQuantizer(MappedQuantizer):
    """``codes``: words of the codebook; ``steps``: R, rates that can be asked for."""

    kind = "image"
    stride = 4

    def __init__(self, channels: int, *, codes: int = 1024, steps: int = 241) -> None:
        super().__init__()
        self.word = (channels - 2) // 3
        if self.word < 1 or not 2 <= steps <= 255:
            raise ModelError(
                f"{channels} channels and {steps} steps; expected at least 5 channels, "
                "three words and two activities, and 2 to 255 steps"
            )
        self.channels, self.steps = channels, steps
        self.sizes = (17, *(codes,) * sum(PLANES[1:]))
        words = (2 * torch.rand(codes, self.word) - 1) / codes
        self.words = nn.Parameter(words)

    @property
    def rates(self) -> tuple[int, ...]:
        return (self.levels,) * self.steps

    @property
    def measured(self) -> tuple[int, ...]:
        return tuple(1 + round(k * (self.steps - 1) / 4) for k in range(5))

    @property
    def alike(self) -> tuple[int, ...]:
        return tuple(book for book, count in enumerate(PLANES) for _ in range(count))

    @property
    def given(self) -> tuple[tuple[int, ...], ...]:
        return tuple((0,) if k else () for k in range(self.levels))

    @property
    def when(self) -> tuple[tuple[int, frozenset[int]] | None, ...]:
        """See :meth:`Quantizer.when`."""
        kinds = range(1, 17)
        medium = [frozenset(v for v in kinds if not v - 1 >> q & 1) for q in range(4)]
        fine = [frozenset(v for v in kinds if v - 1 >> q & 1) for q in range(4)]
        sent = [frozenset([0]), *medium, *(one for one in fine for _ in range(4))]
        return (None, *((0, values) for values in sent))

    def shares(self, rate: int) -> tuple[float, float, float]:
        """Shares of area of a rate: fine, medium and coarse."""
        t = (4 ** ((rate - 1) / (self.steps - 1)) - 1) / 3
        return t * t, 2 * t * (1 - t), (1 - t) ** 2

    def rate_of(self, codes: Tensor) -> int:
        """See :meth:`Quantizer.rate_of`: the nearest by the number of codes sent."""
        kind = codes[:, 0]
        fine = sum(((kind - 1).clamp_min(0) >> q) & 1 for q in range(4))
        mean = torch.where(kind > 0, 4 + 3 * fine, 1).double().mean()
        return 1 + round(float(mean.log2()) / 4 * (self.steps - 1))

    def activity(self, z: Tensor) -> Tensor:
        """See :meth:`MappedQuantizer.activity`: four quadrants and the cell."""
        quadrants = z[:, -2, ::2, ::2].unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        quadrants = quadrants.permute(0, 2, 4, 1, 3).flatten(1, 2)
        return -1 - torch.cat([quadrants, z[:, -1:, ::4, ::4]], 1).float()

    @torch.no_grad()
    def allocate(self, activity: Tensor, rate: int) -> Tensor:
        """See :meth:`MappedQuantizer.allocate`: plane 0."""
        return torch.stack([self._allocated(one, rate) for one in activity.cpu()]).to(
            activity.device
        )

    def _allocated(self, activity: Tensor, rate: int) -> Tensor:
        """Kinds (1, h, w) of activities (5, h, w)."""
        cell, quadrants = activity[4].flatten(), activity[:4].flatten(1).T  # (n, 4)
        fine, _, coarse = self.shares(rate)
        flat = cell == 0
        busy = len(cell) - int(flat.sum())
        order = cell.masked_fill(flat, -torch.inf).sort(stable=True).indices
        is_coarse = torch.zeros(len(cell), dtype=torch.bool)
        is_coarse[order[: len(cell) - busy + round(busy * coarse)]] = True
        others = 4 * int((~is_coarse).sum())
        kept = quadrants.masked_fill(is_coarse[:, None], -torch.inf).flatten()
        order = kept.sort(stable=True).indices
        is_fine = torch.zeros(len(kept), dtype=torch.bool)
        is_fine[order[len(kept) - min(others, round(4 * busy * fine)) :]] = True
        bits = (is_fine.view(-1, 4) * torch.tensor([1, 2, 4, 8])).sum(1)
        return torch.where(is_coarse, 0, 1 + bits).view(1, *activity.shape[1:])

    def forward(
        self, z: Tensor, active: Tensor | None = None, rate: Tensor | None = None
    ) -> Quantized:
        """See :meth:`Quantizer.forward`: training draws rates, unless told."""
        if rate is None:
            last = torch.full((len(z),), self.steps)
            rate = (
                torch.randint(1, self.steps + 1, (len(z),)) if self.training else last
            )
        with torch.autocast(z.device.type, enabled=False):
            activity = self.activity(z)
            pairs = zip(activity.split(1), rate.tolist(), strict=True)
            kind = torch.cat([self.allocate(one, int(r)) for one, r in pairs])
            return self._quantized(z.float(), kind)

    def quantized(self, z: Tensor, active: Tensor) -> Quantized:
        """See :meth:`Quantizer.quantized`: all planes, at the highest rate."""
        return self(z, active, torch.full((len(z),), self.steps))

    def _quantized(self, z: Tensor, kind: Tensor) -> Quantized:
        masks = self._masks(kind)
        y = self._composed(z, masks)
        index = self._nearest(y)
        q = self._look_up(index)
        loss = CODEBOOK * (y.detach() - q).square() + (y - q.detach()).square()
        codes = self._planes(index, kind)
        there = self.sent(codes)
        z_hat = self._latents(straight_through(y, q), masks)
        return Quantized(z_hat, codes.where(there, -1), loss.flatten(1).mean(1))

    def fineness(self, kind: Tensor) -> Tensor:
        """See :meth:`MappedQuantizer.fineness`: coarse 0, medium 0.5, fine 1."""
        fine, coarse = (m[:, :, ::2, ::2].float() for m in self._masks(kind))
        return (1 + fine - coarse) / 2

    @torch.no_grad()
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """See :meth:`Quantizer.encode`: at the highest rate."""
        return self.encode_at(z, self.steps)[:, : self.count_of(levels)]

    @torch.no_grad()
    def encode_mapped(self, z: Tensor, kind: Tensor) -> Tensor:
        """See :meth:`MappedQuantizer.encode_mapped`."""
        index = self._nearest(self._composed(z.float(), self._masks(kind)))
        return self._planes(index, kind)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """See :meth:`Quantizer.decode`; what the map leaves out is not looked at."""
        self.check_codes(codes)
        masks = self._masks(codes[:, :1])
        parts = codes[:, 1:].split(PLANES[1:], 1)
        coarse, medium, fine = (
            self._spread(p, k) for p, k in zip(parts, (1, 2, 4), strict=True)
        )
        index = torch.where(masks[1], coarse, torch.where(masks[0], fine, medium))
        return self._latents(self._look_up(index), masks)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Words drawn from those of latents z (N, D)."""
        rows = z[:, : 3 * self.word].reshape(-1, self.word).float()
        rows = rows[torch.randperm(len(rows)).to(rows.device)]
        count = len(self.words)
        self.words.copy_(rows.repeat(-(-count // len(rows)), 1)[:count])

    def _masks(self, kind: Tensor) -> tuple[Tensor, Tensor]:
        """Where latents (B, 1, 4h, 4w) are fine, and coarse; of kinds (B, 1, h, w)."""
        bits = [((kind - 1).clamp_min(0) >> q) & 1 for q in range(4)]
        fine = F.pixel_shuffle(torch.cat(bits, 1).float(), 2)
        fine, coarse = (
            F.interpolate(m, scale_factor=float(k), mode="nearest") > 0.5
            for m, k in ((fine, 2), ((kind == 0).float(), 4))
        )
        return fine, coarse

    def _composed(self, z: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        """The word (B, c, 4h, 4w) that each latent's granularity has."""
        fine, medium, coarse = z[:, : 3 * self.word].split(self.word, 1)
        medium, coarse = (
            F.interpolate(F.avg_pool2d(y, k), scale_factor=float(k), mode="nearest")
            for y, k in ((medium, 2), (coarse, 4))
        )
        return torch.where(masks[1], coarse, torch.where(masks[0], fine, medium))

    def _nearest(self, y: Tensor) -> Tensor:
        """Indexes (B, 1, h, w) of the words nearest to y (B, c, h, w)."""
        norms = self.words.square().sum(1)
        rows = flatten(y.detach()).split(max(1, CHOSEN // len(self.words)))
        best = [torch.addmm(norms, r, self.words.T, alpha=-2.0).argmin(1) for r in rows]
        return unflatten(torch.cat(best)[:, None], y)

    def _look_up(self, index: Tensor) -> Tensor:
        return unflatten(F.embedding(index.flatten(), self.words), index)

    def _latents(self, words: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        """ẑ (B, D, h, w): words (B, c, h, w) for all granularities, 0, then masks."""
        rest = self.channels - 2 - 3 * self.word
        none = words.new_zeros(len(words), rest, *words.shape[2:])
        maps = (m.to(words.dtype) for m in masks)
        return torch.cat([words, words, words, none, *maps], 1)

    def _planes(self, index: Tensor, kind: Tensor) -> Tensor:
        """Codes (B, 22, h, w) of indexes (B, 1, 4h, 4w): the first of each patch."""
        coarse = index[:, :, ::4, ::4]
        medium = F.pixel_unshuffle(index[:, :, ::2, ::2], 2)
        # Quadrant by quadrant, as the map counts them.
        fine = F.pixel_unshuffle(F.pixel_unshuffle(index, 2), 2)
        fine = fine.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)
        codes = torch.cat([kind, coarse, medium, fine], 1)
        return codes.where(self.sent(codes), 0)

    @staticmethod
    def _spread(codes: Tensor, side: int) -> Tensor:
        """Codes (B, side², h, w) of a granularity at each latent, (B, 1, 4h, 4w)."""
        if side == 4:
            codes = codes.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)
            return F.pixel_shuffle(F.pixel_shuffle(codes, 2), 2)
        near = F.pixel_shuffle(codes, side)
        return near.repeat_interleave(4 // side, 2).repeat_interleave(4 // side, 3)
