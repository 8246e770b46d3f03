# SPDX-License-Identifier: Apache-2.0
"""What transforms promise: sizes, and how far a result looks.

    x (B, C, *S) ── g_a ──► z (B, D, *S / stride) ── g_s ──► x̂ (B, C, *S)

A file is coded in pieces, and a piece must come out as it would from the whole signal.
So a transform says how far each result looks to its sides: as a number, or None where
every result depends on everything, and there are no pieces then.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from polycodec.errors import ModelError


class Transform(nn.Module, abc.ABC):
    """Base of `transform/*`. A part sets g_a and g_s: modules or methods.

    ``kind``: the kind of signal; ``channels``: D of the latents; ``stride``: samples
    of the signal, along each axis, that a latent stands for.
    """

    kind: ClassVar[str]
    g_a: Callable[..., Tensor]
    g_s: Callable[..., Tensor]

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    @abc.abstractmethod
    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        """Latents z (B, D, *S / stride) of x (B, C, *S), S multiples of the stride.

        level: (B,) float, for transforms that know the rate.
        """

    @abc.abstractmethod
    def synthesise(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Signals (B, C, *S) of latents (B, D, *S / stride)."""

    def _of_shape(self, made: Tensor, given: Tensor, *expected: int) -> Tensor:
        batch = given.shape[0]  # its length would be a constant of a traced program
        if tuple(made.shape) != (batch, *expected):
            raise ModelError(
                f"the transform {type(self).__name__} made {tuple(made.shape)} of "
                f"{tuple(given.shape)}; expected {(batch, *expected)}: it states "
                f"{self.channels} channels and a stride of {self.stride}; correct its "
                "networks, or what it states"
            )
        return made

    def _latents(self, z: Tensor, x: Tensor) -> Tensor:
        return self._of_shape(z, x, self.channels, *self.latent_size(*x.shape[2:]))

    def _signals(self, x_hat: Tensor, z_hat: Tensor, channels: int) -> Tensor:
        size = (self.stride * n for n in z_hat.shape[2:])
        return self._of_shape(x_hat, z_hat, channels, *size)

    def latent_size(self, *size: int) -> tuple[int, ...]:
        """Sizes of the latents' grid of a signal of ``size``."""
        return tuple(-(-n // self.stride) for n in size)

    def penalty(self) -> Tensor | None:
        """What training adds to its loss for the weights' own sake; None: nothing."""
        return None

    def initialise(self, x: Tensor) -> bool:
        """Start from prepared signals x (B, C, *S); say whether there was a way to."""
        return False


@dataclass(frozen=True)
class Tiling:
    """How an image may be cut so that its parts come out as those of the whole.

    Tiles begin at multiples of ``grid`` pixels, and what is computed of a part at
    multiples of ``period``. ``reach``: how far results look to each side, in pixels for
    a code and in codes for a pixel; None: everywhere.
    """

    grid: int
    period: int
    reach: tuple[int, int] | None

    @property
    def halo(self) -> tuple[int, int]:
        """The reach; ModelError where it has no end."""
        if self.reach is None:
            raise ModelError(
                "every pixel of this codec depends on all others: it has no tiles; "
                "expected an image coded in one piece; encode it again without tiles"
            )
        return self.reach

    def folded(self, fold: int, stride: int, local: bool) -> Tiling:
        """The same where a code stands for ``fold`` x ``fold`` latents, and so for
        ``stride`` pixels a side; not ``local``: it depends on all other latents."""
        reach = None
        if self.reach is not None and local:
            reach = self.reach[0], -(-self.reach[1] // fold)
        grid, period = (math.lcm(n, stride) for n in (self.grid, self.period))
        return Tiling(grid, period, reach)


class ImageTransform(Transform):
    """Transforms of images; g_a and g_s are called with (tensor, level).

    ``grid``: tiles begin at multiples of so many pixels: 4 strides, as hyper latents
    have them, or a multiple where windows of a network do.
    """

    kind = "image"
    grid: int = 64

    @property
    def period(self) -> int:
        """Pixels after which positions are alike: 64 where windows of 8 x 8 are of H/8.

        What is computed of a part of an image begins at multiples of it.
        """
        return self.stride

    @abc.abstractmethod
    def reach(self) -> tuple[int, int] | None:
        """How far results look to each side, the halo of a tile; None: everywhere.

        In pixels for a latent, beyond the pixels that it stands for, and in latents for
        a pixel, beyond the latent that it belongs to.
        """

    @property
    def tiling(self) -> Tiling:
        """What of the above says how images may be cut."""
        return Tiling(self.grid, self.period, self.reach())

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        return self._latents(self.g_a(x, level), x)

    def synthesise(self, z_hat: Tensor, level: Tensor) -> Tensor:
        z_hat = z_hat.contiguous(memory_format=torch.channels_last)
        return self._signals(self.g_s(z_hat, level), z_hat, 3)


class FeatureTransform(Transform):
    """Transforms of images whose synthesis makes features for a network behind it.

    ``features``: channels of these; they lie on a grid of their own. g_a and g_s are
    called with a tensor.
    """

    kind = "features"

    def __init__(self, channels: int, stride: int, features: int) -> None:
        super().__init__(channels, stride)
        self.features = features

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        return self._latents(self.g_a(x), x)

    def synthesise(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Features (B, F, h, w) of latents (B, D, *latent_size)."""
        return self.g_s(z_hat.contiguous(memory_format=torch.channels_last))


Context = tuple[int, int]


class SpeechTransform(Transform):
    """Transforms of speech; g_a and g_s are called with a tensor, (B, C, T)."""

    kind = "speech"

    @abc.abstractmethod
    def contexts(self) -> tuple[Context | None, Context | None]:
        """Frames (left, right) that analysis and synthesis need beside a frame.

        None where a layer's memory has no end.
        """

    @property
    def hop(self) -> int:
        """Samples of a frame of latents: the stride."""
        return self.stride

    def concealed(self, before: Tensor) -> Tensor:
        """Latents (B, D, 1) in place of a frame that was lost.

        before: those of the last frame that came. They are said again, unless a
        transform has learned better.
        """
        return before

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        return self._latents(self.g_a(x), x)

    def synthesise(self, z_hat: Tensor, level: Tensor) -> Tensor:
        return self._signals(self.g_s(z_hat), z_hat, 1)


class Memory:
    """What layers remember of B signals between two pieces of them.

    A fresh one is silence before the start. Piece after piece with one memory gives
    what the whole gives: a layer asks for what came before its input, and nothing else
    knows whether there are pieces.
    """

    def __init__(self) -> None:
        self._past: dict[nn.Module, Tensor] = {}
        self._left: dict[nn.Module, int] = {}

    def joined(self, layer: nn.Module, x: Tensor, count: int) -> Tensor:
        """x (B, T, C) with the ``count`` positions before it: (B, count + T, C)."""
        past = self._past.get(layer)
        if past is None:
            past = x.new_zeros(len(x), count, *x.shape[2:])
        x = torch.cat([past, x], dim=1)
        self._past[layer] = x[:, x.shape[1] - count :].clone()
        return x

    def behind(self, layer: nn.Module, x: Tensor, count: int) -> Tensor:
        """x (B, T, C) without the first ``count`` positions that there ever were."""
        left = self._left.get(layer, count)
        cut = min(left, x.shape[1])
        self._left[layer] = left - cut
        return x[:, cut:]

    @property
    def bytes(self) -> int:
        """How much is remembered, of all signals together."""
        return sum(t.numel() * t.element_size() for t in self._past.values())


class CausalTransform(SpeechTransform):
    """Transforms that take a signal frame by frame: (x, memory), see `Memory`.

    Without a memory x is a whole signal. With one, results come ``ahead`` = (analysis,
    synthesis) frames late: so many fewer at the start.
    """

    ahead: tuple[int, int]
    g_a: Callable[..., Tensor]
    g_s: Callable[..., Tensor]
