# SPDX-License-Identifier: Apache-2.0
"""Networks that are one signal: what is sent are their weights.

    item k ──┬─ position of k ───────────────┐
             └─ embedding of k, if any ──────┴──► network ──► item k, (C, *S)

The items of a clip are its frames; an image or a sound is one item. Where a network
has embeddings, an encoder makes them of the items while it is fitted; they are sent,
the encoder is not. Any item is made without the others.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

Size = tuple[int, ...]
# What the encoder is called that is not sent.
ENCODER = "encoder"


class Network(nn.Module, abc.ABC):
    """Base of `network/*`, built for one signal.

    ``kind``: of signal, None: any. ``size``: of the signal, items first: (N, H, W) of a
    clip, (1, H, W) of an image, (1, T) of a sound. ``channels``: of its samples, which
    are in [0, 1]. ``width``: what scales the number of weights.
    """

    kind: ClassVar[str | None] = None

    def __init__(self, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.size, self.channels, self.width = tuple(size), channels, width

    @property
    def embedding_size(self) -> Size | None:
        """Sizes (d, *s) of an item's embedding; None: there are none."""
        return None

    def embed(self, x: Tensor) -> Tensor | None:
        """Embeddings (B, d, *s) of items x (B, C, *S); None: there are none."""
        return None

    @abc.abstractmethod
    def forward(self, at: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Items (B, C, *S) number ``at`` (B,) int64, of their embeddings (B, d, *s)."""

    def sent(self) -> dict[str, nn.Parameter]:
        """The weights that are coded, by name, in their order.  # BITSTREAM"""
        own = self.named_parameters()
        return {n: p for n, p in own if not n.startswith(f"{ENCODER}.")}

    def without_encoder(self) -> Network:
        """This network, without what is not sent."""
        return self

    def lengths(self) -> list[int]:
        """Numbers of values of what is coded: each tensor, then each embedding."""
        own = [p.numel() for p in self.sent().values()]
        if self.embedding_size is None:
            return own
        one = int(torch.Size(self.embedding_size).numel())
        return own + [one] * self.size[0]

    @property
    def values(self) -> int:
        """How many values are coded."""
        return sum(self.lengths())


def on_meta(
    build: Callable[..., Network], *given: object, **options: object
) -> Network:
    """A network without memory for its weights, to count and to name them."""
    with torch.device("meta"):
        return build(*given, **options)


def width_within(build: Callable[[int], Network], budget: int, most: int = 4096) -> int:
    """The largest width, at least 1, whose network codes at most ``budget`` values.

    build: width -> network; run where tensors have no memory.
    """
    low, high = 1, 2
    while high < most and on_meta(build, high).values <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = on_meta(build, middle).values <= budget
        low, high = (middle, high) if fits else (low, middle)
    return low
