# SPDX-License-Identifier: Apache-2.0
"""Codecs of image tokens that can be composed of what is registered, tiny.

    every transform of images x every quantizer x every model of tokens

`tests/contracts/test_token_matrix.py` takes some cells, `docs/checks/matrix.py` all. A
newly registered part takes part without a line here.
"""

from __future__ import annotations

from typing import Any

import torch
from composed import (
    TRANSFORMS,
    M,
    check_coded,
    check_moved,
    codes,
    of_kind,
    picture,
)
from tiny_parts import section

from polycodec.registry import build

QUANTIZERS = of_kind("quantizer")
MODELS = [n for n in of_kind("entropy") if codes(n) == "tokens"]


def cells() -> list[tuple[str, str, str]]:
    """All of the product."""
    return [(t, q, m) for q in QUANTIZERS for m in MODELS for t in TRANSFORMS]


def covering() -> list[tuple[str, str, str]]:
    """Every quantizer with two models or more, on transforms in turn."""
    found, count = [], len(QUANTIZERS)
    for k in range(max(2 * count, len(TRANSFORMS), len(MODELS))):
        model = MODELS[(k + k // count) % len(MODELS)]
        found.append((TRANSFORMS[k % len(TRANSFORMS)], QUANTIZERS[k % count], model))
    return found


def token_section(transform: str, quantizer: str, model: str) -> dict[str, Any]:
    """The section ``codec`` of a config."""
    return {
        "signal": "image",
        "channels": M,
        "transform": section("transform", transform),
        "quantizer": section("quantizer", quantizer),
        "entropy": section("entropy", model),
    }


def check_cell(transform: str, quantizer: str, model: str) -> None:
    """AssertionError unless this codec is built, takes a step, and codes bytes.

    At an odd size: what is read is what was written, and about as long as estimated.
    """
    torch.manual_seed(0)
    options = token_section(transform, quantizer, model)
    codec = build("codec/token", **options)
    x = codec.padded(picture(64, 64, 2))
    before = {k: v.clone() for k, v in codec.named_parameters()}
    adam = torch.optim.Adam(codec.parameters(), 1e-3)
    out = codec(x)
    loss = (out.x_hat - x).square().mean() + out.loss.mean()
    loss.backward()
    adam.step()
    moved = {k for k, v in codec.named_parameters() if not torch.equal(v, before[k])}
    check_moved(moved, ())
    assert all(bool(v.isfinite().all()) for v in codec.parameters())
    codec.freeze(lambda codec: None)
    check_coded(codec, 100)
