# SPDX-License-Identifier: Apache-2.0
"""Exports on speech: of tokens, statistics of training tokens; of latents, see there.

    weights as the file keeps them (float16) ─► codes of training recordings ─► fit
    file read back ─► held-out recordings ─► check.py

Rates and measures on the card are those of real bytes on speakers never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures.speech import (
    MEASURES,
    RATE,
    VALIDATION,
    mean_scores,
    rules,
)
from polycodec.codecs.signals.speech import SpeechSignal
from polycodec.registry import register
from polycodec.train.check import Panel, Yardstick, self_check
from polycodec.train.config import TrainConfig
from polycodec.train.export import Recipe
from polycodec.train.latent import LatentRecipe, Material
from polycodec.train.speech.data import SpeechCache
from polycodec.train.speech.task import speech_source, validation_levels
from polycodec.train.task import made_for
from polycodec.train.token import with_tables

ENTROPY = {"name": "tokens-adaptive"}  # unless the config names another
FITTED_SECONDS = 4 * 3600  # of training recordings whose tokens are fitted to, at most
COUNTED_SECONDS = 1200  # of training recordings whose integers are counted, at most
CALIBRATION_BATCHES = 4  # of training crops, every rate each
SIZES = ((1,), (319,), (4001,))  # in samples


class Recordings:
    """The recordings of a run, and how a codec is measured on those held out."""

    def __init__(self, config: TrainConfig, codec: Codec) -> None:
        self.rate = made_for(SpeechSignal, codec.signal).rate
        self.all = SpeechCache(config.data.train, config.data.cache, self.rate)
        self.source = speech_source(config, self.all, self.rate, codec.stride)
        chosen = self.source.kept(config.eval.utterances)
        self.held_out = [signal(self.all[i]) for i in chosen]
        levels = validation_levels(config.eval.levels, codec.levels)
        self.points = {float(n): float(n) for n in levels}
        self.yard = Yardstick(
            point="levels",
            unit="kbps",
            scale=self.rate / 1000,
            score=self._score,
            sizes=SIZES,
            quality=self._quality,
            unit_of_quality="PESQ" if self._judged() else "dB",
        )
        self.about = {
            "rate": self.rate,
            "recordings": f"{len(self.all)} in {Path(config.data.train).name}",
            "measures": rules(VALIDATION),
        }

    def training(self, seconds: int) -> list[Tensor]:
        """Recordings evenly picked, (1, 1, T) each, of ``seconds`` together at most."""
        every = self.source.train
        total = sum(self.all.lengths[i] for i in every)
        return [
            signal(self.all[i])
            for i in every[:: max(1, math.ceil(total / (seconds * self.rate)))]
        ]

    def _judged(self) -> bool:
        """Whether PESQ can be taken: it is of 16 kHz, and of a package of its own."""
        return self.rate == RATE and bool(MEASURES.chosen(("pesq_wb",)))

    def _quality(self, x: Tensor, x_hat: Tensor) -> float:
        """PESQ; elsewhere the mel distance as dB: it is one of log10 of magnitudes."""
        name, scale = ("pesq_wb", 1.0) if self._judged() else ("mel", -20.0)
        found = mean_scores([(x[0], x_hat[0])], self.rate, (name,))
        return scale * found.get(name, math.nan)

    def _score(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        return mean_scores(((x[0], x_hat[0]) for x, x_hat in pairs), self.rate)


def panel_of(config: TrainConfig, codec: Codec) -> Panel:
    """Return what a codec of speech is measured on."""
    found = Recordings(config, codec)
    return Panel(found.held_out, found.points, found.yard)


@register("recipe/speech/latent")
@register("recipe/speech/latent-speech")  # as the family is called in older configs
class LatentSpeechRecipe(LatentRecipe):
    """The latent family on speech."""

    def panel(self, codec: Codec) -> Panel:
        return panel_of(self.config, codec)

    def material(self, codec: Codec) -> Material:
        found = Recordings(self.config, codec)
        batches = range(CALIBRATION_BATCHES)
        return Material(
            crops=[found.source.batch_at(step)[0] for step in batches],
            rates=range(1, codec.levels + 1),
            training=found.training(COUNTED_SECONDS),
            held_out=found.held_out,
            points=found.points,
            yard=found.yard,
            about={"rates": codec.levels, **found.about},
        )


@register("recipe/speech/token")
class TokenRecipe(Recipe):
    """The token family on speech."""

    def panel(self, codec: Codec) -> Panel:
        return panel_of(self.config, codec)

    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        found = Recordings(self.config, codec)
        tokens = made_for(TokenCodec, codec)

        def codes_of(codec: Codec) -> list[np.ndarray]:
            signals = found.training(FITTED_SECONDS)
            codes = [codec.encode_codes(x, codec.levels)[0].numpy() for x in signals]
            seconds = sum(one.shape[1] for one in codes) * codec.stride / found.rate
            what = f"{len(codes)} recordings, {seconds:.0f} s"
            self.say(f"fitting to the tokens of {what}")
            return codes

        stored = self.stored
        stored["entropy"] = stored.get("entropy") or ENTROPY
        codec = with_tables(tokens, part, stored, codes_of, self.say)
        rows = self_check(codec, found.held_out, found.points, found.yard, self.say)
        for row in rows:  # what codes of fixed width would cost
            width = sum(map(math.log2, tokens.sizes[: int(row["levels"])]))
            row["fixed_kbps"] = found.rate / codec.stride * width / 1000
        return {
            "codes": list(tokens.sizes),
            "validation": rows,
            "certificate": [],
            **found.about,
        }


def signal(samples: np.ndarray) -> Tensor:
    """A recording (T,) int16 as (1, 1, T) float."""
    return torch.from_numpy(samples.astype(np.float32) / 32768)[None, None]
