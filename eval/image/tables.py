# SPDX-License-Identifier: Apache-2.0
"""A run on images as text: means, BD-rates, differences part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polycodec.eval import text
from polycodec.eval.text import Table, number

if TYPE_CHECKING:
    from polycodec.eval.bdrate import Comparison, Part
    from polycodec.eval.image.result import ImageEvaluation, Overhead

METRICS = (("psnr", "RGB PSNR"), ("ms_ssim_db", "MS-SSIM in dB"))


def points(result: ImageEvaluation) -> Table:
    """Return mean values of every codec at every setting."""
    header = ["codec", "setting", "bpp", "estimate", "PSNR dB", "MS-SSIM", "MS-SSIM dB"]
    rows = [
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
        for curve in result.curves
        for point, ms_ssim_db in zip(curve.points, curve.ms_ssim_db, strict=True)
    ]
    return Table([*header, "encode s", "decode s"], rows)


def bd(result: ImageEvaluation, metric: str) -> Table:
    """Return BD-rates by Akima and PCHIP with their overlap, one comparison a row."""
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
    return Table(header, rows)


def parts(result: ImageEvaluation, test: str, metric: str) -> Table:
    """Return rate differences of one codec in %, at whole dBs and at both ends."""
    compared = {
        base: found.parts
        for base, found in result.comparisons[metric][test].items()
        if found.parts
    }
    grid = _grid([p.quality for parts in compared.values() for p in parts[1:-1]])
    rows = []
    for base, pieces in compared.items():
        known = {p.quality: number(p.rate_percent, 1, sign=True) for p in pieces[1:-1]}
        cells = [known.get(quality, "") for quality in grid]
        ends = _end(pieces[0]), _end(pieces[-1])
        rows.append([result.curve(base).label, ends[0], *cells, ends[1]])
    columns = [f"{quality:.0f} dB" for quality in grid]
    return Table(["against", "at the lowest", *columns, "at the highest"], rows)


def each_image(result: ImageEvaluation, test: str) -> Table:
    """Return BD-rates of one codec on every image; the last row counts its wins."""
    against = result.per_picture.get(test, {})
    header = ["image", *[result.curve(base).label for base in against]]
    rows = [
        [image, *[number(rates[image], 1, sign=True) for rates in against.values()]]
        for image in result.images
    ]
    wins = []
    for rates in against.values():
        known = [rate for rate in rates.values() if math.isfinite(rate)]
        wins.append(f"{sum(rate < 0 for rate in known)} of {len(known)}")
    return Table(header, [*rows, ["fewer bits on", *wins]])


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


def _tests(result: ImageEvaluation) -> list[str]:
    """Our codecs, or whatever there is."""
    codecs = [curve.name for curve in result.curves if curve.kind == "codec"]
    return codecs or [curve.name for curve in result.curves]


def facts(result: ImageEvaluation) -> list[str]:
    """Return BD-rates in words, overheads, and what was left out."""
    lines = []
    for test in _tests(result):
        for base, found in result.comparisons["psnr"][test].items():
            names = f"{result.curve(test).label} against {result.curve(base).label}"
            lines.append(f"{names}: {_verdict(found)}")
    lines += [f"{c}: {overhead_sentence(o)}" for c, o in result.overheads.items()]
    return lines + [f"{name} left out: {why}" for name, why in result.skipped.items()]


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


def sections(result: ImageEvaluation) -> list[str]:
    """Return all tables of a run as Markdown."""
    lines = ["## Means for each setting", "", *text.markdown(points(result))]
    for metric, title in METRICS:
        lines += ["", f"## BD-rate by {title} (negative: fewer bits)", ""]
        lines += text.markdown(bd(result, metric))
    for test in _tests(result):
        lines += ["", f"## Part by part: {result.curve(test).label}, RGB PSNR", ""]
        lines += text.markdown(parts(result, test, "psnr"))
    for test in result.per_picture:
        lines += ["", f"## BD-rate % on each image: {result.curve(test).label}", ""]
        lines += text.markdown(each_image(result, test))
    for codec, over in result.overheads.items():
        lines += ["", f"## Real bytes against the estimate: {codec}", ""]
        lines += [overhead_sentence(over)]
    for name, reason in result.skipped.items():
        lines += ["", f"Skipped: {name}: {reason}."]
    return lines


def overhead_sentence(over: Overhead) -> str:
    """Say how far real files exceed their estimates."""
    verdict = "within" if over.beyond <= 0 else "beyond"
    return (
        f"Files are {number(over.percent, 2, sign=True)} % against the estimate over "
        f"{over.pictures} files; the worst ({over.worst}) is "
        f"{number(abs(over.beyond), 0)} bytes {verdict} estimate + 0.6 % + 40 bytes."
    )
