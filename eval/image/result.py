# SPDX-License-Identifier: Apache-2.0
"""What a run on images found out: BD-rates, real bytes against estimates, crops.

comparisons   every curve with every other: BD-rate over the common range
per_image     the same image by image: whether the mean hides images that lose
overheads     how far real files exceed the model's own estimate
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from polycodec.codecs.measures.image import PSNR_EXACT
from polycodec.eval import bdrate, text
from polycodec.eval.bdrate import Comparison, Part
from polycodec.eval.curves import Curve
from polycodec.eval.measure import Row
from polycodec.eval.result import Evaluation
from polycodec.eval.text import Section, Table, number

if TYPE_CHECKING:
    from polycodec.eval.page.palette import Look
    from polycodec.eval.report import Drawing

METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM in dB"}
NOTE = (
    "Negative: the test codec needs fewer bits than the anchor. The common range is "
    "where both curves have measured points; nothing is extrapolated."
)
DIFFERENCE = (
    "Bits needed against each anchor at the same PSNR, over the whole common range. "
    "Below zero: fewer bits."
)


@dataclass(frozen=True)
class Overhead:
    """Real file bytes against the model's own estimate, over all codings.

    ``percent`` is the mean excess; ``images`` counts every setting. ``beyond`` is the
    largest number of bytes by which an image exceeds its estimate by more than 0.6 % +
    40 bytes, negative when all stay within; ``worst`` is that image.
    """

    percent: float
    beyond: float
    worst: str
    images: int

    def __str__(self) -> str:
        verdict = "within" if self.beyond <= 0 else "beyond"
        return (
            f"files are {number(self.percent, 2, sign=True)} % against the estimate "
            f"over {self.images} codings; the worst ({self.worst}) is "
            f"{number(abs(self.beyond), 0)} bytes {verdict} estimate + 0.6 % + 40 bytes"
        )


@dataclass(frozen=True, kw_only=True)
class ImageEvaluation(Evaluation):
    """All that a run on images found out; ``metrics``: those of BD-rates."""

    metrics: ClassVar[dict[str, str]] = METRICS

    @property
    def _metrics(self) -> dict[str, str]:
        """Those of `metrics` that were taken."""
        taken = {measure.name for measure in self.run.measures}
        return {name: words for name, words in self.metrics.items() if name in taken}

    @cached_property
    def comparisons(self) -> dict[str, dict[str, dict[str, Comparison]]]:
        """Every measured curve against every other: [metric][test][anchor]."""
        reference = self.run.options.reference
        every = (*self.curves, *self.published)
        bases = [c for c in every if reference in (None, c.name)]
        return {
            metric: {
                test.name: {
                    base.name: bdrate.compare(
                        *base.values(metric), *test.values(metric)
                    )
                    for base in bases
                    if base.name != test.name
                }
                for test in self.curves
            }
            for metric in self._metrics
        }

    def _by_psnr(self, test: str) -> dict[str, Comparison]:
        """One codec against every other; nothing where PSNR was not taken."""
        return self.comparisons.get("psnr", {}).get(test, {})

    @cached_property
    def per_image(self) -> dict[str, dict[str, dict[str, float]]]:
        """BD-rate in % by PSNR (Akima) of our codecs: [test][anchor][image].

        NaN where it does not exist.
        """
        groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for row in self.rows:
            psnr = row.scores.get("psnr")
            if psnr is not None:
                groups.setdefault((row.file, row.codec), []).append((row.rate, psnr))

        def rate(image: str, test: str, anchor: str) -> float:
            pair = (np.transpose(groups[image, name]) for name in (anchor, test))
            return bdrate.compare(*(row for curve in pair for row in curve)).rate_akima

        bases = [curve.name for curve in self.curves] if groups else []
        return {
            test.name: {
                base: {image: rate(image, test.name, base) for image in self.files}
                for base in bases
                if base != test.name
            }
            for test in self.curves
            if test.kind == "codec"
        }

    @cached_property
    def overheads(self) -> dict[str, Overhead]:
        """Real bytes beside estimates, of codecs that have estimates."""
        return overheads(self.rows)

    @property
    def _tests(self) -> list[Curve]:
        """Our codecs, or whatever there is."""
        own = [curve for curve in self.curves if curve.kind == "codec"]
        return own or list(self.curves)

    def findings(self) -> dict[str, Any]:
        """Return comparisons, those of each image, and overheads."""
        compared = {
            metric: {
                test: {base: asdict(found) for base, found in against.items()}
                for test, against in tests.items()
            }
            for metric, tests in self.comparisons.items()
        }
        over = {codec: asdict(found) for codec, found in self.overheads.items()}
        return {
            "comparisons": compared,
            "per_image": self.per_image,
            "overheads": over,
        }

    def verdicts(self) -> list[str]:
        """Return BD-rates in words, and overheads."""
        lines = []
        for test in self._tests:
            for base, found in self._by_psnr(test.name).items():
                names = f"{test.label} against {self.curve(base).label}"
                lines.append(f"{names}: {_verdict(found)}")
        lines += [f"{codec}: {over}." for codec, over in self.overheads.items()]
        exact: dict[str, list[str]] = {}
        for row in self.rows:
            if row.scores.get("psnr") == PSNR_EXACT:
                exact.setdefault(row.file, []).append(row.codec)
        lines += [
            f"{file} came back exactly {text.plural(len(of), 'time')} "
            f"({', '.join(dict.fromkeys(of))}): its PSNR, which is infinite, counts as "
            f"{PSNR_EXACT:g} dB in means and BD-rates, which say little then."
            for file, of in exact.items()
        ]
        return lines

    def cards(self) -> list[tuple[str, str]]:
        """Return BD-rates by PSNR against the anchors."""
        return [
            (
                f"{number(found.rate_akima, 1, sign=True)} %",
                f"bits against {self.curve(base).label} at equal PSNR (BD-rate)",
            )
            for base, found in self._by_psnr(self.lead.name).items()
            if found.overlap and self.curve(base).kind == "anchor"
        ]

    def compared(self) -> list[Section]:
        """Return BD-rates of every pair, part by part, and on each image."""
        title = "BD-rate by {}, every pair"
        parts = [
            Section(title.format(words), self.bd(metric), NOTE)
            for metric, words in self._metrics.items()
        ]
        for test in self._tests if "psnr" in self._metrics else ():
            title = f"Rate of {test.label} in % against each, by PSNR"
            parts.append(Section(title, self.parts(test.name, "psnr"), folded=False))
        for test_name in self.per_image:
            title = f"BD-rate in % of {self.curve(test_name).label} on each image"
            parts.append(Section(title, self.each_image(test_name)))
        return parts

    def bd(self, metric: str) -> Table:
        """Return BD-rates by Akima and PCHIP with their overlap, a row a pair."""
        header = ["test", "anchor", "BD-rate % (Akima)", "BD-rate % (PCHIP)", "BD dB"]
        header += ["common range dB", "of anchor", "of test", "better everywhere"]
        rows = []
        for test, against in self.comparisons[metric].items():
            for base, found in against.items():
                names = [self.curve(test).label, self.curve(base).label]
                if found.overlap is None:
                    rows.append([*names, "–", "–", "–", found.reason or "", *[""] * 3])
                    continue
                low, high = found.overlap
                rates = (found.rate_akima, found.rate_pchip, found.quality_akima)
                rows.append(
                    [
                        *names,
                        *[number(rate, sign=True) for rate in rates],
                        f"{low:.2f}–{high:.2f}",
                        f"{found.share_anchor:.0%}",
                        f"{found.share_test:.0%}",
                        "yes" if found.below_everywhere else "no",
                    ]
                )
        return Table(header, rows, left=2)

    def parts(self, test: str, metric: str) -> Table:
        """Return rate differences of one codec in %, at whole dBs and at both ends."""
        compared = {
            base: found.parts
            for base, found in self.comparisons[metric][test].items()
            if found.parts
        }
        grid = _grid([p.quality for parts in compared.values() for p in parts[1:-1]])
        rows = []
        for base, pieces in compared.items():
            known = {p.quality: _percent(p.rate_percent) for p in pieces[1:-1]}
            cells = [known.get(quality, "") for quality in grid]
            ends = _end(pieces[0]), _end(pieces[-1])
            rows.append([self.curve(base).label, ends[0], *cells, ends[1]])
        columns = [f"{quality:.0f} dB" for quality in grid]
        return Table(["against", "at the lowest", *columns, "at the highest"], rows)

    def each_image(self, test: str) -> Table:
        """Return BD-rates of one codec on every image; the last row counts its wins."""
        against = self.per_image[test]
        header = ["image", *[self.curve(base).label for base in against]]
        rows = [
            [image, *[_percent(rates[image]) for rates in against.values()]]
            for image in self.files
        ]
        wins = []
        for rates in against.values():
            known = [rate for rate in rates.values() if math.isfinite(rate)]
            wins.append(f"{sum(rate < 0 for rate in known)} of {len(known)}")
        return Table(header, [*rows, ["fewer bits on", *wins]])

    def drawings(self, looks: Mapping[str, Look]) -> dict[str, Drawing]:
        """Return the rate difference against each anchor, quality by quality."""
        from polycodec.eval.image.plots import rate_difference
        from polycodec.eval.report import Drawing

        against = self._by_psnr(self.lead.name)
        if not any(found.parts for found in against.values()):
            return {}
        labels = {base: self.curve(base).label for base in against}
        figure = rate_difference(against, labels, looks)
        return {"rate-difference": Drawing(figure, DIFFERENCE)}

    def samples(self) -> list[str]:
        """Return crops of one image by every codec."""
        from polycodec.eval.image.samples import make_crops
        from polycodec.eval.page import page

        run = self.run
        crops = make_crops(self.rows, run.subjects, run.items, show=run.options.show)
        x, y, width, height = crops.box
        sentence = (
            f"{crops.image}, window {width}×{height} at ({x}, {y}): the image of "
            "median PSNR and its window with the most detail, unless the run named "
            "another. The classical codecs are set to come nearest to the first one's "
            "size. Press on a crop to see the original in its place."
        )
        shown = [
            (c.label, f"{number(c.bpp, 3)} bpp, {number(c.psnr)} dB", c.window)
            for c in crops.shown
        ]
        heading = f"<h2>At about the same size</h2><p>{escape(sentence)}</p>"
        return [heading, page.crops(crops.original, shown)]


def overheads(rows: Sequence[Row]) -> dict[str, Overhead]:
    """Compare real bytes with estimates, for codecs that have estimates."""
    table = {}
    for codec in dict.fromkeys(row.codec for row in rows):
        pairs = [
            (row, row.estimated_bits / 8)
            for row in rows
            if row.codec == codec and row.estimated_bits is not None
        ]
        if not pairs:
            continue
        excess = [row.bytes - 1.006 * estimate - 40 for row, estimate in pairs]
        at = max(range(len(pairs)), key=excess.__getitem__)
        total = sum(estimate for _, estimate in pairs)
        real = sum(row.bytes for row, _ in pairs)
        table[codec] = Overhead(
            percent=100 * (real / total - 1) if total else math.nan,
            beyond=excess[at],
            worst=f"{pairs[at][0].file} at {pairs[at][0].setting:g}",
            images=len(pairs),
        )
    return table


def _verdict(found: Comparison) -> str:
    if found.overlap is None:
        return f"no BD-rate, because {found.reason}."
    low, high = found.overlap
    parts = [part.rate_percent for part in found.parts]
    return (
        f"{_percent(found.rate_akima)} % bits at equal PSNR (Akima; PCHIP "
        f"{_percent(found.rate_pchip)} %) over {low:.2f}–{high:.2f} dB, "
        f"{_percent(min(parts))} to {_percent(max(parts))} % by part."
    )


def _grid(qualities: Sequence[float], longest: int = 8) -> list[float]:
    """Whole dBs for columns, thinned so that a table stays readable."""
    if not qualities:
        return []
    low, high = int(min(qualities)), int(max(qualities))
    step = -(-(high - low + 1) // longest)
    return [float(q) for q in range(low, high + 1) if (q - low) % step == 0]


def _end(part: Part) -> str:
    return f"{_percent(part.rate_percent)} @ {part.quality:.2f} dB"


def _percent(value: float) -> str:
    return number(value, 1, sign=True)
