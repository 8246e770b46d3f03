# SPDX-License-Identifier: Apache-2.0
"""Rate control: the quality that meets a target, by real coded sizes.

Qualities form a grid of quarters, 0 … 100. Size and PSNR grow with it, so the
largest file that still fits, or the smallest that is good enough, is found by
bisection: at most 9 trial codings, each one a real one.
"""

from __future__ import annotations

from collections.abc import Callable

from polycodec.errors import UsageError

STEPS_PER_QUALITY = 4
LAST = 100 * STEPS_PER_QUALITY


def largest_within(
    size_of: Callable[[float], int], limit: int, what: str
) -> tuple[float, int]:
    """(quality, bytes) of the largest coding of at most ``limit`` bytes.

    UsageError when even quality 0 is larger: no file is better than a wrong one.
    """
    smallest = size_of(0.0)
    if smallest > limit:
        raise UsageError(
            f"{what} asks for at most {limit} bytes; quality 0 needs {smallest}; "
            "raise the target or make the image smaller"
        )
    low, best = 0, smallest
    top = size_of(100.0)
    if top <= limit:
        return 100.0, top
    high = LAST
    while high - low > 1:
        middle = (low + high) // 2
        size = size_of(middle / STEPS_PER_QUALITY)
        if size <= limit:
            low, best = middle, size
        else:
            high = middle
    return low / STEPS_PER_QUALITY, best


def smallest_reaching(
    psnr_of: Callable[[float], float], target: float
) -> tuple[float, float]:
    """(quality, PSNR) of the smallest coding of at least ``target`` dB.

    UsageError when quality 100 does not reach it.
    """
    best = psnr_of(100.0)
    if best < target:
        raise UsageError(
            f"--min-psnr asks for {target:g} dB; quality 100 reaches {best:.2f}; "
            "lower the target or keep this image in a lossless format"
        )
    low, high = -1, LAST
    while high - low > 1:
        middle = (low + high) // 2
        psnr = psnr_of(middle / STEPS_PER_QUALITY)
        if psnr >= target:
            high, best = middle, psnr
        else:
            low = middle
    return high / STEPS_PER_QUALITY, best
