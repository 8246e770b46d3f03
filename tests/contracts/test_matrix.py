# SPDX-License-Identifier: Apache-2.0
"""Parts are interchangeable: cells that cover every pair of them, and what is refused.

`docs/checks/matrix.py` goes through all of the product.
"""

from __future__ import annotations

import pytest
from composed import (
    ENTROPY,
    PRIORS,
    TRANSFORMS,
    Model,
    cells,
    check_cell,
    codec_section,
    covering,
    models,
    refused,
    tables_made_once,
)

from polycodec.errors import CodecError
from polycodec.registry import build, names

CELLS = covering()


@pytest.fixture(autouse=True, scope="module")
def tables():
    with tables_made_once():
        yield


def test_the_cells_cover_what_is_registered():
    assert len(cells()) == len(TRANSFORMS) * len(list(models()))
    met = {model.label for _, model in CELLS}
    assert met == {model.label for model in models()}
    for transform in TRANSFORMS:
        mine = [model for name, model in CELLS if name == transform]
        assert {model.name for model in mine} == set(ENTROPY)
        assert {model.prior for model in mine} >= set(PRIORS)
    sections = [r for m in models() for r in m.section.get("references", ())]
    referred = {f"reference/{one['name']}" for one in sections}
    assert referred == {n for n in names("reference/*") if "/test-" not in n}


@pytest.mark.parametrize(
    ("transform", "model"), CELLS, ids=[f"{t}-{m.label}" for t, m in CELLS]
)
def test_a_cell_trains_and_codes(transform: str, model: Model):
    check_cell(transform, model.section)


@pytest.mark.parametrize("model", refused(), ids=lambda model: model.label)
def test_what_cannot_be_combined_says_why(model: Model):
    with pytest.raises(CodecError, match=f"entropy/{model.name}") as caught:
        build("codec/latent", **codec_section("conv", model.section))
    reason = "'prior'" if model.prior else "the codec around it"
    assert reason in str(caught.value)
