# SPDX-License-Identifier: Apache-2.0
"""Whether an image in tiles is the image: what a transform states of its reach, tried.

┌────┬────┬────┬────┬────┐   the middle tile of a strip, once across and once upright,
│    ┏━━━━┓    │    │    │   that goes further on both sides than a result may look:
└────┗tile┛────┴────┴────┘   its latents, its pixels and those of a region within must
be those of the whole strip, within what floats allow. Reaches are boxes: a strip for
each axis tells what the square around the tile would, of several times the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.signals.grid import Grid, Span
from polycodec.codecs.signals.tiles import TileDecoder, TileEncoder
from polycodec.codecs.transforms.base import ImageTransform
from polycodec.errors import ModelError

ROUNDING = 1e-4  # of the largest number, where sums run in another order
QUALITY = 50.0


@torch.no_grad()
def check_tiles(codec: Codec, x: Tensor) -> str:
    """ModelError unless a tile of x (B, 3, H, W), continued by mirrors, is as stated.

    Returns what was tried. A transform without a reach has no tiles.
    """
    transform = codec.transform
    if not isinstance(transform, ImageTransform) or codec.tiling.reach is None:
        return "no tiles: every pixel depends on all others"
    halo, level = codec.tiling.reach, codec.level_of(QUALITY)
    tile = math.lcm(codec.tiling.grid, codec.tiling.period)
    around = 1 + -(-max(halo[0], codec.stride * halo[1]) // tile)
    side = (2 * around + 1) * tile
    strips = [_mirrored(x[0], *size) for size in ((tile, side), (side, tile))]
    off = max(_apart(codec, pixels, tile, level) for pixels in strips)
    if off > ROUNDING:
        core = Grid(tile, side, tile).span(around), Grid(side, tile, tile).span(around)
        pairs = zip(strips, core, strict=True)
        far = [measured(codec, pixels, own, level) for pixels, own in pairs]
        looks = [max(axes) for axes in zip(*far, strict=True)]
        raise ModelError(
            f"self-check 'tiles' failed; a tile and the whole image differ by up to "
            f"{100 * off:.2g} % of the largest value; {type(transform).__name__} "
            f"states a reach of {halo[0]} pixels and {halo[1]} latents, and looks "
            f"{looks[0]} and {looks[1]} far; correct its reach()"
        )
    return f"a tile of {tile}x{tile} and a region of it: those of the whole image"


def _apart(codec: Codec, pixels: np.ndarray, tile: int, level: float) -> float:
    """How far the middle tile of pixels (H, W, 3) is from being its part of them."""
    height, width, _ = pixels.shape
    grid = Grid(height, width, tile)
    k = len(grid) // 2
    core = grid.span(k)
    inner = Span(core.top + 5, core.left + 9, core.bottom - 2, core.right - 30)
    whole = TileEncoder(codec, pixels, 255, 0).latents(0, level)
    found = TileEncoder(codec, pixels, 255, tile).latents(k, level)
    seen = [(found, _part(whole, core.scaled(codec.transform.stride)))]
    codes = codec.quantize(whole, level)
    decoder = TileDecoder(codec, grid, QUALITY, lambda k: b"")
    spans = (grid.span(k).scaled(codec.stride) for k in range(len(grid)))
    decoder.known = {k: _part(codes, span) for k, span in enumerate(spans)}
    x_hat = codec.signals(codec.dequantize(codes, level), level)
    seen += [(decoder.synthesised(s), _part(x_hat, s)) for s in (core, inner)]
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-3)) for a, b in seen
    )


def measured(
    codec: Codec, pixels: np.ndarray, core: Span, level: float
) -> tuple[int, int]:
    """How far results of a tile look beyond it, in pixels and in latents."""
    stride = codec.transform.stride
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    latents = core.scaled(stride)
    with torch.inference_mode(False), torch.enable_grad():
        x = codec.signal.prepared(x.to(codec.device).clone())
        z = codec.analyse(x, level).detach()
        beyond = _beyond(lambda x: codec.analyse(x, level), x, core, latents)
        return beyond, _beyond(lambda z: codec.synthesise(z, level), z, latents, core)


def _beyond(run: Callable[[Tensor], Tensor], given: Tensor, own: Span, of: Span) -> int:
    """How far beyond ``own`` of ``given`` the results ``of`` depend on it."""
    given = given.detach().clone().requires_grad_()
    out = _part(run(given), of)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    # Large: what came through many layers from afar is tiny.
    (1e20 * (out.float() * weights.to(out.device)).sum()).backward()
    assert given.grad is not None
    used = given.grad[0].abs().sum(0) != 0
    rows, columns = (used.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    ends = own.top - rows[0], rows[-1] + 1 - own.bottom
    return max(*ends, own.left - columns[0], columns[-1] + 1 - own.right, 0)


def _part(x: Tensor, span: Span) -> Tensor:
    rows, columns = span.slices
    return x[:, :, rows, columns]


def _mirrored(x: Tensor, height: int, width: int) -> np.ndarray:
    """Pixels (height, width, 3) of an image (3, H, W), continued by its mirrors."""
    pixels = (255 * x.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    size = zip((height, width), pixels.shape[:2], strict=True)
    more = [(0, max(0, wanted - there)) for wanted, there in size]
    return np.pad(pixels, (*more, (0, 0)), mode="symmetric")[:height, :width]
