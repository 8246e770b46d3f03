# SPDX-License-Identifier: Apache-2.0
"""Values as people write them: sizes, regions, qualities; and numbers for people."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from polycodec.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]i?)?b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Read 4096, 50kB, 1.5MB or 64KiB as bytes; UsageError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no size; expected for example 50kB, 1.5MB, 4096")
    unit = (match[2] or "").lower()
    size = int(float(match[1]) * (_UNITS | _BINARY)[unit])
    if size < 1:
        raise UsageError(f"the size {text} is below one byte; expected at least 1")
    return size


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Read X,Y,W,H in pixels; UsageError unless W and H are positive."""
    parts = text.split(",")
    if len(parts) == 4 and all(re.fullmatch(r"\s*\d+\s*", p) for p in parts):
        x, y, w, h = (int(p) for p in parts)
        if w > 0 and h > 0:
            return x, y, w, h
    raise UsageError(
        f"'{text}' is no region; expected X,Y,W,H in pixels, for example 0,0,256,256"
    )


def parse_seconds(text: str) -> tuple[float, float | None]:
    """Read A:B in seconds, either may be left out; UsageError unless A is before B."""
    number = r"\d+(?:\.\d*)?|\.\d+"
    match = re.fullmatch(rf"\s*({number})?\s*:\s*({number})?\s*", text)
    if match is not None:
        begin = float(match[1] or 0)
        end = None if match[2] is None else float(match[2])
        if end is None or begin < end:
            return begin, end
    raise UsageError(
        f"'{text}' is no part of a sound; expected A:B in seconds, for example 2.5:10"
    )


def check_quality(quality: float | None) -> None:
    """Refuse a quality outside 0 … 100."""
    if quality is not None and not 0 <= quality <= 100:
        raise UsageError(f"quality is {quality:g}; expected a number from 0 to 100")


def check_device(device: str) -> None:
    """Refuse a name that is no device, before torch is loaded."""
    if device not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise UsageError(f"'{device}' is no device; expected auto, cpu or cuda")


def check_exclusive(options: Mapping[str, Any]) -> None:
    """Refuse more than one of ``options`` (name -> value, None when not given)."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} exclude each other; each sets the rate; give one"
        )


def readable(size: int) -> str:
    """Write bytes for people: 812 B, 45.2 kB, 1.50 MB (powers of ten)."""
    if size < 1000:
        return f"{size} B"
    power = min(int(math.log10(size)) // 3, 3)
    value = size / 1000**power
    return f"{value:.{max(0, 2 - int(math.log10(value)))}f} {'kMG'[power - 1]}B"
