# SPDX-License-Identifier: Apache-2.0
"""A network whose weights are a linear map of numbers that are sent, shared by all.

    position ─ cos, sin of frequencies ─┐
    h_z ─ φ: upsampled by convolutions ─┴─► [Linear ─ sin 30·] × depth ─ Linear ─► x̂
                                                weights of layer l:  h_w^l · A^l

A and φ are shared by all signals, h_w and h_z are of one piece. He, Flamich, Guo,
Hernández-Lobato 2024, RECOMBINER (arXiv 2309.17182), sections 3.1 and 3.2. As here and
not there: A starts as the identity, and all pieces from one network, not each from its
own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.errors import ModelError

OMEGA = 30.0
SLOPE = 0.01
Factors = Sequence[int | Sequence[int]]


class Reparametrized(nn.Module):
    """Pieces (P, C, *piece) of rows h_w (P, W) and of a map h_z (B, Z, *grid).

    ``piece``: sizes of a piece, one to three; ``channels`` C. ``hidden``, ``depth``: of
    the network; ``fourier``: features of a position, frequencies up to ``top`` half
    turns a half of the piece. ``latents``: channels of h_z, ``features``: of φ's two
    layers between, ``encoding``: that it adds to a position; 0: there is no φ, as for
    COMBINER. ``up``: what each of its layers multiplies sizes by. ``linear``: with A;
    without, weights are the numbers themselves.
    """

    bands: Tensor

    def __init__(
        self,
        piece: Sequence[int],
        channels: int,
        *,
        hidden: int = 16,
        depth: int = 2,
        fourier: int = 8,
        top: float = 8.0,
        encoding: int = 8,
        latents: int = 32,
        features: Sequence[int] = (16, 16),
        up: Factors = (4, 2, 2),
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.piece, self.channels = tuple(piece), channels
        axes = len(self.piece)
        self.up = [(f,) * axes if isinstance(f, int) else tuple(f) for f in up]
        whole = [math.prod(f[i] for f in self.up) for i in range(axes)]
        fits = all(n > 0 == n % f for n, f in zip(self.piece, whole, strict=True))
        if not (1 <= axes <= 3 and fits and len(self.up) == 3 == len(features) + 1):
            raise ModelError(
                f"pieces of {self.piece} are upsampled by {self.up}; expected three "
                "factors an axis whose product divides its size"
            )
        if fourier % (2 * axes) or min(hidden, depth, fourier, channels) < 1:
            raise ModelError(
                f"a position has {fourier} features; expected a multiple of {2 * axes}"
            )
        self.latents = latents if encoding else 0
        self.grid = tuple(n // f for n, f in zip(self.piece, whole, strict=True))
        widths = [fourier + encoding] + [hidden] * depth + [channels]
        self.layers = list(itertools.pairwise(widths))
        self.counts = [out * (inner + 1) for inner, out in self.layers]
        self.maps = nn.ParameterList(
            nn.Parameter(torch.eye(n)) for n in (self.counts if linear else [])
        )
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        sizes = [latents, *features, encoding] if encoding else [1]
        self.phi = nn.ModuleList(
            convolution(a, b, k, padding=k // 2)
            for a, b, k in zip(sizes[:-1], sizes[1:], (5, 3, 3), strict=False)
        )
        at = fourier // (2 * axes)
        turns = torch.exp(torch.linspace(0, math.log(top), at)) if at > 1 else None
        self.register_buffer("bands", self._positions(turns), persistent=False)

    @property
    def weights(self) -> int:
        """W: weights of the network of one piece."""
        return sum(self.counts)

    @property
    def values(self) -> int:
        """Z times the grid of one piece."""
        return self.latents * math.prod(self.grid)

    def _positions(self, turns: Tensor | None) -> Tensor:
        """Features (n, F) of the n samples of a piece, each axis in (-1, 1)."""
        turns = torch.ones(1) if turns is None else turns
        lines = [(2 * torch.arange(n) + 1) / n - 1 for n in self.piece]
        x = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).flatten(0, -2)
        angle = math.pi * (x[:, :, None] * turns).flatten(1)
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def started(self) -> Tensor:
        """Numbers (W + Z,) that an untrained network begins with."""
        parts, bound = [], 1 / self.layers[0][0]
        for inner, out in self.layers:
            weight = torch.empty(inner * out).uniform_(-bound, bound)
            parts += [torch.zeros(out), weight]
            bound = math.sqrt(6 / out) / OMEGA
        return torch.cat([*parts, 0.1 * torch.randn(self.values)])

    def upsampled(self, z: Tensor) -> Tensor:
        """φ of h_z (B, Z, *grid): (B, E, *S), all pieces of a signal at once."""
        axes = len(self.piece)
        for k, (layer, factor) in enumerate(zip(self.phi, self.up, strict=True)):
            for axis, by in enumerate(factor):
                z = z.repeat_interleave(by, 2 + axis) if by > 1 else z
            z = layer(z)
            z = F.leaky_relu(z, SLOPE) if k < 2 else z
        assert z.ndim == 2 + axes
        return z

    def forward(self, h: Tensor, encoded: Tensor | None) -> Tensor:
        """Pieces (P, C, *piece) of h_w (P, W) and encodings (P, E, *piece)."""
        x = self.bands.expand(len(h), -1, -1)
        if encoded is not None:
            x = torch.cat([x, encoded.flatten(2).transpose(1, 2)], dim=2)
        parts = h.split(self.counts, dim=1)
        for k, (inner, out) in enumerate(self.layers):
            w = parts[k] @ self.maps[k] if len(self.maps) else parts[k]
            hidden = k + 1 < len(self.layers)
            w = OMEGA * w if hidden else w
            x = torch.baddbmm(w[:, None, :out], x, w[:, out:].view(-1, inner, out))
            x = torch.sin(x) if hidden else x
        return 0.5 + x.transpose(1, 2).reshape(len(h), self.channels, *self.piece)


def joined(pieces: Tensor, counts: Sequence[int]) -> Tensor:
    """Signals (B, C, *S) of pieces (B, P, C, *piece), ``counts`` of them an axis."""
    batch, _, channels, *piece = pieces.shape
    axes = len(counts)
    x = pieces.reshape(batch, *counts, channels, *piece)
    pairs = [a for k in range(axes) for a in (1 + k, 2 + axes + k)]
    sizes = [n * p for n, p in zip(counts, piece, strict=True)]
    return x.permute(0, 1 + axes, *pairs).reshape(batch, channels, *sizes)


def parted(x: Tensor, counts: Sequence[int]) -> Tensor:
    """The reverse of `joined`."""
    batch, channels, *sizes = x.shape
    piece = [s // n for s, n in zip(sizes, counts, strict=True)]
    axes = len(counts)
    pairs = [a for both in zip(counts, piece, strict=True) for a in both]
    x = x.reshape(batch, channels, *pairs)
    order = [*range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2)]
    return x.permute(0, *order).reshape(batch, -1, channels, *piece)
