# SPDX-License-Identifier: Apache-2.0
"""Colours and marks of curves, in light and dark, the same in every drawing.

Plots are drawn with the light colours. Inside the page each of them becomes a
CSS variable, so that one drawing serves both appearances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polycodec.eval.curves import Curve

# role: (CSS variable, light, dark)
INK = ("--ink", "#1b1f24", "#e8eaed")
SOFT = ("--soft", "#5b6570", "#9aa4af")
RULE = ("--rule", "#dfe3e7", "#343a41")
# Ours first and strongest; then hues that stay apart for most colour-blind eyes.
CODECS = (
    ("--codec-1", "#1552d0", "#7aa5ff"),
    ("--codec-2", "#008a7e", "#45cfc0"),
    ("--codec-3", "#6a3fc4", "#b59aff"),
)
ANCHORS = (
    ("--anchor-1", "#c8501e", "#f0905f"),
    ("--anchor-2", "#2d8a4e", "#6fcf94"),
    ("--anchor-3", "#9b2f86", "#e288cf"),
    ("--anchor-4", "#a87b00", "#e0b84a"),
    ("--anchor-5", "#4b7388", "#8fb8cc"),
    ("--anchor-6", "#8d5a3b", "#c99a7c"),
    ("--anchor-7", "#6f6f2a", "#bcbc6c"),
)
# Which of these belongs to whom; the lesser used share the later ones.
ANCHOR_NAMES = ("jpeg", "webp", "avif", "jxl", "jpeg2000", "jpeg-420", "avif-psnr")
PUBLISHED = ("--published", "#8b949e", "#77818c")
MARKS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Look:
    """How one curve is drawn."""

    colour: str  # the light one, as #rrggbb
    variable: str
    width: float
    dashes: tuple[float, ...]  # empty: a solid line
    mark: str


def looks(curves: Iterable[Curve]) -> dict[str, Look]:
    """Give every curve its look; an anchor has the same one in every run."""
    chosen: dict[str, Look] = {}
    counts = {"codec": 0, "anchor": len(ANCHOR_NAMES), "published": 0}
    for curve in curves:
        if curve.name in ANCHOR_NAMES:
            index = ANCHOR_NAMES.index(curve.name)
        else:
            index = counts[curve.kind]
            counts[curve.kind] += 1
        if curve.kind == "published":
            dashes = ((5, 2.5), (2, 2), (7, 2, 1.5, 2), (1, 1.5), (9, 3))[index % 5]
            chosen[curve.name] = Look(PUBLISHED[1], PUBLISHED[0], 1.1, dashes, "")
            continue
        row = CODECS if curve.kind == "codec" else ANCHORS
        variable, light, _ = row[index % len(row)]
        width = 2.4 if curve.kind == "codec" else 1.5
        chosen[curve.name] = Look(light, variable, width, (), MARKS[index % len(MARKS)])
    return chosen


def variables(dark: bool) -> str:
    """All colours as CSS declarations."""
    every = (INK, SOFT, RULE, *CODECS, *ANCHORS, PUBLISHED)
    return "".join(f"{name}:{(night if dark else day)};" for name, day, night in every)


def to_variables(svg: str) -> str:
    """Turn the light colours of a drawing into CSS variables."""
    for name, light, _ in (INK, SOFT, RULE, *CODECS, *ANCHORS, PUBLISHED):
        svg = svg.replace(light, f"var({name})")
    return svg
