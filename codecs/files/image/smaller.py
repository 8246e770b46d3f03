# SPDX-License-Identifier: Apache-2.0
"""Images made smaller while they are decoded, for previews.

    bands of rows ─ decode ─ means of k x k pixels ─┐
                             ...                    ├─ Lanczos ─ the size asked for
    bands of rows ─ decode ─ means of k x k pixels ─┘

Memory depends on the band, not on the image. Time does not become less: every tile is
decoded. Colour is weighted by alpha, so that what is transparent does not show.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from polycodec.codecs.files.ends import Progress, counted
from polycodec.codecs.signals.grid import Span

_SHARP = 2  # pixels that Lanczos gets for one, at least


def size_within(span: Span, side: int) -> tuple[int, int]:
    """Height and width of ``span`` made smaller, if it must be, to ``side`` at most."""
    scale = min(1.0, side / max(span.size))
    height, width = (max(1, round(scale * n)) for n in span.size)
    return height, width


def render_smaller(
    render: Callable[[Span], np.ndarray],
    span: Span,
    side: int,
    rows: int,
    alpha: np.ndarray | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (h, w, C) and alpha (h, w) of ``span``, no side longer than ``side``.

    ``render``: pixels of a part; ``rows``: how many are best decoded together;
    ``alpha``: of the span, (H, W), or None. Types stay as they are.
    """
    k = 1
    while max(span.size) // (2 * k) >= _SHARP * side:
        k *= 2
    step, bands = -(-rows // k) * k, []
    starts = range(span.top, span.bottom, step)
    for top in counted(starts, len(starts), progress):
        part = Span(top, span.left, min(top + step, span.bottom), span.right)
        planes = pixels = render(part)
        if alpha is not None:
            weight = alpha[part.inside(span).slices].astype(np.float32)[..., None]
            planes = np.concatenate([pixels * weight, weight], axis=2)
        bands.append(_mean(planes, k))
    height, width = size_within(span, side)
    box = 0, 0, span.size[1] / k, span.size[0] / k
    lanczos = (width, height), Image.Resampling.LANCZOS, box
    means = np.moveaxis(np.concatenate(bands), 2, 0).copy()
    small = [np.asarray(Image.fromarray(plane).resize(*lanczos)) for plane in means]
    planes = np.stack(small, axis=2)
    if alpha is None:
        return _rounded(planes, pixels.dtype), None
    weight = planes[..., -1:]
    colour = np.divide(
        planes[..., :-1], weight, out=np.zeros_like(planes[..., :-1]), where=weight > 0
    )
    return _rounded(colour, pixels.dtype), _rounded(weight[..., 0], alpha.dtype)


def _mean(planes: np.ndarray, k: int) -> np.ndarray:
    """Means of k x k pixels of (H, W, C), float32; the edge goes on beyond its end."""
    height, width, channels = planes.shape
    padded = np.pad(planes, ((0, -height % k), (0, -width % k), (0, 0)), mode="edge")
    cells = padded.reshape(-(-height // k), k, -(-width // k), k, channels)
    return cells.mean((1, 3), dtype=np.float32)


def _rounded(samples: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.rint(samples).clip(0, np.iinfo(dtype).max).astype(dtype)
