# SPDX-License-Identifier: Apache-2.0
"""Colours and marks of curves, in light and dark, the same in every drawing.

Plots are drawn with the light colours. Inside the page each of them becomes a
CSS variable, so that one drawing serves both appearances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polycodec.eval.curves import Curve

INK, SOFT, RULE, PUBLISHED = "#1b1f24", "#5b6570", "#dfe3e7", "#8b949e"
# Ours first and strongest; then hues that stay apart for most colour-blind eyes.
CODECS = ("#1552d0", "#008a7e", "#6a3fc4")
ANCHORS = ["#c8501e", "#2d8a4e", "#9b2f86", "#a87b00", "#4b7388", "#8d5a3b", "#6f6f2a"]
# Which of these belongs to whom; the lesser used share the later ones.
ANCHOR_NAMES = ("jpeg", "webp", "avif", "jxl", "jpeg2000", "jpeg-420", "avif-psnr")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((5, 2.5), (2, 2), (7, 2, 1.5, 2), (1, 1.5), (9, 3))

# variable: (light, dark)
COLOURS = {
    "--ink": (INK, "#e8eaed"),
    "--soft": (SOFT, "#9aa4af"),
    "--rule": (RULE, "#343a41"),
    "--published": (PUBLISHED, "#77818c"),
}
_DARK = (
    "#7aa5ff #45cfc0 #b59aff #f0905f #6fcf94 #e288cf #e0b84a #8fb8cc #c99a7c #bcbc6c"
)
COLOURS |= {
    f"--curve-{at}": pair
    for at, pair in enumerate(zip((*CODECS, *ANCHORS), _DARK.split(), strict=True))
}


@dataclass(frozen=True)
class Look:
    """How one curve is drawn."""

    colour: str  # the light one, as #rrggbb
    width: float
    dashes: tuple[float, ...]  # empty: a solid line
    mark: str


def looks(curves: Iterable[Curve]) -> dict[str, Look]:
    """Give every curve its look; an anchor has the same one in every run."""
    chosen: dict[str, Look] = {}
    counts = {"codec": 0, "anchor": len(ANCHOR_NAMES), "published": 0}
    for curve in curves:
        if curve.name in ANCHOR_NAMES:
            at = ANCHOR_NAMES.index(curve.name)
        else:
            at = counts[curve.kind]
            counts[curve.kind] += 1
        mark = MARKS[at % len(MARKS)]
        chosen[curve.name] = {
            "codec": Look(CODECS[at % len(CODECS)], 2.4, (), mark),
            "anchor": Look(ANCHORS[at % len(ANCHORS)], 1.5, (), mark),
            "published": Look(PUBLISHED, 1.1, DASHES[at % len(DASHES)], ""),
        }[curve.kind]
    return chosen


def variables(dark: bool) -> str:
    """All colours as CSS declarations."""
    return "".join(f"{name}:{pair[dark]};" for name, pair in COLOURS.items())


def to_variables(svg: str) -> str:
    """Turn the light colours of a drawing into CSS variables."""
    for name, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var({name})")
    return svg
