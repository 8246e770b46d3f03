# SPDX-License-Identifier: Apache-2.0
"""The export of the latent family on speech: freeze, certify, fit tables, check.

training crops, every rate ─► grids of the exact layers ─► certificates
file read back, in float16 ─► integers of training recordings ─► tables
file read back ─► held-out recordings ─► check.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import load_codec
from polycodec.codecs.measures.speech import VALIDATION, rules
from polycodec.entropy_models.coders import RateEstimator
from polycodec.registry import register
from polycodec.train.export import Recipe, as_row, certificate_table
from polycodec.train.speech.check import self_check
from polycodec.train.speech.data import SpeechCache
from polycodec.train.speech.export import signal, some
from polycodec.train.speech.task import speech_source, validation_levels

CALIBRATION_BATCHES = 4  # of training crops, every rate each
FITTED_SECONDS = 1200  # of training recordings whose integers are counted, at most


@register("recipe/speech/latent")
@register("recipe/speech/latent-speech")  # as the family is called in older configs
class LatentSpeechRecipe(Recipe):
    """The latent family on speech."""

    def write(self, codec: Any, part: Path) -> dict[str, Any]:
        """See `Recipe.write`."""
        config, say = self.config, self.say
        rate = codec.signal.rate
        recordings = SpeechCache(config.data.train, config.data.cache, rate)
        source = speech_source(config, recordings, rate, codec.stride)
        held_out = [signal(recordings[i]) for i in source.held_out]
        held_out = held_out[: config.eval.utterances]
        crops = [source.batch_at(step)[0] for step in range(CALIBRATION_BATCHES)]
        before = estimated(codec, held_out)
        say(f"calibrating on {sum(len(x) for x in crops)} crops")
        certificates = codec.freeze(lambda codec: estimated(codec, crops))
        say(certificate_table(certificates))
        after = estimated(codec, held_out)
        codec.save(part, self.stored)
        codec = load_codec(part)  # weights are rounded now: these integers are final
        plain = coded(codec, held_out)
        chosen = some(recordings, source.train, FITTED_SECONDS * codec.signal.rate)
        counted = fit_tables(codec, [signal(recordings[i]) for i in chosen])
        say(f"tables fitted to {counted / 1e6:.1f} M integers of {len(chosen)} files")
        fitted = coded(codec, held_out)
        codes = [codec.encode_codes(x, codec.levels) for x in held_out]
        codec.save(part, self.stored)
        codec = load_codec(part)
        levels = validation_levels(config.eval.levels, codec.levels)
        points = self_check(codec, held_out, codes, levels, say)
        return {
            "rate": codec.signal.rate,
            "rates": codec.levels,
            "freezing": f"{100 * (after / before - 1):+.3f} % rate",
            "tables": f"{100 * (fitted / plain - 1):+.3f} % rate by fitting them",
            "recordings": f"{len(recordings)} in {Path(config.data.train).name}",
            "validation": points,
            "measures": rules(VALIDATION),
            "certificate": [as_row(c) for c in certificates],
        }


@torch.no_grad()
def estimated(codec: Any, signals: Sequence[Tensor]) -> float:
    """Estimated bits of signals (B, 1, T) at every rate together, without noise."""
    bits = 0.0
    for x in signals:
        z = codec.analyse(codec.padded(x), codec.levels).float()
        for level in range(1, codec.levels + 1):
            coder = RateEstimator(len(x), noise=False)
            codec.code(coder, codec.quantize(z, level), level)
            bits += float(coder.bits.sum())
    return bits


def coded(codec: Any, signals: Sequence[Tensor]) -> float:
    """Bits of signals (1, 1, T) at the middle rate by the integer tables."""
    levels = (codec.levels + 1) // 2
    codes = [codec.encode_codes(x, levels) for x in signals]
    return sum(codec.write(one, levels).estimated_bits[0] for one in codes)


@torch.no_grad()
def fit_tables(codec: Any, signals: Sequence[Tensor]) -> int:
    """Count integers of signals at every rate and refit; returns how many were seen."""
    counter = codec.entropy.counter()
    for x in signals:
        z = codec.signal.analysis(codec).whole(codec.padded(x)[0])[None]
        for level in range(1, codec.levels + 1):
            codec.code(counter, codec.coarsened(z, level), level)
    codec.entropy.refit(counter)
    return counter.total
