# SPDX-License-Identifier: Apache-2.0
"""The token family's export: statistics of training tokens, then checks.

    weights as the file keeps them (float16) ─► codes of training recordings ─► fit
    file read back ─► held-out recordings ─► check.py

Rates and measures on the card are those of real bytes on speakers never trained on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import load_codec
from polycodec.codecs.measures.speech import VALIDATION, rules
from polycodec.entropy_models.tokens.base import TokenModel
from polycodec.errors import ModelError
from polycodec.registry import build, register
from polycodec.train.export import Recipe
from polycodec.train.speech.check import self_check
from polycodec.train.speech.data import SpeechCache
from polycodec.train.speech.task import speech_source, validation_levels

ENTROPY = {"name": "tokens-adaptive"}  # unless the config names another
FITTED_SECONDS = 3600  # of training recordings whose tokens are counted, at most
SAID_EVERY = 10.0  # seconds


@register("recipe/speech/token")
class TokenRecipe(Recipe):
    """The token family on speech."""

    def write(self, codec: Any, part: Path) -> dict[str, Any]:
        """See `Recipe.write`."""
        config = self.config
        rate = codec.signal.rate
        recordings = SpeechCache(config.data.train, config.data.cache, rate)
        source = speech_source(config, recordings, rate, codec.stride)
        codec, stored = with_entropy(codec, self.stored)
        codec.entropy.update()
        codec.save(part, stored)
        codec = load_codec(part)  # weights are rounded now: these codes are final
        chosen = some(recordings, source.train, FITTED_SECONDS * rate)
        codes = [_codes(codec, recordings[i]) for i in chosen]
        seconds = sum(one.shape[1] for one in codes) * codec.stride / rate
        self.say(f"fitting to the tokens of {len(codes)} recordings, {seconds:.0f} s")
        _fit(codec.entropy, codes, self.say)
        codec.entropy.update()
        held_out = [signal(recordings[i]) for i in source.held_out]
        held_out = held_out[: config.eval.utterances]
        before = [codec.encode_codes(x, codec.levels) for x in held_out]
        codec.save(part, stored)
        codec = load_codec(part)
        levels = validation_levels(config.eval.levels, codec.levels)
        points = self_check(codec, held_out, before, levels, self.say)
        return {
            "rate": codec.signal.rate,
            "codes": list(codec.sizes),
            "recordings": f"{len(recordings)} in {Path(config.data.train).name}",
            "validation": points,
            "measures": rules(VALIDATION),
            "certificate": [],
        }


def with_entropy(codec: Any, stored: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the trained codec with an entropy model, and the config of both."""
    options = {k: v for k, v in stored.items() if k != "name"}
    quantizer = dict(options.get("quantizer") or {})
    quantizer |= codec.quantizer.config_after_build()
    options = {**options, "entropy": options.get("entropy") or ENTROPY}
    if quantizer:
        options["quantizer"] = quantizer
    whole = build(f"codec/{stored['name']}", **options)
    missing, unknown = whole.load_state_dict(codec.state_dict(), strict=False)
    foreign = [k for k in missing if not k.startswith("entropy.")] + unknown
    if foreign:
        raise ModelError(
            f"the checkpoint does not fit its config; check {foreign[:3]}; export with "
            "the version that trained it"
        )
    return whole.eval(), {"name": stored["name"], **options}


def _fit(
    model: TokenModel, codes: list[np.ndarray], say: Callable[[str], None]
) -> None:
    """Fit a token model; one that takes minutes says now and then how far it is."""
    last = time.monotonic()

    def report(step: int, bits: float) -> None:
        nonlocal last
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            say(f"fitting: step {step}, {bits:.3f} bits a token")

    model.fit(codes, progress=report)


def some(recordings: SpeechCache, every: list[int], samples: int) -> list[int]:
    """Recordings evenly picked, of about ``samples`` together at most."""
    total = sum(recordings.lengths[i] for i in every)
    return every[:: max(1, math.ceil(total / samples))]


def signal(samples: np.ndarray) -> Tensor:
    """A recording (T,) int16 as (1, 1, T) float."""
    return torch.from_numpy(samples.astype(np.float32) / 32768)[None, None]


def _codes(codec: Any, samples: np.ndarray) -> np.ndarray:
    """Tokens (L, F) of a recording (T,) int16."""
    return codec.encode_codes(signal(samples), codec.levels)[0].cpu().numpy()
