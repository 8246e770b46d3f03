# SPDX-License-Identifier: Apache-2.0
"""Rate control: the quality that meets a target, by real coded sizes.

Qualities form a grid of quarters, 0 … 100. Size and PSNR grow with it, so the
largest file that still fits, or the smallest that is good enough, is found by
bisection: at most 11 trial codings, each one a real one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from polycodec.errors import UsageError

_GRID = tuple(step / 4 for step in range(401))


def largest_within(size_of: Callable[[float], int], limit: int, what: str) -> float:
    """The quality of the largest coding of at most ``limit`` bytes.

    UsageError when even quality 0 is larger: no file is better than a wrong one.
    """
    smallest = size_of(0.0)
    if smallest > limit:
        raise UsageError(
            f"{what} asks for at most {limit} bytes; quality 0 needs {smallest}; "
            "raise the target or make the input smaller"
        )
    if size_of(100.0) <= limit:
        return 100.0
    return _GRID[bisect_right(_GRID, limit, 1, len(_GRID) - 1, key=size_of) - 1]


def smallest_reaching(psnr_of: Callable[[float], float], target: float) -> float:
    """The quality of the smallest coding of at least ``target`` dB.

    UsageError when quality 100 does not reach it.
    """
    best = psnr_of(100.0)
    if best < target:
        raise UsageError(
            f"--min-psnr asks for {target:g} dB; quality 100 reaches {best:.2f}; "
            "lower the target or keep this image in a lossless format"
        )
    return _GRID[bisect_left(_GRID, target, 0, len(_GRID) - 1, key=psnr_of)]
