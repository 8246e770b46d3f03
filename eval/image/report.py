# SPDX-License-Identifier: Apache-2.0
"""The report of a run: plots as files, and one page to look at.

rd-psnr, rd-ms-ssim, rate-difference, bd-rate   .svg and .png
report.html   headline figures, plots, crops, tables, how it was measured
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from polycodec.eval.image import tables
from polycodec.eval.image.curves import Curve
from polycodec.eval.image.tables import number
from polycodec.eval.page import page, palette, plots
from polycodec.eval.page.crops import Crops, make_crops

if TYPE_CHECKING:
    import pathlib

    from polycodec.eval.image.datasets import Picture
    from polycodec.eval.image.result import Evaluation
    from polycodec.eval.image.subjects import Subject

_CAPTIONS = {
    "rd-psnr": "Mean over pictures of the RGB PSNR, over mean bits per pixel of the "
    "whole files. Up and to the left is better.",
    "rd-ms-ssim": "Mean MS-SSIM in dB over mean bits per pixel of the whole files.",
    "rate-difference": "Bits needed against each anchor at the same PSNR, over the "
    "whole common range. Below zero: fewer bits.",
    "bd-rate": "Mean rate difference at equal PSNR (BD-rate, Akima). "
    "To the left: fewer bits.",
}


def write_report(
    result: Evaluation,
    subjects: Sequence[Subject],
    pictures: Sequence[Picture],
    *,
    show: str | None = None,
) -> pathlib.Path:
    """Write plots and page into the run's folder; returns the page's path.

    ``show`` names the picture for the crops; None leaves it to the rule.
    """
    figures = draw(result)
    drawings = {}
    for name, figure in figures.items():
        figure.savefig(result.out / f"{name}.png", dpi=160, facecolor="white")
        figure.savefig(result.out / f"{name}.svg", facecolor="white")
        drawings[name] = plots.svg_for_page(figure, name, _CAPTIONS[name])
    crops = make_crops(result.rows, subjects, pictures, show=show)
    target = result.out / "report.html"
    part = target.with_name(target.name + ".part")
    part.write_text(_page(result, drawings, crops), encoding="utf-8")
    part.replace(target)
    return target


def draw(result: Evaluation) -> dict[str, Figure]:
    """All figures of a run by name; MS-SSIM only where it was measured."""
    every = [*result.curves, *result.published]
    looks = palette.looks(every)
    labels = {curve.name: curve.label for curve in every}
    figures = {"rd-psnr": plots.rate_distortion(every, looks, "psnr")}
    if any(value is not None for curve in result.curves for value in curve.ms_ssim_db):
        figures["rd-ms-ssim"] = plots.rate_distortion(every, looks, "ms_ssim_db")
    against = result.comparisons["psnr"][_lead(result).name]
    if any(found.parts for found in against.values()):
        figures["rate-difference"] = plots.rate_difference(
            against, labels, looks, "psnr"
        )
        figures["bd-rate"] = plots.bd_bars(against, labels, looks)
    return figures


def _lead(result: Evaluation) -> Curve:
    """The curve the report is about: our first codec, or what came first."""
    return next((c for c in result.curves if c.kind == "codec"), result.curves[0])


def _page(result: Evaluation, drawings: dict[str, str], crops: Crops) -> str:
    lead = _lead(result)
    place = result.dataset.capitalize() if result.dataset == "kodak" else result.dataset
    title = f"{lead.label} on {place}"
    body = [_header(result, lead, title)]
    body.append("<h2>Rate and distortion</h2>")
    for name in ("rd-psnr", "rd-ms-ssim"):
        if name in drawings:
            dashed = " Dashed: published figures." if result.published else ""
            body.append(page.plot(drawings[name], _CAPTIONS[name] + dashed))
    if "rate-difference" in drawings:
        body.append(f"<h2>{escape(lead.label)} against the others</h2>")
        for name in ("rate-difference", "bd-rate"):
            body.append(page.plot(drawings[name], _CAPTIONS[name]))
    body += _bd_section(result, lead)
    body += _crops_section(crops)
    body += _numbers_section(result)
    body += _method_section(result)
    return page.document(title, body)


def _header(result: Evaluation, lead: Curve, title: str) -> str:
    count = len(result.images)
    rates = f"{number(min(lead.bpp))} to {number(max(lead.bpp))} bits per pixel"
    sentence = (
        f"{count} picture{'s' if count != 1 else ''}, {len(lead.points)} settings from "
        f"{rates}. Every rate is the size of a real file, every figure was taken from "
        "the picture decoded from it."
    )
    items = []
    for base, found in result.comparisons["psnr"][lead.name].items():
        if found.overlap and result.curve(base).kind == "anchor":
            value = f"{number(found.rate_akima, 1, sign=True)} %"
            items.append((value, f"against {_label(result, base)}"))
    if items:
        sentence += " Bits needed for the same PSNR (BD-rate, Akima):"
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(sentence)}</p>'
        f"{page.cards(items) if items else ''}</header>"
    )


def _label(result: Evaluation, name: str) -> str:
    return result.curve(name).label


def _bd_section(result: Evaluation, lead: Curve) -> list[str]:
    """BD-rates, and the same difference at single qualities."""
    parts = [f"<h3>Rate of {escape(lead.label)} in % against each, by PSNR</h3>"]
    header, rows = tables.parts_table(result, lead.name, "psnr")
    parts.append(page.table(header, rows))
    if result.per_picture.get(lead.name):
        block = page.table(*tables.pictures_table(result, lead.name))
        summary = "<summary>BD-rate on each picture</summary>"
        parts.append(f"<details>{summary}{block}</details>")
    for metric, name in (("psnr", "RGB PSNR"), ("ms_ssim_db", "MS-SSIM in dB")):
        header, rows = tables.bd_table(result, metric)
        block = page.table(header, rows, text_columns=(0, 1), group=True)
        parts.append(f"<details><summary>BD-rate by {name}, every pair</summary>")
        parts.append(
            '<p class="note">Negative: the test codec needs fewer bits than the '
            "anchor. The common range is where both curves have measured points; "
            "nothing is extrapolated.</p>" + block + "</details>"
        )
    return parts


def _crops_section(crops: Crops) -> list[str]:
    x, y, width, height = crops.box
    sentence = (
        f"{crops.image}, window {width}×{height} at ({x}, {y}): the picture of median "
        "PSNR and its window with the most detail, unless the run named another. The "
        "classical codecs are set to come nearest to the first one's size. Press on a "
        "crop to see the original in its place."
    )
    shown = [
        (c.label, f"{number(c.bpp, 3)} bpp, {number(c.psnr)} dB", c.window)
        for c in crops.shown
    ]
    return [
        "<h2>At about the same size</h2>",
        f"<p>{escape(sentence)}</p>",
        page.crops(crops.original, shown),
    ]


def _numbers_section(result: Evaluation) -> list[str]:
    lead = _lead(result)
    header, rows = tables.points_table(result)
    parts = [
        "<h2>Every setting</h2>",
        "<p>Means over all pictures. Times are of this machine, one picture at a "
        "time; classical codecs are timed in memory, ours from file to file.</p>",
        page.table(header, [row for row in rows if row[0] == lead.label]),
        "<details><summary>All codecs, all settings</summary>",
        page.table(header, rows, group=True),
        "</details>",
    ]
    for codec, over in result.overheads.items():
        parts.append(f"<h3>Real bytes against the estimate: {escape(codec)}</h3>")
        parts.append(f"<p>{escape(tables.overhead_sentence(over))}</p>")
    return parts


def _method_section(result: Evaluation) -> list[str]:
    skipped = [
        f"<p>Left out: {escape(name)}, because {escape(reason)}.</p>"
        for name, reason in result.skipped.items()
    ]
    about = {"environment": result.environment, "codecs": result.versions}
    text = escape(json.dumps(about, indent=1, default=str))
    return [
        "<h2>How this was measured</h2>",
        "<p>PSNR: on 8-bit RGB, for each picture, then averaged. MS-SSIM: five scales, "
        "11-tap Gaussian window, on RGB; in dB of the mean. BD-rate: bjontegaard "
        "package, over the common PSNR range. Bits per pixel count every byte of a "
        "file, its header too.</p>",
        *skipped,
        f"<details><summary>Versions and settings</summary><pre>{text}</pre></details>",
        f'<p class="note">{escape(result.created)}</p>',
    ]
