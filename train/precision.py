# SPDX-License-Identifier: Apache-2.0
"""Which precision trains faster on this machine: a few steps of each, by the clock.

Processors differ. Where they multiply bfloat16 in hardware (AMX, AVX-512 BF16, tensor
cores) mixed precision is faster, elsewhere it costs conversions and gains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, get_args

Precision = Literal["bf16-mixed", "32-true"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ROUNDS = 3


def fewest_seconds(step: Callable[[Precision], object]) -> dict[Precision, float]:
    """Return the seconds of the fastest of some steps, of each precision.

    They take turns, so that what else the machine does slows all alike, and the first
    of each, which sets up or compiles, is not counted.
    """
    for precision in PRECISIONS:
        step(precision)
    seconds: dict[Precision, list[float]] = {p: [] for p in PRECISIONS}
    for _ in range(ROUNDS):
        for precision in PRECISIONS:
            started = time.perf_counter()
            step(precision)
            seconds[precision].append(time.perf_counter() - started)
    return {precision: min(spent) for precision, spent in seconds.items()}


def precision_in(config: Any) -> Precision | None:
    """Return the precision of a checkpoint's config, None where none was chosen yet."""
    try:
        found = config["run"]["precision"]
    except (TypeError, KeyError):
        return None
    return next((p for p in PRECISIONS if p == found), None)
