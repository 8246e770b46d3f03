# SPDX-License-Identifier: Apache-2.0
"""The token family on any kind of signal: stages of training, and fits at export.

    weights as the file keeps them (float16) ─► codes of training signals ─► fit
    file read back ─► held-out signals ─► check.py

Statistics of tokens are taken when the codebooks are final.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.errors import ModelError
from polycodec.registry import build
from polycodec.train.sections import StagesSection

SAID_EVERY = 10.0  # seconds


def builds_at(section: StagesSection, step: int) -> bool:
    """Return whether codebooks are built before this step."""
    rebuilt = 0 < section.rebuild == step
    return section.build and (step == section.unquantized or rebuilt)


def active_levels(count: int, levels: int, vary: float) -> Tensor:
    """Draw levels in use (B,): all, for a share ``vary`` of items 1 … all."""
    drawn = torch.randint(1, levels + 1, (count,))
    return torch.where(torch.rand(count) < vary, drawn, levels)


def with_tables(
    codec: TokenCodec,
    part: Path,
    stored: dict[str, Any],
    codes_of: Callable[[Codec], Sequence[np.ndarray]],
    say: Callable[[str], None],
) -> Codec:
    """Write a trained codec to ``part`` with a fitted token model, and read it.

    stored: the config, with an ``entropy``. codes_of: training sequences (L, F) of the
    codec as it is read back, whose weights are rounded.
    """
    whole, stored = _with_entropy(codec, stored)
    assert whole.entropy is not None
    whole.entropy.update()
    whole.save(part, stored)
    found = load_codec(part)
    model = found.entropy
    assert isinstance(model, TokenModel)
    _fit(model, codes_of(found), say)
    model.update()
    found.save(part, stored)
    return load_codec(part)


def _with_entropy(
    codec: TokenCodec, stored: dict[str, Any]
) -> tuple[TokenCodec, dict[str, Any]]:
    """Return the trained codec with an entropy model, and the config of both."""
    options = {k: v for k, v in stored.items() if k != "name"}
    quantizer = dict(options.get("quantizer") or {})
    quantizer |= codec.quantizer.config_after_build()
    if quantizer:
        options["quantizer"] = quantizer
    whole: TokenCodec = build(f"codec/{stored['name']}", **options)
    missing, unknown = whole.load_state_dict(codec.state_dict(), strict=False)
    foreign = [k for k in missing if not k.startswith("entropy.")] + unknown
    if foreign:
        raise ModelError(
            f"the checkpoint does not fit its config; check {foreign[:3]}; export with "
            "the version that trained it"
        )
    return whole.eval(), {"name": stored["name"], **options}


def _fit(
    model: TokenModel, codes: Sequence[np.ndarray], say: Callable[[str], None]
) -> None:
    """Fit a token model; one that takes minutes says now and then how far it is."""
    last = time.monotonic()

    def report(step: int, bits: float) -> None:
        nonlocal last
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            say(f"fitting: step {step}, {bits:.3f} bits a token")

    model.fit(codes, progress=report)
