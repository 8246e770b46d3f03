# SPDX-License-Identifier: Apache-2.0
"""Curves that others published for UVG, to be drawn dashed.

    {"methods": [{"id", "name", "metric", "source", "points": [one, ...]}, ...]}
    one: {"bpp", "psnr", and "msssim" where it is known}

A PSNR is of RGB, or of planes where ``metric`` says YUV420: they are never drawn into
one another. MS-SSIM is taken of RGB alone.
"""

from __future__ import annotations

from typing import Any

from polycodec.codecs.measures.image import decibel
from polycodec.eval.curves import Curve, chosen, published_point

EXPECTED = (
    "{'methods': [...]}, objects with id, name, metric and points of bpp and psnr"
)
# Of RGB; of planes. All with every frame of the seven clips.
USUAL = (
    *("x265-medium-nob", "hm18-ra", "vtm17-ra", "hnerv", "hinerv-new", "c3-adaptive"),
    *("vtm17-ld-420", "dcvc-rt"),
)


def read_curves(content: Any, ids: Any = None) -> list[Curve]:
    """The curves of these ids; a few well-known ones, or all, unless told."""
    return [_curve(entry) for entry in chosen(content["methods"], ids, USUAL)]


def _curve(entry: dict[str, Any]) -> Curve:
    planes = "YUV420" in entry["metric"]
    points = []
    for point in entry["points"]:
        similar = None if planes else point.get("msssim")
        scores = {
            "psnr": None if planes else point["psnr"],
            "psnr_yuv": point["psnr"] if planes else None,
            "ms_ssim_db": None if similar is None else decibel(similar),
        }
        points.append(published_point(point["bpp"], scores))
    return Curve(
        name=entry["id"],
        label=entry.get("name", entry["id"]),
        kind="published",
        points=tuple(sorted(points, key=lambda point: point.rate)),
        note=f"{entry['metric']}; {entry.get('source', '')}".removesuffix("; "),
    )
