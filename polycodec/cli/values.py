# SPDX-License-Identifier: Apache-2.0
"""Values as people write them: sizes, regions, lists; and what they cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
        f"'{text}' is no part of speech; expected A:B in seconds, for example 2.5:10"
    )


def parse_frames(text: str) -> tuple[int, int | None]:
    """Read A:B, frames A to B - 1, either may be left out; UsageError unless A < B."""
    match = re.fullmatch(r"\s*(\d+)?\s*:\s*(\d+)?\s*", text)
    if match is not None:
        begin, end = int(match[1] or 0), None if match[2] is None else int(match[2])
        if end is None or begin < end:
            return begin, end
    raise UsageError(
        f"'{text}' are no frames; expected A:B, for example 100:125 for 100 to 124"
    )


def spread(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Turn `--codec a b` into `--codec a --codec b`, as the parser wants it."""
    result: list[str] = []
    current: str | None = None
    for arg in args:
        if arg.startswith("-"):
            current, first = (arg, True) if arg in options else (None, True)
            result.append(arg)
        elif current is None or first:
            result.append(arg)
            first = False
        else:
            result += [current, arg]
    return result


def parse_time(text: str) -> float:
    """Read 90, 90s, 5m or 1.5h as seconds; UsageError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", text)
    if match is None:
        raise UsageError(f"'{text}' is no time; expected for example 90s, 5m, 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def parse_words(text: str) -> list[str]:
    """Read A,B,C as a list, of nothing where there is none."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_numbers(text: str) -> list[float]:
    """Read 10,50,90 as numbers; UsageError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"'{text}' is no list of numbers; expected for example 10,50,90"
        ) from None


# How an option's value is written (its metavar) -> how it is read.
FORMS: dict[str, Callable[[str], Any]] = {
    "50kB": parse_size,
    "5m": parse_time,
    "X,Y,W,H": parse_region,
    "A:B": parse_seconds,
    "M:N": parse_frames,
    "A,B,...": parse_words,
    "F,F,...": parse_numbers,
}
