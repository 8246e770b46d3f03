# SPDX-License-Identifier: Apache-2.0
"""How far a chain of layers looks, from what each of its layers looks at.

    step(first, last) -> (first, last)      the inputs that outputs first … last use

Along one axis, from the last layer back to the first. With windows, strides and
shuffles the answer differs from position to position and repeats with the grid: the
largest of one period is the reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Step = Callable[[int, int], tuple[int, int]]


def conv(kernel: int, stride: int = 1) -> Step:
    """A convolution with padding kernel // 2."""
    pad = kernel // 2
    return lambda a, b: (a * stride - pad, b * stride - pad + kernel - 1)


def transposed(kernel: int) -> Step:
    """A transposed convolution of stride 2 that doubles, padding kernel // 2."""
    pad = kernel // 2
    return lambda a, b: (-(-(a + pad - kernel + 1) // 2), (b + pad) // 2)


def shuffle(factor: int) -> Step:
    """A pixel shuffle: ``factor`` positions come from one."""
    return lambda a, b: (a // factor, b // factor)


def unshuffle(factor: int) -> Step:
    """A pixel unshuffle, or a wavelet step: a position is made of ``factor``."""
    return lambda a, b: (a * factor, b * factor + factor - 1)


def windows(side: int, shift: int = 0) -> Step:
    """Attention inside windows that begin at multiples of ``side``, less the shift."""

    def step(a: int, b: int) -> tuple[int, int]:
        first, last = (a + shift) // side, (b + shift) // side
        return first * side - shift, last * side - shift + side - 1

    return step


def look(steps: Sequence[Step], first: int, last: int) -> tuple[int, int]:
    """The inputs that outputs ``first`` … ``last`` of layers in their order use."""
    for step in reversed(steps):
        first, last = step(first, last)
    return first, last


def reach(
    analysis: Sequence[Step], synthesis: Sequence[Step], stride: int, grid: int
) -> tuple[int, int]:
    """What `ImageTransform.reach` states: pixels of the analysis, latents of the other.

    ``stride``: pixels of a latent; ``grid``: pixels after which everything repeats.
    """
    pixels = latents = 0
    for k in range(grid // stride):
        first, last = look(analysis, k, k)
        pixels = max(pixels, k * stride - first, last - (k + 1) * stride + 1)
        first, last = look(synthesis, k * stride, (k + 1) * stride - 1)
        latents = max(latents, k - first, last - k)
    return pixels, latents
