# SPDX-License-Identifier: Apache-2.0
"""Rate control: the quality that meets a size, by real coded sizes.

One quality serves all frames: at equal distortion of all, a size buys the most. Frames
spread over the clip are coded at trial qualities (`files/image/rate.py`); then the clip
is, and again with what its true size says of the trials, until it is near the limit.
"""

from __future__ import annotations

from collections.abc import Callable

from polycodec.codecs.files.image.rate import largest_within
from polycodec.codecs.files.video.data import Planes
from polycodec.errors import UsageError

KEPT = 16  # frames for trials
NEAR = 0.93  # of the limit, and above: good enough
PASSES = 5


class Sample:
    """Up to ``KEPT`` frames of a clip of any length, at even distances."""

    def __init__(self) -> None:
        self.frames: list[Planes] = []
        self.step, self.seen = 1, 0

    def add(self, frame: Planes) -> None:
        """Look at the next frame."""
        if self.seen % self.step == 0:
            self.frames.append(frame)
            if len(self.frames) > KEPT:
                self.frames, self.step = self.frames[::2], 2 * self.step
        self.seen += 1

    @property
    def whole(self) -> bool:
        """Whether all frames are in it."""
        return self.step == 1


def search(
    trial: Callable[[float], float],
    code: Callable[[float], int],
    limit: int,
    what: str,
    *,
    exact: bool,
) -> float:
    """The quality of the clip as coded last, of at most ``limit`` bytes.

    trial(quality) estimates a size in bytes; code(quality) codes the clip and gives it.
    ``exact``: trials are of the whole clip. UsageError when even quality 0 is larger.
    """
    known: dict[float, float] = {}

    def estimate(quality: float) -> float:
        if quality not in known:
            known[quality] = trial(quality)
        return known[quality]

    factor, best = 1.0, None
    for _ in range(PASSES):
        scale = factor
        most = max(int(limit / scale), 1)
        quality = largest_within(lambda q: int(estimate(q)), most, what)
        if quality == best:
            break
        size = code(quality)
        if size <= limit and (exact or quality == 100 or size >= NEAR * limit):
            return quality
        best = quality
        factor = max(size / estimate(quality), 1e-6) * (1.005 if size > limit else 1.0)
    while size > limit:  # trials were misleading: a step down until it fits
        if quality == 0:
            raise UsageError(
                f"{what} asks for at most {limit} bytes; quality 0 needs {size}; raise "
                "the target"
            )
        quality = max(0.0, quality - 2)
        size = code(quality)
    return quality
