# SPDX-License-Identifier: Apache-2.0
"""BD-rate picture by picture: whether the mean hides pictures that lose.

for each picture: curve of the test, curve of the anchor ──► BD-rate (Akima)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from polycodec.eval import bdrate
from polycodec.eval.image import curves
from polycodec.eval.image.measure import Row


def per_picture(
    rows: Sequence[Row], images: Sequence[str], test: str, anchor: str
) -> dict[str, float]:
    """BD-rate in % by RGB PSNR for each picture; NaN where it does not exist.

    ``test`` and ``anchor`` are names of measured codecs.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.image, row.codec), []).append(row)
    found = {}
    for image in images:
        pair = [
            curves.measured(name, name, "codec", groups[image, name]).against("psnr")
            for name in (anchor, test)
        ]
        found[image] = bdrate.compare(*pair[0], *pair[1]).rate_akima
    return found


def wins(rates: dict[str, float]) -> str:
    """Say on how many pictures the test needs fewer bits."""
    known = [rate for rate in rates.values() if math.isfinite(rate)]
    return f"{sum(rate < 0 for rate in known)} of {len(known)}"
