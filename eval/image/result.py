# SPDX-License-Identifier: Apache-2.0
"""What a run found out, and how it is stored: ``run.json`` and ``table.md``."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from polycodec.eval.bdrate import Comparison
from polycodec.eval.image.curves import Curve
from polycodec.eval.image.measure import Row


@dataclass(frozen=True)
class Overhead:
    """Real file bytes against the model's own estimate, over all pictures.

    ``percent`` is the mean excess. ``beyond`` is the largest number of bytes by
    which a picture exceeds its estimate by more than 0.6 % + 40 bytes, negative
    when all stay within; ``worst`` is that picture.
    """

    percent: float
    beyond: float
    worst: str
    pictures: int


@dataclass(frozen=True)
class Evaluation:
    """All that a run found out; ``run.json`` is this as JSON."""

    dataset: str
    images: list[str]
    created: str
    environment: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    skipped: dict[str, str]  # anchors that could not run, and why
    curves: list[Curve]
    published: list[Curve]
    # comparisons[metric][test][anchor]
    comparisons: dict[str, dict[str, dict[str, Comparison]]]
    # per_picture[test][anchor][image]: BD-rate in % by PSNR, for our codecs
    per_picture: dict[str, dict[str, dict[str, float]]]
    overheads: dict[str, Overhead]
    rows: list[Row]
    out: pathlib.Path

    def curve(self, name: str) -> Curve:
        """Find a measured or published curve by name."""
        return next(c for c in (*self.curves, *self.published) if c.name == name)


def overheads(rows: Sequence[Row]) -> dict[str, Overhead]:
    """Compare real bytes with estimates, for codecs that have estimates."""
    table = {}
    coded = [row for row in rows if row.estimated_bpp is not None]
    for codec in {row.codec: None for row in coded}:
        group = [row for row in coded if row.codec == codec]
        estimates = [r.estimated_bpp * r.width * r.height / 8 for r in group]
        pairs = list(zip(group, estimates, strict=True))
        excess = [row.bytes - 1.006 * estimate - 40 for row, estimate in pairs]
        at = max(range(len(group)), key=excess.__getitem__)
        total = sum(estimates)
        real = sum(row.bytes for row in group)
        table[codec] = Overhead(
            percent=100 * (real / total - 1) if total else math.nan,
            beyond=excess[at],
            worst=f"{group[at].image} at {group[at].setting:g}",
            pictures=len(group),
        )
    return table


def write(result: Evaluation) -> None:
    """Write ``run.json`` and ``table.md`` into the run's folder."""
    from polycodec.eval.image.tables import markdown

    result.out.mkdir(parents=True, exist_ok=True)
    content = asdict(replace(result, rows=[]))
    content["out"] = str(result.out)
    text = json.dumps(finite(content), indent=1) + "\n"
    replace_text(result.out / "run.json", text)
    replace_text(result.out / "table.md", markdown(result))


def replace_text(path: pathlib.Path, text: str) -> None:
    """Write a text file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def finite(value: Any) -> Any:
    """JSON has no NaN: figures that do not exist become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
