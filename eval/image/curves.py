# SPDX-License-Identifier: Apache-2.0
"""From rows of images to rate-distortion curves, ours and published ones.

point = (mean bpp, mean PSNR, mean MS-SSIM) over all images at one setting
curve = the points of one codec, sorted by bpp
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polycodec.codecs.measures import image as measures
from polycodec.errors import InputError, UnknownNameError
from polycodec.eval.curves import Curve, by_setting
from polycodec.eval.image.measure import ImageRow
from polycodec.eval.subjects import Subject

# A readable choice for a first look: a standard, an early and a recent codec.
PUBLISHED = ("vtm", "bpg444", "compressai-mbt2018-mean-mse", "elic", "lalic")


@dataclass(frozen=True)
class Point:
    """Means over all images at one setting."""

    setting: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    estimated_bpp: float | None
    encode_seconds: float
    decode_seconds: float
    pictures: int


@dataclass(frozen=True, kw_only=True)
class ImageCurve(Curve):
    """A curve with its figures as lists; published ones have no points."""

    bpp: tuple[float, ...]
    psnr: tuple[float | None, ...]
    ms_ssim_db: tuple[float | None, ...]

    def against(self, metric: str) -> tuple[list[float], list[float]]:
        """Rates and qualities where ``metric`` (psnr or ms_ssim_db) is known."""
        pairs = [
            (rate, value)
            for rate, value in zip(self.bpp, vars(self)[metric], strict=True)
            if value is not None
        ]
        return [rate for rate, _ in pairs], [value for _, value in pairs]


def measured(subject: Subject, rows: Sequence[ImageRow]) -> ImageCurve:
    """Average the rows of one subject into its curve.

    MS-SSIM in dB is taken of the mean MS-SSIM, as published curves do.
    """
    points = sorted(
        (_point(setting, group) for setting, group in by_setting(rows).items()),
        key=lambda point: point.bpp,
    )
    return ImageCurve(
        name=subject.name,
        label=subject.label,
        kind=subject.kind,
        bpp=tuple(point.bpp for point in points),
        psnr=tuple(point.psnr for point in points),
        ms_ssim_db=tuple(measures.decibel(point.ms_ssim) for point in points),
        points=tuple(points),
    )


def published(
    path: str | pathlib.Path, *, dataset: str, ids: Sequence[str] | None = None
) -> list[ImageCurve]:
    """Read published curves from a JSON file.

    The file holds ``{dataset: [{id, label, bpp, psnr, ms_ssim_db}, ...]}``, lists
    of equal length with null where nothing was published. ``ids`` chooses; by
    default a few well-known ones, or all when none of those is there.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        listed = content.get(dataset) if isinstance(content, dict) else content
        entries = {entry["id"]: entry for entry in listed or ()}
        if ids is None:
            ids = [known for known in PUBLISHED if known in entries] or list(entries)
        for unknown in set(ids) - set(entries):
            raise UnknownNameError.of("published curve", unknown, entries)
        return [_published(entries[id_]) for id_ in ids]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read published curves of {dataset} from {path}: {error!r}; "
            "expected JSON with a list of objects with id and bpp, psnr, ms_ssim_db of "
            "equal length, null where unknown; correct the file"
        ) from error


def _published(entry: dict[str, Any]) -> ImageCurve:
    rates = tuple(float(rate) for rate in entry.get("bpp") or ())

    def figures(key: str) -> tuple[float | None, ...]:
        pairs = zip(rates, entry.get(key) or [None] * len(rates), strict=True)
        return tuple(None if value is None else float(value) for _, value in pairs)

    return ImageCurve(
        name=entry["id"],
        label=entry.get("label", entry["id"]),
        kind="published",
        bpp=rates,
        psnr=figures("psnr"),
        ms_ssim_db=figures("ms_ssim_db"),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None when any image has no value: no mean of a part."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return sum(known) / len(known)


def _point(setting: float, rows: Sequence[ImageRow]) -> Point:
    count = len(rows)
    return Point(
        setting=setting,
        bpp=sum(row.bpp for row in rows) / count,
        psnr=sum(row.psnr for row in rows) / count,
        ms_ssim=_mean([row.ms_ssim for row in rows]),
        estimated_bpp=_mean([row.estimated_bpp for row in rows]),
        encode_seconds=sum(row.encode_seconds for row in rows) / count,
        decode_seconds=sum(row.decode_seconds for row in rows) / count,
        pictures=count,
    )
