# SPDX-License-Identifier: Apache-2.0
"""Rate control of speech: the levels of each chunk, by real coded sizes.

    0. a guess of the levels from a few chunks
    1. the most levels l at which the whole file fits
    2. one level more for as many chunks as still fit, spread evenly

So the size comes as close to the target as a chunk's one level, not as the whole
file's. Every size asked for is one of a real coding; each chunk is coded at most once
with each number of levels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from polycodec.errors import UsageError

SAMPLES = 8  # chunks, of which a first guess is made


def mix_levels(
    size_of: Callable[[int, int], int],
    file_size: Callable[[Sequence[int]], int],
    *,
    chunks: int,
    levels: int,
    limit: int,
    what: str,
) -> list[int]:
    """Levels of each chunk, such that the file has at most ``limit`` bytes.

    ``size_of(k, l)``: bytes of chunk k at l levels; ``file_size(sizes)``: of the file
    of such chunks. UsageError when even one level is larger.
    """
    known = functools.cache(size_of)

    def total(chosen: Sequence[int]) -> int:
        return file_size([known(k, count) for k, count in enumerate(chosen)])

    base = _guess(known, chunks, levels, limit)
    while base < levels and total([base + 1] * chunks) <= limit:
        base += 1
    while base > 1 and total([base] * chunks) > limit:
        base -= 1
    if base == 1 and (smallest := total([1] * chunks)) > limit:
        raise UsageError(
            f"{what} asks for at most {limit} bytes; the lowest rate needs {smallest}; "
            "raise the target or shorten the speech"
        )
    low, high = 0, chunks  # chunks that get one level more
    if base == levels:
        return [base] * chunks
    while high - low > 1:
        middle = (low + high) // 2
        if total(spread(base, middle, chunks)) <= limit:
            low = middle
        else:
            high = middle
    return spread(base, low, chunks)


def _guess(
    size_of: Callable[[int, int], int], chunks: int, levels: int, limit: int
) -> int:
    """The levels that fit by the sizes of a few chunks: coding all of them is slow."""
    few = range(0, chunks, max(1, chunks // SAMPLES))
    for count in range(levels, 1, -1):
        if sum(size_of(k, count) for k in few) / len(few) * chunks <= limit:
            return count
    return 1


def spread(base: int, more: int, chunks: int) -> list[int]:
    """``base`` levels for every chunk, one more for ``more`` of them, evenly."""
    return [base + (k + 1) * more // chunks - k * more // chunks for k in range(chunks)]


def mean_quality(chosen: Sequence[int], levels: int) -> float:
    """The quality, 0 … 100, that stands for the mean of the chosen levels."""
    if levels == 1:
        return 100.0
    mean = sum(chosen) / len(chosen)
    return round(100 * 100 * (mean - 1) / (levels - 1)) / 100
