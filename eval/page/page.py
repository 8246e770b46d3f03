# SPDX-License-Identifier: Apache-2.0
"""Pieces of the page: tables, figures, the style. No other file is needed.

The page holds its drawings as SVG, its images as PNG or WebP in base64 and its
style in one block: it can be mailed, archived, and opened without a network. It
follows the reader's light or dark appearance.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from polycodec.eval.page import palette
from polycodec.eval.text import Section, Table

FILM = 8 << 20  # bytes of what plays, at most
_STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfa;--card:#ffffff;@LIGHT@
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--serif:Charter,"Bitstream Charter","Iowan Old Style","Palatino Linotype",Georgia,serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1b1f23;@DARK@}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 var(--sans);font-variant-numeric:tabular-nums lining-nums}
main{max-width:66rem;margin:0 auto;padding:3.5rem 1.5rem 5rem}
header{border-bottom:1px solid var(--rule);padding-bottom:1.6rem;margin-bottom:2rem}
h1{font:600 2.35rem/1.15 var(--serif);letter-spacing:-.012em;margin:0 0 .5rem}
h2{font:600 1.45rem/1.25 var(--serif);letter-spacing:-.006em;margin:3.4rem 0 .5rem}
h3{font:600 1rem/1.4 var(--sans);margin:1.8rem 0 .4rem}
p{max-width:42rem;margin:.5rem 0;text-wrap:pretty}
.lead{color:var(--soft);font-size:1.06rem}
.note{color:var(--soft);font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));
gap:.9rem;margin:1.4rem 0 0;padding:0;list-style:none}
.cards li{background:var(--card);border:1px solid var(--rule);border-radius:.55rem;
padding:.85rem 1rem .8rem}
.cards b{display:block;font:600 1.75rem/1.15 var(--serif);letter-spacing:-.01em}
.cards span{color:var(--soft);font-size:.86rem}
figure{margin:1.1rem 0 0}
figure.plot{background:var(--card);border:1px solid var(--rule);border-radius:.55rem;
padding:1rem 1rem .6rem;overflow-x:auto}
figure.plot svg{display:block;width:100%;min-width:36rem;height:auto}
figcaption{color:var(--soft);font-size:.88rem;line-height:1.4;margin-top:.45rem}
.crops{display:grid;grid-template-columns:repeat(auto-fill,minmax(18rem,1fr));
gap:1.2rem 1rem;margin-top:1.1rem}
.crops figure{margin:0}
.crop{position:relative;display:block;border-radius:.35rem;overflow:hidden;
background:var(--rule);cursor:pointer;outline-offset:3px}
.crop img{display:block;width:100%;height:auto}
.crop::after{content:"";position:absolute;inset:0;opacity:0;
background:var(--original) 0 0/100% 100%}
.crop:active::after{opacity:1}
.crops strong{color:var(--ink);font-weight:600}
.players{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));
gap:.9rem 1rem;margin:.8rem 0 1.6rem}
.players figure{margin:0;background:var(--card);border:1px solid var(--rule);
border-radius:.55rem;padding:.7rem .8rem .6rem}
.players figcaption{margin:0 0 .45rem}
.players strong{color:var(--ink);font-weight:600}
audio{display:block;width:100%;height:2.2rem}
.film{margin:.8rem 0}
.scroll{overflow-x:auto;margin:.9rem 0}
table{border-collapse:collapse;font-size:.89rem;line-height:1.35;min-width:100%}
th{font-weight:600;color:var(--soft);text-align:right;vertical-align:bottom;
padding:.35rem .7rem;border-bottom:1px solid var(--rule)}
td{text-align:right;padding:.3rem .7rem;border-bottom:1px solid var(--rule);
white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
th.text,td.text{text-align:left}
tr.first td{border-top:1px solid var(--soft)}
details{margin:.9rem 0}
summary{cursor:pointer;font-weight:600}
td.text+td.text{white-space:normal;overflow-wrap:anywhere}
@media print{body{background:#fff}figure,tr{break-inside:avoid}}
"""


def document(title: str, body: Sequence[str]) -> str:
    """Put the parts into one HTML page that needs nothing else."""
    style = _STYLE.replace("@LIGHT@", palette.variables(dark=False))
    style = style.replace("@DARK@", palette.variables(dark=True))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def section(part: Section) -> str:
    """A table under its title, open or folded."""
    note = f'<p class="note">{escape(part.note)}</p>' if part.note else ""
    inside = note + table(part.table)
    if part.folded:
        return details(part.title, inside)
    return f"<h3>{escape(part.title)}</h3>{inside}"


def table(cells: Table) -> str:
    """A table; where names in column 0 come in groups, rules stand between them."""

    def line(tag: str, row: Sequence[str]) -> str:
        kinds = [' class="text"' if k < cells.left else "" for k in range(len(row))]
        pairs = zip(kinds, row, strict=True)
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in pairs)

    names = [row[0] for row in cells.rows]
    grouped = len(set(names)) < len(names)
    lines = [f"<thead><tr>{line('th', cells.header)}</tr></thead><tbody>"]
    for at, row in enumerate(cells.rows):
        first = grouped and at and names[at] != names[at - 1]
        kind = ' class="first"' if first else ""
        lines.append(f"<tr{kind}>{line('td', row)}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</tbody></table></div>'


def details(summary: str, inside: str) -> str:
    """A part that opens when its summary is pressed."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def cards(items: Sequence[tuple[str, str]]) -> str:
    """Headline figures, if any: a large value above a small sentence."""
    if not items:
        return ""
    inside = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(text)}</span></li>"
        for value, text in items
    )
    return f'<ul class="cards">{inside}</ul>'


def plot(svg: str, caption: str) -> str:
    """A drawing with its caption."""
    return (
        f'<figure class="plot">{svg}<figcaption>{escape(caption)}</figcaption></figure>'
    )


def png_address(image: np.ndarray) -> str:
    """Write a (H, W, 3) uint8 image as a data address, losslessly."""
    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(memory.getvalue()).decode()


def film(frames: Sequence[np.ndarray], names: Sequence[str], seconds: float) -> str:
    """(H, W, 3) uint8 frames that play over and over; they show ``names`` abreast.

    One picture for all: they cannot come out of step. WebP of quality 90, of half as
    many frames until it is no larger than `FILM` bytes.
    """
    data = b""
    for _ in range(8):
        first, *rest = map(Image.fromarray, frames)
        memory = io.BytesIO()
        given: dict[str, Any] = {"save_all": True, "append_images": rest, "loop": 0}
        first.save(memory, "WEBP", duration=round(1000 * seconds), quality=90, **given)
        data = memory.getvalue()
        if len(data) <= FILM or len(frames) == 1:
            break
        frames = frames[: len(frames) // 2]
    address = "data:image/webp;base64," + base64.b64encode(data).decode()
    said = escape(", ".join(names))
    return (
        f'<figure class="film"><div class="scroll"><img alt="{said}" src="{address}">'
        f"</div><figcaption>From the left: {said}.</figcaption></figure>"
    )


def crops(original: np.ndarray, shown: Sequence[tuple[str, str, np.ndarray]]) -> str:
    """Crops side by side: (name, figures, image); pressing shows the original."""
    lines = [f'<div class="crops" style="--original:url({png_address(original)})">']
    height, width = original.shape[:2]
    for name, figures, image in [("Original", "", original), *shown]:
        lines.append(
            f'<figure><span class="crop" tabindex="0"><img width="{width}" '
            f'height="{height}" alt="{escape(name)}" src="{png_address(image)}">'
            f"</span><figcaption><strong>{escape(name)}</strong> {escape(figures)}"
            "</figcaption></figure>"
        )
    lines.append("</div>")
    return "".join(lines)


def players(sounds: Sequence[tuple[str, str, str]]) -> str:
    """Players side by side: (name, figures, data address of a sound)."""
    lines = ['<div class="players">']
    for name, figures, address in sounds:
        lines.append(
            f"<figure><figcaption><strong>{escape(name)}</strong> {escape(figures)}"
            f'</figcaption><audio controls preload="none" title="{escape(name)}" '
            f'src="{address}"></audio></figure>'
        )
    lines.append("</div>")
    return "".join(lines)
