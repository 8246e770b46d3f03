# SPDX-License-Identifier: Apache-2.0
"""The rate that was asked for.

limit_of(options)            Limit("target_bpp", 0.5), or None: a quality is asked
    .bytes(amounts)          so many bytes at most
quality_asked(options)       62.5
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polycodec.codecs.files.options import CodingOptions, EncodeOptions, spelt

DEFAULT_QUALITY = 50.0


@dataclass(frozen=True)
class Limit:
    """The option that limits a file's size, and its value."""

    option: str
    value: float

    def bytes(self, amounts: Mapping[str, float]) -> int:
        """Bytes at most; ``amounts``: bits for one of each option's unit."""
        return int(self.value * {"target_size": 8, **amounts}[self.option] / 8)

    def __str__(self) -> str:
        """As on the command line."""
        return f"--{spelt(self.option)} {self.value:.10g}"


def limit_of(options: EncodeOptions) -> Limit | None:
    """The limit that the options set, None when they ask for a quality."""
    given = (Limit(n, v) for n, v in vars(options).items() if n.startswith("target_"))
    return next((limit for limit in given if limit.value is not None), None)


def quality_asked(options: CodingOptions) -> float:
    """The quality that the options ask for, as a header can hold it."""
    quality = DEFAULT_QUALITY if options.quality is None else options.quality
    return round(100 * quality) / 100
