# SPDX-License-Identifier: Apache-2.0
"""The run as text: means for each setting, BD-rates, differences part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polycodec.eval.image.pictures import wins

if TYPE_CHECKING:
    from polycodec.eval.bdrate import Comparison, Part
    from polycodec.eval.image.result import Evaluation, Overhead


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Format a figure; what does not exist is a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def points_table(result: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Mean values of every codec at every setting: header and rows."""
    header = ["codec", "setting", "bpp", "estimate", "PSNR dB", "MS-SSIM", "MS-SSIM dB"]
    header += ["encode s", "decode s"]
    rows = []
    for curve in result.curves:
        for point, ms_ssim_db in zip(curve.points, curve.ms_ssim_db, strict=True):
            rows.append(
                [
                    curve.label,
                    f"{point.setting:g}",
                    number(point.bpp, 4),
                    number(point.estimated_bpp, 4),
                    number(point.psnr),
                    number(point.ms_ssim, 4),
                    number(ms_ssim_db),
                    number(point.encode_seconds, 3),
                    number(point.decode_seconds, 3),
                ]
            )
    return header, rows


def bd_table(result: Evaluation, metric: str) -> tuple[list[str], list[list[str]]]:
    """BD-rates by Akima and PCHIP with their overlap, one comparison a row."""
    header = ["test", "anchor", "BD-rate % (Akima)", "BD-rate % (PCHIP)", "BD dB"]
    header += ["common range dB", "of anchor", "of test", "better everywhere"]
    rows = []
    for test, against in result.comparisons[metric].items():
        for base, found in against.items():
            names = [result.curve(test).label, result.curve(base).label]
            if found.overlap is None:
                rows.append([*names, "–", "–", "–", found.reason or "", "", "", ""])
                continue
            low, high = found.overlap
            rows.append(
                [
                    *names,
                    number(found.rate_akima, sign=True),
                    number(found.rate_pchip, sign=True),
                    number(found.quality_akima, sign=True),
                    f"{low:.2f}–{high:.2f}",
                    f"{found.share_anchor:.0%}",
                    f"{found.share_test:.0%}",
                    "yes" if found.below_everywhere else "no",
                ]
            )
    return header, rows


def parts_table(
    result: Evaluation, test: str, metric: str
) -> tuple[list[str], list[list[str]]]:
    """Rate differences of one codec in %, at whole dBs and at both ends."""
    compared = {
        base: found.parts
        for base, found in result.comparisons[metric][test].items()
        if found.parts
    }
    grid = _grid([p.quality for parts in compared.values() for p in parts[1:-1]])
    rows = []
    for base, parts in compared.items():
        known = {p.quality: number(p.rate_percent, 1, sign=True) for p in parts[1:-1]}
        cells = [known.get(quality, "") for quality in grid]
        rows.append([result.curve(base).label, _end(parts[0]), *cells, _end(parts[-1])])
    header = ["against", "at the lowest", *[f"{q:.0f} dB" for q in grid]]
    return [*header, "at the highest"], rows


def pictures_table(result: Evaluation, test: str) -> tuple[list[str], list[list[str]]]:
    """BD-rates of one codec on every picture; the last row counts its wins."""
    against = result.per_picture.get(test, {})
    header = ["picture", *[result.curve(base).label for base in against]]
    rows = [
        [image, *[number(rates[image], 1, sign=True) for rates in against.values()]]
        for image in result.images
    ]
    rows.append(["fewer bits on", *[wins(rates) for rates in against.values()]])
    return header, rows


def _grid(qualities: Sequence[float], longest: int = 8) -> list[float]:
    """Whole dBs for columns, thinned so that a table stays readable."""
    if not qualities:
        return []
    low, high = int(min(qualities)), int(max(qualities))
    step = -(-(high - low + 1) // longest)
    return [float(q) for q in range(low, high + 1) if (q - low) % step == 0]


def _end(part: Part) -> str:
    percent = number(part.rate_percent, 1, sign=True)
    return f"{percent} @ {part.quality:.2f} dB"


def summary(result: Evaluation) -> str:
    """The short answer for a terminal: aligned means, then BD-rates in words."""
    count = len(result.images)
    lines = [f"{result.dataset}: {count} picture{'s' if count != 1 else ''}"]
    header, rows = points_table(result)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first = row[0].ljust(widths[0])
        rest = [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]))
    codecs = [c.name for c in result.curves if c.kind == "codec"]
    for test in codecs or [c.name for c in result.curves]:
        for base, found in result.comparisons["psnr"][test].items():
            names = f"{result.curve(test).label} against {result.curve(base).label}"
            lines.append(f"{names}: {_verdict(found)}")
    lines += [f"{c}: {overhead_sentence(o)}" for c, o in result.overheads.items()]
    lines += [f"{name} left out: {why}" for name, why in result.skipped.items()]
    return "\n".join(lines)


def _verdict(found: Comparison) -> str:
    if found.overlap is None:
        return f"no BD-rate, because {found.reason}"
    low, high = found.overlap
    parts = [part.rate_percent for part in found.parts]
    return (
        f"{number(found.rate_akima, 1, sign=True)} % bits at equal PSNR (Akima; PCHIP "
        f"{number(found.rate_pchip, 1, sign=True)} %) over {low:.2f}–{high:.2f} dB, "
        f"{number(min(parts), 1, sign=True)} to {number(max(parts), 1, sign=True)} % "
        "by part"
    )


def markdown(result: Evaluation) -> str:
    """All tables of a run as Markdown."""
    lines = [f"# {result.dataset}: {len(result.images)} pictures, {result.created}", ""]
    lines += ["## Means for each setting", ""]
    lines += markdown_table(*points_table(result))
    for metric, title in (("psnr", "RGB PSNR"), ("ms_ssim_db", "MS-SSIM in dB")):
        lines += ["", f"## BD-rate by {title} (negative: fewer bits)", ""]
        lines += markdown_table(*bd_table(result, metric))
    tests = [c.name for c in result.curves if c.kind == "codec"]
    for test in tests or [c.name for c in result.curves]:
        lines += ["", f"## Part by part: {result.curve(test).label}, RGB PSNR", ""]
        lines += markdown_table(*parts_table(result, test, "psnr"))
    for test in result.per_picture:
        lines += ["", f"## BD-rate % on each picture: {result.curve(test).label}", ""]
        lines += markdown_table(*pictures_table(result, test))
    for codec, over in result.overheads.items():
        lines += ["", f"## Real bytes against the estimate: {codec}", ""]
        lines += [overhead_sentence(over)]
    for name, reason in result.skipped.items():
        lines += ["", f"Skipped: {name}: {reason}."]
    return "\n".join(lines) + "\n"


def overhead_sentence(over: Overhead) -> str:
    """Say how far real files exceed their estimates."""
    verdict = "within" if over.beyond <= 0 else "beyond"
    return (
        f"Files are {number(over.percent, 2, sign=True)} % against the estimate over "
        f"{over.pictures} files; the worst ({over.worst}) is "
        f"{number(abs(over.beyond), 0)} bytes {verdict} estimate + 0.6 % + 40 bytes."
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
