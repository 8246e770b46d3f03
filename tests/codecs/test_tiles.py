# SPDX-License-Identifier: Apache-2.0
"""Which tiles an image gets: memory is bounded by what the network sees."""

from __future__ import annotations

import pytest

from polycodec.codecs.signals.grid import AUTO_PIXELS, AUTO_TILE, choose_tile
from polycodec.registry import build


@pytest.mark.parametrize(
    "size",
    [(1, 10**6), (10**6, 1), (3, 200_000), (64, 65_601), (700, 90_000), (4000, 3000)],
)
def test_a_tile_is_no_larger_as_padded_than_the_usual_one(size) -> None:
    tiling = build("transform/residual", channels=12).tiling
    tile, grid = choose_tile(tiling, *size, None), tiling.grid
    sides = [min(tile, side + -side % grid) for side in size]
    assert tile >= AUTO_TILE and sides[0] * sides[1] <= AUTO_TILE**2


def test_what_fits_is_one_piece() -> None:
    tiling = build("transform/residual", channels=12).tiling
    side = round(AUTO_PIXELS**0.5)
    assert choose_tile(tiling, side, side, None) == 0
    assert choose_tile(tiling, 1, 1, None) == 0
