# SPDX-License-Identifier: Apache-2.0
"""Image tokens: quantizers and token models are interchangeable, on any transform.

`docs/checks/matrix.py` goes through all of the product.
"""

from __future__ import annotations

import pytest
from composed import TRANSFORMS
from composed_tokens import MODELS, QUANTIZERS, cells, check_cell, covering

from polycodec.errors import ModelError
from polycodec.registry import build


def test_the_cells_cover_what_is_registered():
    assert set(covering()) <= set(cells())
    every = [set(names) for names in zip(*covering(), strict=True)]
    assert every == [set(TRANSFORMS), set(QUANTIZERS), set(MODELS)]


@pytest.mark.parametrize("cell", covering(), ids="-".join)
def test_a_cell_trains_and_codes(cell):
    check_cell(*cell)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"quantizer": {"name": "cascade", "groups": 5}}, "5 groups"),
        ({"transform": {"name": "spectral"}}, "a part for speech"),
        (
            {"entropy": {"name": "factorized"}},
            "codes latents, the codec .* tokens",
        ),
        (
            {
                "quantizer": {"name": "residual", "codes": 8192, "levels": 1},
                "entropy": {"name": "tokens-adaptive"},
            },
            "1 to 4096 tokens",
        ),
    ],
    ids=["groups", "speech", "latents", "large"],
)
def test_what_cannot_be_combined_says_why(part, reason):
    options = {
        "signal": "image",
        "channels": 12,
        "transform": {"name": "conv", "width": 8},
        "quantizer": {"name": "residual", "levels": 2, "codes": 8},
        "entropy": {"name": "tokens-static"},
    }
    with pytest.raises(ModelError, match=reason):
        build("codec/token", **{**options, **part})


def test_a_quantizer_of_images_is_refused_on_speech():
    with pytest.raises(ModelError, match="a part for images"):
        build("codec/token", channels=12, quantizer={"name": "cascade"})
