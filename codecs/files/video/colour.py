# SPDX-License-Identifier: Apache-2.0
"""Planes as files have them <-> RGB in [0, 1] as codecs want it.

    Y', Cb, Cr ── levels ── chroma at full size ── matrix ──► R', G', B'
               ◄─────────── chroma subsampled ◄── matrix⁻¹ ──

Matrices and levels are those of ITU-T H.273 (8.3, equations 20 to 38): with
Kr and Kb of a matrix, Y = Kr R + (1 - Kr - Kb) G + Kb B, Cb = (B - Y) / 2(1 - Kb) and
Cr = (R - Y) / 2(1 - Kr). Chroma is interpolated linearly; the way back is its least
squares inverse, found by iteration, so that planes that were not coded come back as
they were but for a rounding, and colours beyond RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.files.container.layout import VideoGeometry
from polycodec.codecs.files.video.data import COLOURS

# Matrix coefficients -> Kr, Kb.
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
HIGH = 720  # rows from which an unknown matrix is BT.709's, as players have it
_STEP, _ROUNDS = 4 / 3, 3  # of the iteration: what is left of an error is 1/3 a round


def matrix_of(geometry: VideoGeometry) -> Tensor:
    """(3, 3): Y, Cb, Cr of R, G, B."""
    unknown = 1 if geometry.height >= HIGH else 6
    kr, kb = _WEIGHTS.get(geometry.matrix, _WEIGHTS[unknown])
    luma = torch.tensor([kr, 1 - kr - kb, kb], dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    return torch.stack([luma, cb, cr])


def to_rgb(frames: Sequence[Sequence[np.ndarray]], geometry: VideoGeometry) -> Tensor:
    """(n, 3, H, W) float32 in [0, 1] of the planes of n frames."""
    return unlimited(frames, geometry).clamp(0, 1)


def unlimited(
    frames: Sequence[Sequence[np.ndarray]], geometry: VideoGeometry
) -> Tensor:
    """`to_rgb` with what lies beyond [0, 1]: levels beyond 16 … 235, and colours."""
    planes = [
        torch.from_numpy(np.stack(p).astype(np.float32))
        for p in zip(*frames, strict=True)
    ]
    scaled = [
        (plane - offset) / scale
        for plane, (offset, scale) in zip(planes, _levels(geometry), strict=True)
    ]
    if geometry.colour == "gray":
        return scaled[0].unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    if geometry.colour == "rgb":
        green, blue, red = scaled
        return torch.stack([red, green, blue], dim=1)
    size = geometry.height, geometry.width
    full = [scaled[0], *(_enlarged(c, size, geometry) for c in scaled[1:])]
    back = torch.linalg.inv(matrix_of(geometry)).float()
    return _mixed(back, full)


def from_rgb(x: Tensor, geometry: VideoGeometry) -> list[list[np.ndarray]]:
    """Planes of each of the frames (n, 3, H, W)."""
    if geometry.colour == "gray":
        parts = [x.mean(dim=1)]
    elif geometry.colour == "rgb":
        parts = [x[:, 1], x[:, 2], x[:, 0]]
    else:
        luma, *chroma = _mixed(matrix_of(geometry).float(), list(x.unbind(1))).unbind(1)
        parts = [luma, *(_reduced(c, geometry) for c in chroma)]
    kind = np.uint8 if geometry.depth <= 8 else np.uint16
    peak = (1 << geometry.depth) - 1
    planes = [
        torch.round(part * scale + offset).clamp(0, peak).numpy().astype(kind)
        for part, (offset, scale) in zip(parts, _levels(geometry), strict=True)
    ]
    return [[plane[k] for plane in planes] for k in range(len(x))]


def _levels(geometry: VideoGeometry) -> list[tuple[float, float]]:
    """Of each plane: the sample of 0, and how many samples are 1."""
    count, unit = COLOURS[geometry.colour][1], 1 << (geometry.depth - 8)
    peak = (1 << geometry.depth) - 1
    if geometry.colour == "rgb":
        return [(0, peak)] * 3
    if geometry.full_range:
        luma, chroma = (0.0, float(peak)), (128.0 * unit, float(peak))
    else:
        luma, chroma = (16.0 * unit, 219.0 * unit), (128.0 * unit, 224.0 * unit)
    return [luma, chroma, chroma][:count]


def _mixed(matrix: Tensor, parts: list[Tensor]) -> Tensor:
    rows = [sum(w * p for w, p in zip(row, parts, strict=True)) for row in matrix]
    return torch.stack(rows, dim=1)


def _enlarged(c: Tensor, size: tuple[int, int], geometry: VideoGeometry) -> Tensor:
    """Chroma (n, h, w) at every pixel."""
    for axis, (centred, n) in zip(_AXES, _sites(geometry, size), strict=True):
        if c.shape[axis] != n:
            c = _doubled(c.transpose(axis, -1), n, centred).transpose(axis, -1)
    return c


def _reduced(c: Tensor, geometry: VideoGeometry) -> Tensor:
    """Chroma of every pixel where its samples lie, by least squares."""
    size, halved = (geometry.height, geometry.width), COLOURS[geometry.colour][2]
    for axis, (centred, n) in zip(_AXES, _sites(geometry, size), strict=True):
        if halved[0 if axis == -1 else 1]:
            c = _halved(c.transpose(axis, -1), n, centred).transpose(axis, -1)
    return c


_AXES = (-1, -2)  # across, down


def _sites(geometry: VideoGeometry, size: tuple[int, int]) -> list[tuple[bool, int]]:
    """Across and down: whether chroma lies between two pixels, and the full size."""
    across = geometry.siting in ("center", "top", "bottom")
    down = geometry.siting in ("unknown", "left", "center")
    return [(across, size[1]), (down, size[0])]


def _doubled(c: Tensor, n: int, centred: bool) -> Tensor:
    """(…, m) -> (…, n): linear interpolation."""
    left = torch.cat([c[..., :1], c[..., :-1]], dim=-1)
    right = torch.cat([c[..., 1:], c[..., -1:]], dim=-1)
    if centred:
        even, odd = 0.75 * c + 0.25 * left, 0.75 * c + 0.25 * right
    else:
        even, odd = c, 0.5 * (c + right)
    return torch.stack([even, odd], dim=-1).flatten(-2)[..., :n]


def _averaged(x: Tensor, centred: bool) -> Tensor:
    """(…, n) -> (…, (n + 1) // 2): the mean around each sample of chroma."""
    if x.shape[-1] % 2:
        x = torch.cat([x, x[..., -1:]], dim=-1)
    even, odd = x[..., ::2], x[..., 1::2]
    if centred:
        return 0.5 * (even + odd)
    before = torch.cat([even[..., :1], odd[..., :-1]], dim=-1)
    return 0.25 * (before + 2 * even + odd)


def _halved(x: Tensor, n: int, centred: bool) -> Tensor:
    """The samples that `_doubled` makes most nearly x (…, n) of."""
    c = _averaged(x, centred)
    for _ in range(_ROUNDS):
        c = c + _STEP * _averaged(x - _doubled(c, n, centred), centred)
    return c
