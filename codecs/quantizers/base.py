# SPDX-License-Identifier: Apache-2.0
"""What every codebook quantizer does: latents to indexes, indexes to latents.

    z (B, D, *S) ── encode ──► codes (B, L, *S) ── decode ──► ẑ (B, D, *S)

S is (F,) for sound and (H, W) for images. L levels refine one another; fewer of them
are a lower rate, so any prefix of the levels decodes. `forward` is training: the same
codes, a straight-through ẑ, and the loss that ties encoder and codebook together.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
    """Base of `quantizer/*`; ``sizes`` are the codes of each level."""

    channels: int
    sizes: tuple[int, ...]

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.sizes)

    @property
    def bits_per_position(self) -> float:
        """Σ log₂ K over the levels: what fixed-width codes would cost."""
        return sum(math.log2(k) for k in self.sizes)

    @abc.abstractmethod
    def forward(self, z: Tensor, active: Tensor | None = None) -> Quantized:
        """Quantize z (B, D, *S) with the first ``active`` (B,) levels of each item."""

    @abc.abstractmethod
    def encode(self, z: Tensor, levels: int | None = None) -> Tensor:
        """Codes (B, l, *S) int64 of z (B, D, *S), with ``levels`` levels or all."""

    @abc.abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, D, *S) of codes (B, l, *S), l <= L; InputError outside."""

    def initialise(self, z: Tensor) -> None:
        """Start from a sample of latents (N, D). Does nothing unless overridden."""

    def check_codes(self, codes: Tensor) -> None:
        """InputError that names a code outside its codebook, or a level too many."""
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
        """Perplexity (2^entropy) and number of used codes of each level."""
        perplexity, used = [], []
        for level, plane in enumerate(codes.unbind(1)):
            plane = plane[plane >= 0]
            counts = torch.bincount(plane.flatten(), minlength=self.sizes[level])
            p = counts[counts > 0].double() / max(plane.numel(), 1)
            perplexity.append(float(torch.exp2(-(p * p.log2()).sum())))
            used.append(int((counts > 0).sum()))
        return {"perplexity": perplexity, "used": used}


def flatten(z: Tensor) -> Tensor:
    """(B, D, *S) -> (B n, D) float32 rows, contiguous."""
    return z.float().flatten(2).transpose(1, 2).reshape(-1, z.shape[1])


def unflatten(rows: Tensor, like: Tensor) -> Tensor:
    """(B n, D) rows -> (B, D, *S) of ``like``'s batch and trailing sizes."""
    rows = rows.view(like.shape[0], -1, rows.shape[-1]).transpose(1, 2)
    return rows.reshape(like.shape[0], -1, *like.shape[2:])


def straight_through(z: Tensor, z_hat: Tensor) -> Tensor:
    """ẑ forward, the gradient of z backward."""
    return z + (z_hat - z).detach()
